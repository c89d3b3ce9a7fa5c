"""Brings a checkpoint into the keys of another of the same model, as the loader of transformers would; read `map_keys`.

Both layouts are known by what the loader makes of them: tensors that are renamed, stacked, joined and cut.  So a
tensor of the one is a row of pieces of the model, and each of these is a row of pieces of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergecore.types import Checkpoint, Joined, Segment, TensorInfo
from mergecore_architectures.runs import Run, Runs, dealt, joined, split, stacked, whole
from mergecore_architectures.transformers_models import CannotBuildError, Converted, MetaModel, build

Tensors = Mapping[str, TensorInfo]
Group = list[tuple[str, str]]
"""Names on disk with the patterns they match, in the order of the loader."""


def map_keys(checkpoint: Checkpoint, wanted: Checkpoint) -> Mapping[str, TensorInfo] | None:
    """The tensors of `checkpoint` as `wanted` has them; None when transformers knows nothing of the model."""
    try:
        model = build(wanted.config)
        mine, theirs = in_the_model(model, checkpoint.tensors), in_the_model(model, wanted.tensors)
    except CannotBuildError:
        return None
    found: dict[str, TensorInfo] = {}
    for name, places in _on_disk(theirs, wanted.tensors).items():
        if name not in checkpoint.tensors and (
            made := _made(name, places, mine, theirs, wanted.tensors, checkpoint)
        ):
            found[name] = made
    used = {one for tensor in found.values() for one in tensor.stored}
    kept = {
        name: one
        for name, one in checkpoint.tensors.items()
        if name in wanted.tensors or used.isdisjoint(one.stored)
    }
    return {**found, **kept}


Place = tuple[int, str, int, int]
"""From which element of a tensor on disk, which tensor of the model, from which element there, how many."""


def _on_disk(theirs: Mapping[str, Runs], tensors: Tensors) -> dict[str, list[Place]]:
    """For each tensor on disk where it is in the model, if all of it is."""
    places: dict[str, list[Place]] = {}
    for name, tensor in theirs.items():
        at = 0
        for run in tensor.runs:
            places.setdefault(run.source, []).append((run.start, name, at, run.count))
            at += run.count
    return {
        name: sorted(found)
        for name, found in places.items()
        if sum(count for *_, count in found) == tensors[name].count
    }


def _made(
    name: str,
    places: Sequence[Place],
    mine: Mapping[str, Runs],
    theirs: Mapping[str, Runs],
    wanted: Tensors,
    checkpoint: Checkpoint,
) -> TensorInfo | None:
    """The tensor `name` of the wanted layout; None when it is not there, or its parts have other sizes."""
    if any(where not in mine for _, where, _, _ in places):
        return None
    only = places[0][1]
    if len(places) == 1 and theirs[only].count == wanted[name].count:
        shape = wanted[name].shape if mine[only].shape == theirs[only].shape else mine[only].shape
        runs = list(mine[only].runs)  # as many rows as it has itself
    elif all(mine[where].shape == theirs[where].shape for _, where, _, _ in places):
        shape = wanted[name].shape
        runs = [run for _, where, at, count in places for run in mine[where].part(at, count)]
    else:
        return None
    return put_together(name, shape, runs, checkpoint.tensors)


def put_together(
    name: str, shape: tuple[int, ...], runs: Sequence[Run], tensors: Tensors
) -> TensorInfo | None:
    """A tensor of runs of others; None where these are of several formats."""
    formats = {tensors[run.source].dtype for run in runs}
    if len(formats) != 1:
        return None
    first = tensors[runs[0].source]
    if [(run.start, run.count) for run in runs] == [(0, first.count)] and shape == first.shape:
        return TensorInfo(name, first.data)
    segments, at = [], 0
    for run in runs:
        segments.append(Segment(at, tensors[run.source].data, run.start, run.count))
        at += run.count
    return TensorInfo(name, Joined(formats.pop(), shape, tuple(segments)))


# ---- into the model ----------------------------------------------------------------------------------------


def in_the_model(model: MetaModel, tensors: Tensors) -> dict[str, Runs]:
    """What the loader makes of tensors on disk; what it computes rather than moves is left out."""
    made: dict[str, Runs] = {}
    groups: dict[str, tuple[Any, Group]] = {}
    for name, place in model.renamed(tensors).items():
        if place.pattern is None:
            made[place.name] = whole(name, tensors[name].shape)
        else:
            groups.setdefault(place.name, (place.converter, []))[1].append((name, place.pattern))
    for name, (converter, group) in groups.items():
        try:
            made |= _converted(name, converter, group, model, tensors)
        except ValueError:
            continue  # its tensors are then told as missing and as unexpected
    return made


def _converted(
    name: str, converter: Any, group: Group, model: MetaModel, tensors: Tensors
) -> dict[str, Runs]:
    """The tensors of the model that a converter makes of a group.

    Raises:
        ValueError: an operation that is more than moving, or shapes that do not fit.
    """
    found: dict[str, list[Runs]] = {}
    for source, pattern in group:
        found.setdefault(pattern, []).append(whole(source, tensors[source].shape))
    for operation in converter.operations:
        found = _apply(operation, found, name, converter, model)
    targets = model.targets(Converted(name, "", converter))
    by_pattern = dict(zip(converter.target_patterns, targets, strict=True))
    return {by_pattern[pattern]: one for pattern, (one,) in found.items()}


def _apply(
    operation: Any, found: dict[str, list[Runs]], name: str, converter: Any, model: MetaModel
) -> dict[str, list[Runs]]:
    targets = list(converter.target_patterns)
    kind, axis = type(operation).__name__, getattr(operation, "dim", None)
    if kind == "MergeModulelist" and axis == 0:
        single = len(found) == 1 and len(targets) == 1
        return {(targets[0] if single else key): [stacked(list(found[key]))] for key in list(found)}
    if kind == "Concatenate" and isinstance(axis, int) and len(targets) == 1:
        everything = [one for pattern in converter.source_patterns for one in found.get(pattern, ())]
        return {targets[0]: [joined(everything, axis)]}
    if kind in ("Chunk", "Split") and isinstance(axis, int) and len(found) == 1:
        (tensor,) = next(iter(found.values()))
        sizes = _sizes(kind, tensor, axis, name, converter, model)
        return {key: [one] for key, one in zip(targets, split(tensor, sizes, axis), strict=True)}
    if kind == "Interleave" and isinstance(axis, int) and len(found) == 1:
        (tensor,) = next(iter(found.values()))
        hands = tensor.shape[axis] // 2 if operation.inverse else 2
        return {targets[0]: [dealt(tensor, axis, hands)]}
    raise ValueError(f"{kind} is more than moving numbers")


def _sizes(kind: str, tensor: Runs, axis: int, name: str, converter: Any, model: MetaModel) -> list[int]:
    """The sizes of the parts that a tensor is cut into."""
    targets = model.targets(Converted(name, "", converter))
    if kind == "Split":
        return [model.shapes[target][axis] for target in targets]
    if getattr(converter.operations[0], "num_shards_attribute", None):
        raise ValueError("the number of parts stands in the config")
    return [tensor.shape[axis] // len(targets)] * len(targets)
