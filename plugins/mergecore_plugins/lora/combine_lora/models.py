"""Adapters as models of nothing but changes, which a merge config can merge; read `as_models`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mergecore.errors import Collector, InputError
from mergecore.types import Checkpoint, ModelReference, TensorInfo
from mergecore_plugins.lora.combine_lora.aligning import Aligned
from mergecore_plugins.lora.combine_lora.reading import Adapter
from mergecore_plugins.lora.config import NAME
from mergecore_plugins.lora.lookup import Lookup
from mergecore_plugins.lora.making.tensors import Zeros


@dataclass(frozen=True)
class Base:
    """What the changes are added to: no numbers are needed of it, but those of tensors that were trained whole."""

    name: str
    opened: Checkpoint | None = None


def as_models(found: Aligned, base: Base) -> dict[str, Checkpoint]:
    """The adapters and their base, by name.

    Raises:
        InputError: E252 for a tensor that was trained whole and is not in the base.
    """
    before = _before(found, base)
    made = {one.name: _model(one, found, base, before) for one in found.adapters}
    return {base.name: _base(found, base, before), **made}


def _before(found: Aligned, base: Base) -> dict[str, TensorInfo]:
    """What the base has for tensors that were trained whole; nothing where it is not opened."""
    if base.opened is None:
        return {}
    lookup = Lookup(base.opened.tensors, base.opened.config)
    before: dict[str, TensorInfo] = {}
    problems = Collector()
    for name, tensor in found.wholes.items():
        stored = lookup.find(name)
        there = base.opened.tensors[stored] if stored else None
        if there is None or there.shape != tensor.shape:
            has = f"{list(there.shape)}" if there else "none"
            what = f"'{name}' {list(tensor.shape)} was trained whole, and the base '{base.name}' has {has}"
            hint = "merge with 'linear' where all adapters have it; it needs no base"
            problems.add(InputError("E252", what, tensor=name, hint=hint))
        else:
            before[name] = replace(there, name=name)
    problems.raise_any()
    return before


def _model(one: Adapter, found: Aligned, base: Base, before: Mapping[str, TensorInfo]) -> Checkpoint:
    tensors = dict(_nothing(found))
    tensors |= {name: factors.tensor(name) for name, factors in one.changes.items()}
    tensors |= {f"{name}.bias": tensor for name, tensor in one.biases.items()}
    absent = [name for name in found.wholes if name not in one.wholes]
    tensors |= {name: before[name] for name in absent}
    tensors |= one.wholes
    changed = _without_files(one.opened, tensors, one.name)
    if absent and base.opened:
        files = (*one.opened.weight_files, *base.opened.weight_files)
        return replace(changed, weight_files=files, parts=(base.opened,), fetch=None)
    return changed


def _base(found: Aligned, base: Base, before: Mapping[str, TensorInfo]) -> Checkpoint:
    """The base, whose changes are none."""
    opened = base.opened or replace(found.adapters[0].opened, weight_files=(), fetch=None)
    return _without_files(opened, {**_nothing(found), **before}, base.name)


def _nothing(found: Aligned) -> dict[str, TensorInfo]:
    """No change of any weight."""
    made = {name: (one.a.dtype, one.shape) for name, one in found.changes.items()}
    made |= {f"{name}.bias": (one.dtype, one.shape) for name, one in found.biases.items()}
    return {name: TensorInfo(name, Zeros(*kind)) for name, kind in made.items()}


def _without_files(opened: Checkpoint, tensors: Mapping[str, TensorInfo], name: str) -> Checkpoint:
    """A model of these tensors, without what could be taken for the files of a whole model."""
    kept = {file: path for file, path in opened.side_files.items() if file == NAME}
    return replace(
        opened,
        reference=ModelReference(name),
        tensors=dict(tensors),
        config={},
        side_files=kept,
        small={file: opened.small[file] for file in kept},
        notes=(),
    )
