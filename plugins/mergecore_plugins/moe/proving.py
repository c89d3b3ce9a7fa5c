"""Whether the class of a family computes what that of the dense model does: asked at a tiny size; read `Proof`.

Both models are built as the real ones are, but for their sizes, with random numbers as weights, and all experts are
the feed-forward blocks of the dense model.  Then both have to give the same logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergecore.types import (
    Checkpoint,
    ExpertNames,
    InMemory,
    Json,
    Mixture,
    ModelReference,
    MoeFamily,
    Origin,
    OutputTensor,
    Planner,
    Reader,
    Step,
    Stored,
    TensorInfo,
    TensorInput,
)
from mergecore_architectures import silenced
from mergecore_plugins.moe.config_json import mixture_config
from mergecore_plugins.moe.dense import PARTS, Dense, dense_of
from mergecore_plugins.moe.parts import Random
from mergecore_plugins.moe.shrinking import tiny
from mergecore_plugins.moe.steps import Building, Source

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

EXPERTS, PER_TOKEN, TOKENS = 3, 2, 12
CLOSE = 1e-4
"""How far logits may be apart, as a share of the largest."""


@dataclass
class Proof:
    """What is found about families."""

    planner: Planner
    base: Dense
    families: Sequence[MoeFamily]
    shared: int
    doubts: list[str] = field(default_factory=list)
    """Why the class of a family that was taken could not be asked."""
    _made: tuple[PreTrainedModel, Dense] | None = None

    def differs(self, family: MoeFamily) -> str | None:
        """What the class of a family does otherwise; None where it computes the same, or cannot be asked."""
        named = [one for one in self.families if one.name == family.proved_by]
        asked = named[0] if named else family
        word = self.unchecked(family)
        try:
            with silenced():
                return self._differs(asked, family.architecture)
        except _CannotAskError as error:
            self.doubts[:] = [f"{word}: {error}"]
        except Exception as error:  # noqa: BLE001 - whatever the library trips over, it says nothing of the mixture
            self.doubts[:] = [f"{word}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"]
        return None

    def unchecked(self, family: MoeFamily) -> str:
        """What nobody knows of a family whose class was not asked."""
        return f"whether {family.architecture} computes the same as {self._class} was not checked"

    @property
    def _class(self) -> str:
        named = self.base.config.get("architectures")
        return str(named[0]) if isinstance(named, list) and named else self.base.family

    def _differs(self, family: MoeFamily, name: str) -> str | None:
        import torch

        from mergecore.compute import one_thread_each

        dense, tensors = self._made = self._made or self._dense()
        mixture = Mixture(tensors.config, tensors.layer, EXPERTS, PER_TOKEN, self._shared_of(family))
        config = dict(mixture_config(family, mixture)(dict(tensors.model.config)))
        model = _built(config)
        for names in (family.names, family.fused or family.names):
            made = _tensors(_building(tensors, family, names, mixture))
            lacking, foreign = model.load_state_dict(made, strict=False)
            lacking = [one for one in lacking if one != "lm_head.weight" or not config["tie_word_embeddings"]]
            if not lacking and not foreign:
                break
        else:
            odd = (lacking or foreign)[0]
            return f"its class {'has no' if foreign and not lacking else 'needs a'} tensor '{odd}'"
        model.tie_weights()
        ids = torch.arange(TOKENS)[None] * 7 % 31
        with torch.no_grad(), one_thread_each():  # such small products only wait for other threads
            found, wanted = (one.eval()(ids).logits for one in (model, dense))
        distance = float((found - wanted).abs().max() / wanted.abs().max())
        if distance < CLOSE:
            return None
        return f"its class {name} computes something else of the same tensors than {self._class} does"

    def _shared_of(self, family: MoeFamily) -> int:
        least, most = family.shared_experts
        return max(least, self.shared if most is None else min(self.shared, most))

    def _dense(self) -> tuple[PreTrainedModel, Dense]:
        """A tiny model of the class of the base, and what it consists of."""
        if not self.base.known:
            raise _CannotAskError(f"nothing that is installed knows models of the type {self.base.family}")
        config = tiny(self.base.config)
        model = _built(config, str(self._class))
        state = model.state_dict()
        if config.get("tie_word_embeddings"):
            state.pop("lm_head.weight", None)
        tensors = {name: TensorInfo(name, InMemory(name, one)) for name, one in state.items()}
        checkpoint = Checkpoint(ModelReference("tiny"), Path(), tensors, (), config)
        return model, replace(dense_of(checkpoint, self.planner), config=config)


class _CannotAskError(Exception):
    """There is no class to ask."""


def _built(config: Mapping[str, Json], name: str | None = None) -> PreTrainedModel:
    """A model of a config, with random weights."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    family = str(config["model_type"])
    named = config["architectures"]
    name = name or (str(named[0]) if isinstance(named, list) else "")
    cls: Any = getattr(transformers, name, None)
    if family not in CONFIG_MAPPING or cls is None:
        raise _CannotAskError(f"transformers {transformers.__version__} has no class {name}")
    settings = CONFIG_MAPPING[family].from_dict(dict(config))
    model: PreTrainedModel = cls._from_config(settings, attn_implementation="eager", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in model.parameters():
            drawn = torch.randn(one.shape, generator=generator)
            one.copy_(0.3 * drawn if one.dim() > 1 else 0.5 + 0.2 * drawn)
    return model


def _building(dense: Dense, family: MoeFamily, names: ExpertNames, mixture: Mixture) -> Building:
    experts = [Source(dense, 0)] * mixture.experts
    shared = [Source(dense, 0, factor=0.0)] * mixture.shared_experts
    return Building(dense, family, names, experts, shared, None, 0)


def _tensors(building: Building) -> dict[str, Tensor]:
    """All tensors of a mixture, computed here."""
    import torch

    routers = {}
    for layer, tensors in enumerate(building.base.layers):
        columns = tensors[PARTS["gate"]].shape[1]
        for name, rows in building.matrices:
            whole = building.name(layer, name)
            data = Random("F32", (rows, columns), "random", whole, 0)
            made = OutputTensor(whole, "F32", data.shape)
            routers[whole] = Step((made,), (TensorInput(0, TensorInfo(whole, data)),))
    found = {}
    for step in building.steps(routers):
        numbers = torch.empty(step.outputs[0].count)
        step.inputs[0].tensor.data.load(_Reader(), 0, len(numbers), numbers)
        found[step.name] = numbers.view(step.outputs[0].shape)
    return found


class _Reader:
    """Reads tensors that are in memory."""

    @property
    def unchecked(self) -> Reader:
        return self

    def read(self, tensor: Stored, start: int, into: Tensor) -> None:
        raise AssertionError(f"'{tensor.name}' is not in memory, as all tensors of a tiny model are")

    def take(self, tensor: Origin, start: int, numbers: Tensor, into: Tensor) -> None:
        into.copy_(numbers)

    def suspects(self, numbers: Tensor) -> bool:
        return False

    @contextmanager
    def room(self, shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[Tensor]:
        import torch

        yield torch.empty(shape, dtype=dtype)
