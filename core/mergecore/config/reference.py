"""Model references as configs write them: text such as `PATH@REVISION+ADAPTER`, or a mapping.

Read `parse_reference`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from mergecore.errors import ConfigError, did_you_mean
from mergecore.types import AdapterReference, Json, ModelReference

Exists: TypeAlias = Callable[[str], bool]
"""Whether a text names something in the file system."""

HUB = "hf:"
"""Says that the rest is a hub id, whatever is in the file system; it stays part of `ModelReference.path`."""


def exists_below(folder: Path) -> Exists:
    """Says what exists, relative paths starting at `folder`."""

    def exists(text: str) -> bool:
        try:
            return (folder / text).exists()
        except (OSError, ValueError):  # too long, or holds a NUL: nothing is called so
            return False

    return exists


def real_path(text: str) -> str:
    """Where a path leads, by which two of them can be compared; the text itself where no file can be called so."""
    try:
        return os.path.realpath(text)
    except (OSError, ValueError):  # too long, or holds a NUL
        return text


def nearest(text: str) -> str:
    """` did you mean 'x'?` when a folder of nearly that name lies where a relative or absolute path leads.

    Text that ends as a file does is compared with files of the same ending, too.
    """
    path = Path(text.replace("\\", "/"))
    try:
        inside = [
            str(path.parent / one.name)
            for one in path.parent.iterdir()
            if one.is_dir() or one.suffix == path.suffix
        ]
    except (OSError, ValueError):
        return ""
    start = "./" if text.startswith("./") else ""
    wanted = str(path)
    return did_you_mean(start + wanted, [start + name for name in sorted(inside)]) or did_you_mean(
        start + wanted.lower(), [start + name for name in sorted(inside)]
    )


def parse_reference(value: Json, exists: Exists) -> ModelReference:
    """The model that `value` names: `PATH[@REVISION][+ADAPTER[@REVISION]]…`, or one of these mappings::

        {path: PATH, revision: REVISION}                     # taken verbatim; also as `model` below
        {model: PATH[@REVISION], adapter: PATH[@REVISION]}   # mergekit writes `lora`
        {model: …, adapters: [PATH, {path: PATH, revision: REVISION, scale: 0.5}]}
        {adapter: PATH}                                      # on the base that the adapter names

    and `override_architecture: NAME` beside `model`.  Text that exists as a path is taken whole, even with '+' or
    '@' in it.

    Raises:
        ConfigError: E112; without a place.
    """
    if isinstance(value, str):
        return _from_text(value, exists)
    if isinstance(value, Mapping) and "path" in value:
        return ModelReference(*_verbatim(value))
    if isinstance(value, Mapping):
        return _from_mapping(value, exists)
    raise ConfigError(
        "E112", f"{value!r} does not name a model", hint="write a path or a hub id; numbers need quotes"
    )


def _from_text(text: str, exists: Exists) -> ModelReference:
    if exists(text):
        return ModelReference(text)
    base, *adapters = text.split("+")
    return ModelReference(
        *_part(base, text, exists), tuple(AdapterReference(*_part(one, text, exists)) for one in adapters)
    )


_Named: TypeAlias = tuple[str, str | None]
"""A path and a revision."""


def _part(part: str, text: str, exists: Exists) -> _Named:
    if exists(part):
        return part, None
    _check_blanks(part, text)
    path, at, revision = part.partition("@")
    if "@" in revision:
        raise _bad(text, "has more than one '@'")
    if not path.removeprefix(HUB).strip() or (at and not revision.strip()):
        raise _bad(text, "has an empty part" if text.strip() else "does not name a model")
    return path, revision or None


def _check_blanks(part: str, text: str) -> None:
    """Raise E112 for blanks around a path or a revision, which belong to no name."""
    if any(one != one.strip() for one in part.split("@")) and part.strip():
        fixed = "+".join("@".join(word.strip() for word in one.split("@")) for one in text.split("+"))
        raise ConfigError(
            "E112", f"the model reference '{text}' has blanks around a name", hint=f"write '{fixed}'"
        )


def _bad(text: str, fault: str) -> ConfigError:
    hint = "the form is PATH[@REVISION][+ADAPTER[@REVISION]]; a path with '@' or '+' can be written {path: …}"
    return ConfigError("E112", f"the model reference '{text}' {fault}", hint=hint)


_ADAPTER_KEYS = ("adapter", "lora", "adapters")


def _from_mapping(value: Mapping[str, Json], exists: Exists) -> ModelReference:
    _check_keys(value, ("model", *_ADAPTER_KEYS, "override_architecture"))
    adapters = _adapters(value, exists)
    if value.get("model") is None and not adapters:
        raise ConfigError("E112", "a model reference needs 'model', 'path' or 'adapter'", hint=_FORM)
    architecture = value.get("override_architecture")
    if not isinstance(architecture, (str, type(None))):
        raise ConfigError("E112", f"'override_architecture' is {architecture!r}; text is expected")
    named = _member(value["model"], exists) if value.get("model") is not None else ("", None)
    return ModelReference(*named, adapters, architecture)


def _adapters(value: Mapping[str, Json], exists: Exists) -> tuple[AdapterReference, ...]:
    given = [key for key in _ADAPTER_KEYS if value.get(key) is not None]
    if len(given) > 1:
        what = f"a model reference has '{given[0]}' and '{given[1]}'"
        raise ConfigError("E112", what, hint="write all of them as a list under 'adapters'")
    if not given:
        return ()
    found = value[given[0]]
    if given[0] != "adapters":
        return (_adapter(found, exists),)
    if not isinstance(found, list) or not found:
        raise ConfigError("E112", f"'adapters' is {found!r}; a list is expected", hint=_FORM)
    return tuple(_adapter(one, exists) for one in found)


def _adapter(value: Json, exists: Exists) -> AdapterReference:
    if not isinstance(value, Mapping):
        return AdapterReference(*_member(value, exists))
    scale = value.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
        raise ConfigError("E112", f"'scale' is {scale!r}; a number is expected", hint="write for example 0.5")
    return AdapterReference(*_verbatim(value, ("path", "revision", "scale")), float(scale))


def _member(value: Json, exists: Exists) -> _Named:
    if isinstance(value, str):
        return _part(value, value, exists)
    if isinstance(value, Mapping):
        return _verbatim(value)
    raise ConfigError("E112", f"{value!r} does not name a model", hint=_FORM)


def _verbatim(value: Mapping[str, Json], known: tuple[str, ...] = ("path", "revision")) -> _Named:
    _check_keys(value, known)
    path, revision = value.get("path"), value.get("revision")
    if not isinstance(path, str) or not path:
        raise ConfigError("E112", f"'path' is {path!r}; text is expected", hint=_FORM)
    if not isinstance(revision, (str, type(None))):
        raise ConfigError("E112", f"'revision' is {revision!r}; text is expected", hint="write it in quotes")
    return path, revision


_FORM = "write {model: …, adapter: …} or {path: …, revision: …}"


def _check_keys(value: Mapping[str, Json], known: tuple[str, ...]) -> None:
    for key in value:
        if key not in known:
            near = did_you_mean(key, known)
            raise ConfigError("E112", f"unknown key '{key}' in a model reference{near}", hint=_FORM)
