"""Checks of families of mixtures; read `check_moe_family`, then `MOE_FAMILY`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import torch
from safetensors.torch import load_file

from mergecore.errors import ConfigError, InputError, PolicyError
from mergecore.files.strict_json import parse_mapping
from mergecore.output.verify import verify_folder
from mergecore.pipeline.folders import merge
from mergecore.pipeline.plans import plan
from mergecore.plugins.registry import Registry
from mergecore.plugins.values import unplaced_parts
from mergecore.testing.dense_models import DENSE, dense_model
from mergecore.testing.findings import NotCheckedError, Property, demand, hold
from mergecore.testing.registries import registry_with
from mergecore.types import ExpertNames, ExpertPart, MoeFamily

EXPERTS = 2


def check_moe_family(
    family: MoeFamily,
    *,
    model: Path | str | None = None,
    registry: Registry | None = None,
    without: Collection[str] = (),
) -> None:
    """Check a family of mixtures: its names and its config, and that a mixture of models is made and complete.

    model: one that the family can express; None for tiny models with the layers of a Llama, a Qwen3, an OLMo 2, an
        ERNIE 4.5 and a Hunyuan, of which it must express one.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    with family_case(family, model, registry) as case:
        hold(f"MoE family '{family.name}'", MOE_FAMILY, case, without)


@dataclass
class FamilyCase:
    """A family of mixtures, and perhaps the model to make one of."""

    family: MoeFamily
    model: Path | None
    given: Registry | None
    """The plugins to use; None for those that are installed, and the family."""
    folder: Path
    made: dict[str, Path] = field(default_factory=dict)
    """The mixtures, by layout."""

    @cached_property
    def registry(self) -> Registry:
        """The plugins that know the family."""
        return self.given or registry_with(MoeFamily, self.family)

    @cached_property
    def models(self) -> Sequence[Path]:
        """The base, an expert each, and a shared expert: models that the family expresses."""
        if self.model:
            self._plan([self.model] * (EXPERTS + 2))
            return [self.model] * (EXPERTS + 2)
        refusals = []
        for kind in DENSE:
            models = [dense_model(self.folder / f"{kind}-{n}", kind, n) for n in range(EXPERTS + 2)]
            try:
                self._plan(models)
            except (ConfigError, InputError, PolicyError) as error:
                refusals.append(f"of type {kind}: {error.what}")
            else:
                return models
        raise AssertionError(
            f"it expresses none of the tiny models; give it a model that it expresses. It refuses that {refusals[0]}"
        )

    def _plan(self, models: Sequence[Path]) -> None:
        plan(self.document(models), registry=self.registry)

    def document(self, models: Sequence[Path], layout: str = "hub") -> dict[str, Any]:
        """What asks for the mixture."""
        base, *experts, shared = map(str, models)
        said: dict[str, Any] = {
            "base_model": base,
            "gate_mode": "random",
            "architecture": self.family.name,
            "experts_per_token": 2,
            "experts": [{"source_model": one} for one in experts],
            "allow_identical": True,
            "layout": layout,
        }
        return said | (
            {"shared_experts": [{"source_model": shared}]} if self.family.shared_experts[0] else {}
        )

    def mixture(self, layout: str) -> Path:
        """The mixture, made once."""
        if layout not in self.made:
            out = Path(mkdtemp(dir=self.folder)) / "out"
            self.made[layout] = merge(self.document(self.models, layout), out, registry=self.registry)
        return self.made[layout]

    @property
    def layouts(self) -> dict[str, ExpertNames]:
        """How the experts are called, by layout."""
        fused = self.family.fused
        return {"hub": self.family.names} | ({"fused": fused} if fused else {})


@contextmanager
def family_case(
    family: MoeFamily, model: Path | str | None = None, registry: Registry | None = None
) -> Iterator[FamilyCase]:
    """A case for `MOE_FAMILY`."""
    with TemporaryDirectory() as folder:
        given = Path(model) if model else None
        yield FamilyCase(family, given, registry, Path(folder))


def _is_named(case: FamilyCase) -> None:
    demand(case.family.title, "`title` is empty; it is what messages call the family")
    demand(
        case.family.architecture, "`architecture` is empty; it is what config.json says under `architectures`"
    )


def _experts_are_named(case: FamilyCase) -> None:
    for layout, names in case.layouts.items():
        word = "names" if layout == "hub" else "fused"
        demand(names.router, f"`{word}.router` is empty; it is the name of the router in a layer")
    for fault in unplaced_parts(case.family):
        raise AssertionError(fault)


def _mixture_is_made(case: FamilyCase) -> None:
    for layout in case.layouts:
        out = case.mixture(layout)
        verify_folder(out, case.registry)
        config = parse_mapping((out / "config.json").read_bytes(), code="E220")
        demand(
            config.get("architectures") == [case.family.architecture],
            f"config.json says the architectures {config.get('architectures')}, not ['{case.family.architecture}']",
        )


def _experts_are_whole(case: FamilyCase) -> None:
    base, *experts, shared = [_tensors(one) for one in case.models]
    layers = sorted({int(found[1]) for name in base if (found := _PART.search(name))})
    if not layers:
        raise NotCheckedError(
            "the model has no feed-forward blocks under the names that most models give them"
        )
    for layout, names in case.layouts.items():
        made = _tensors(case.mixture(layout))
        for layer in layers:
            for expert, model in enumerate(experts):
                dense = _of_layer(model, layer)
                held = _parts(made, f"model.layers.{layer}.", names.experts, dense, expert)
                _are_all_there(held, dense, f"expert {expert} in layer {layer}")
            if case.family.shared_experts[0]:
                dense = _of_layer(shared, layer)
                held = _parts(made, f"model.layers.{layer}.", names.shared, dense, None)
                _are_all_there(held, dense, f"the shared expert in layer {layer}")


_PART = re.compile(r"layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight$")


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: one for file in sorted(folder.glob("*.safetensors")) for name, one in load_file(file).items()
    }


def _of_layer(tensors: dict[str, torch.Tensor], layer: int) -> dict[str, torch.Tensor]:
    """The matrices of the feed-forward block of a dense model, by their parts."""
    found = [(_PART.search(name), one) for name, one in tensors.items()]
    return {name[2]: one for name, one in found if name and int(name[1]) == layer}


def _parts(
    made: dict[str, torch.Tensor],
    place: str,
    names: Mapping[str, Sequence[ExpertPart]],
    dense: dict[str, torch.Tensor],
    expert: int | None,
) -> dict[str, torch.Tensor]:
    """The matrices of an expert as they lie in a mixture, by their parts."""
    found: dict[str, torch.Tensor] = {}
    for pattern, parts in names.items():
        whole = made.get(place + pattern.format(expert=expert))
        if whole is None:
            continue
        rows = whole if "{expert}" in pattern or expert is None else whole[expert]
        cut = torch.split(rows, [len(dense[part]) for part in parts])
        found |= dict(zip(parts, cut, strict=True))
    return found


def _are_all_there(found: dict[str, torch.Tensor], dense: dict[str, torch.Tensor], whose: str) -> None:
    for part, matrix in dense.items():
        demand(part in found, f"the part '{part}' of {whose} is nowhere in the mixture; name it in `names`")
        demand(
            torch.equal(found[part], matrix), f"the part '{part}' of {whose} has other numbers than its model"
        )


MOE_FAMILY: Sequence[Property[FamilyCase]] = (
    Property("named", "it has a title and an architecture", _is_named),
    Property("experts", "routers and every part of experts have names", _experts_are_named),
    Property("mixture", "a mixture of models is made", _mixture_is_made),
    Property("whole", "experts hold every matrix of their models", _experts_are_whole),
)
"""What every family keeps."""
