"""A checkpoint as transformers holds it: names of modules and parameters, and what each module is; read `loaded`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mergecore.types import Checkpoint, Loaded, LoadedModule, ModuleKind
from mergecore_architectures.transformers_keys import in_the_model, put_together
from mergecore_architectures.transformers_models import CannotBuildError, MetaModel, build

if TYPE_CHECKING:
    from torch import nn


def loaded(checkpoint: Checkpoint, like: Checkpoint) -> Loaded | None:
    """What transformers makes of a checkpoint by the class that the config of `like` names; None where it has none."""
    try:
        model = build(like.config)
        runs = in_the_model(model, checkpoint.tensors)
    except CannotBuildError:
        return None
    if len(runs) < len(model.shapes) / 2:
        return None
    tensors = {}
    for name, one in runs.items():
        if made := put_together(name, one.shape, one.runs, checkpoint.tensors):
            tensors[name] = made
    ties = {name: other for name, other in _ties(model) if name not in tensors and other in tensors}
    return Loaded({one.name: one for one in _modules(model.model)}, tensors, ties)


def _ties(model: MetaModel) -> Iterator[tuple[str, str]]:
    for name, other in model.ties.items():
        yield name, other
        yield other, name


def _modules(model: nn.Module) -> Iterator[LoadedModule]:
    own = {
        name: tuple(one for one, _ in module.named_parameters(recurse=False))
        for name, module in model.named_modules()
    }
    for name, module in model.named_modules():
        if own[name]:
            inside = tuple(one for one in own if own[one] and one != name and _is_inside(one, name))
            first = bool(getattr(module, "is_transposed", False))
            yield LoadedModule(name, _kind(module), own[name], inside, first)


def _is_inside(name: str, outer: str) -> bool:
    return not outer or name.startswith(f"{outer}.")


def _kind(module: nn.Module) -> ModuleKind:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds: dict[type[nn.Module], ModuleKind] = {
        nn.Embedding: "embedding",
        Conv1D: "transposed",
        nn.Linear: "linear",
        nn.Conv1d: "convolution",
        nn.Conv2d: "convolution",
        nn.Conv3d: "convolution",
    }
    for kind, name in kinds.items():
        if isinstance(module, kind):
            if not _is_plain(module, kind):
                return "other"
            return "grouped" if getattr(module, "groups", 1) > 1 else name
    if any(one.ndim == 3 and one.shape[0] > 1 for one in module.parameters(recurse=False)):
        return "experts"
    return "other"


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module computes what every one of its kind does, but for the scale of embeddings."""
    if type(module).forward is kind.forward or type(module).__name__ in _AS_THE_KIND:
        return True
    return kind.__name__ == "Embedding" and hasattr(module, "embed_scale")


_AS_THE_KIND = ("FalconLinear",)
"""Classes with a `forward` of their own that gives the same."""
