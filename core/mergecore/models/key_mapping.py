"""Several names and layouts of one model on disk: each is read with the keys of the base; read `with_keys_of_base`.

The same weights are saved under other names, experts in one tensor or each in its own, by other releases of one
library.  Only names that are missing on the one side and too many on the other make us look for such a mapping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mergecore.errors import ConfigError, Place
from mergecore.models.opener import Opener
from mergecore.types import Architecture, Checkpoint, Joined, TensorInfo


def with_keys_of_base(checkpoints: Sequence[Checkpoint], opener: Opener) -> tuple[Checkpoint, ...]:
    """The checkpoints with the tensors of all but the first under the names and in the parts of the first."""
    if not checkpoints:
        return ()
    base, *others = checkpoints
    return (base, *(_with_keys_of(base, one, opener) for one in others))


def under_prefix(checkpoint: Checkpoint, old: str, new: str, place: Place | None) -> Checkpoint:
    """The checkpoint with `new` in place of `old` before the names of its tensors; others keep theirs.

    Both are whole words of names, so the dot at their end may be left out.

    Raises:
        ConfigError: E105 when no name begins so, or a new name is there already.
    """
    old, new = (words and words.rstrip(".") + "." for words in (old, new))
    moved = {new + name.removeprefix(old): name for name in checkpoint.tensors if name.startswith(old)}
    kept = {name: one for name, one in checkpoint.tensors.items() if not name.startswith(old)}
    check_prefix(checkpoint, old, place)
    if both := moved.keys() & kept.keys():
        name = min(both)
        what = f"{checkpoint.name} has a tensor '{name}' already; '{moved[name]}' cannot be renamed to that"
        raise ConfigError("E105", what, place=place)
    tensors = {name: replace(checkpoint.tensors[own], name=name) for name, own in moved.items()}
    told = f"'{old}' read as '{new}': {len(moved)} renamed"
    return replace(checkpoint, tensors={**tensors, **kept}, mapped=told)


def check_prefix(checkpoint: Checkpoint, words: str, place: Place | None) -> None:
    """Raise E105 when no tensor of a model has a name that begins with these whole words."""
    start = words and words.rstrip(".") + "."
    if not any(name.startswith(start) for name in checkpoint.tensors):
        there = dict.fromkeys(name.split(".")[0] + "." for name in checkpoint.tensors)
        what = f"no tensor of {checkpoint.name} begins with '{start}'; they begin with {', '.join(list(there)[:6])}"
        raise ConfigError("E105", what, place=place)


def _with_keys_of(base: Checkpoint, checkpoint: Checkpoint, opener: Opener) -> Checkpoint:
    """`checkpoint` as the describer knows it that brings most of it under the names of `base`; cheap ones first."""
    best, by = checkpoint.tensors, ""
    for architecture in opener.key_mappers():
        if not _differ(base.tensors, best):
            break
        with opener.registry.calling(Architecture, architecture.name):
            assert architecture.map_keys is not None
            found = architecture.map_keys(checkpoint, base)
        if found is not None and _shared(base.tensors, found) > _shared(base.tensors, best):
            best, by = found, architecture.name
    return replace(checkpoint, tensors=best, mapped=_told(checkpoint.tensors, best, by)) if by else checkpoint


def _differ(base: Mapping[str, TensorInfo], tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether there are names that only the one has, and names that only the other has."""
    return bool(base.keys() - tensors.keys()) and bool(tensors.keys() - base.keys())


def _shared(base: Mapping[str, TensorInfo], tensors: Mapping[str, TensorInfo]) -> int:
    return len(base.keys() & tensors.keys())


def _told(before: Mapping[str, TensorInfo], after: Mapping[str, TensorInfo], by: str) -> str:
    """How many tensors were renamed, and how many put together of others, or cut out."""
    changed = [one for name, one in after.items() if name not in before]
    renamed = sum(not isinstance(one.data, Joined) for one in changed)
    rest = len(changed) - renamed
    parts = [f"{renamed} renamed"] if renamed else []
    parts += [f"{rest} joined or cut"] if rest else []
    return f"read with the keys of the base ({by}: {', '.join(parts)})"
