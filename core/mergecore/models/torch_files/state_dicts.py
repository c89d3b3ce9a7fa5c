"""The tensors of a model in what a training script has saved: often they lie below a key such as `state_dict`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from mergecore.errors import InputError, some
from mergecore.models.torch_files.pickled import View

Views: TypeAlias = "dict[str, View]"


def state_dict(saved: Mapping[Any, Any], place: str, notes: list[str]) -> Views:
    """The tensors that are the model; numbers and text beside them, such as the epoch, are no part of it.

    notes: takes what to say of tensors that are not.

    Raises:
        InputError: E201 when there are no tensors, E208 for a name that is not text, E214 when several mappings of
            tensors may be the model.
    """
    own = _views(saved)
    inner = {
        str(key): views for key, one in saved.items() if isinstance(one, dict) and (views := _views(one))
    }
    usual = {name: inner[name] for name in _USUAL if name in inner}
    found = usual or ({"": own} if own else inner)
    key = next(iter(found), "")
    if not found:
        raise InputError("E201", "contains no tensors", place=place)
    if len(found) > 1 and key not in _USUAL:
        what = f"ambiguous: there are tensors below {some(list(found), 3, joint=' and ')}"
        hint = "save those of the model in a file of their own, as safetensors"
        raise InputError("E214", what, place=place, hint=hint)
    chosen = next(one for name, one in saved.items() if str(name) == key) if key else saved
    if unnamed := [
        name for name, one in chosen.items() if isinstance(one, View) and not isinstance(name, str)
    ]:
        what = f"a tensor has the name {unnamed[0]!r}, which is not text"
        raise InputError("E208", what, place=place, hint="save the tensors under names of text")
    others = [str(name) for name, one in saved.items() if key and str(name) != key and _nested(one)]
    others += [f"{key}.{name}".lstrip(".") for name, one in chosen.items() if _nested(one)]
    left = [some(list(own), 3)] if key and own else []
    left += [f"those below {some(others, 3)}"] if others else []
    if left:
        which = f"below '{key}'" if key else "that have a name of their own"
        notes.append(f"{place}: the tensors {which} are the model; {' and '.join(left)} are left out")
    return found[key]


_USUAL = ("state_dict", "model_state_dict", "model", "module")
"""The keys of frameworks for the weights themselves; beside them may lie averages, or what optimizers keep."""


def _views(mapping: Mapping[Any, Any]) -> Views:
    return {key: one for key, one in mapping.items() if isinstance(key, str) and isinstance(one, View)}


def _nested(value: object) -> bool:
    """Whether there are tensors anywhere in a mapping or a list."""
    todo, seen = [value], set()
    while todo:
        one = todo.pop()
        if id(one) in seen or not isinstance(one, dict | list | tuple):
            continue
        seen.add(id(one))
        inside = list(one.values()) if isinstance(one, dict) else list(one)
        if any(isinstance(item, View) for item in inside):
            return True
        todo += inside
    return False
