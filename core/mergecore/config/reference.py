"""Model references as configs write them: text such as `PATH@REVISION+ADAPTER`, or a mapping.

Read `parse_reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from mergecore.errors import ConfigError, did_you_mean
from mergecore.types import Json, ModelReference

Exists: TypeAlias = Callable[[str], bool]
"""Whether a text names something in the file system."""

HUB = "hf:"
"""Says that the rest is a hub id, whatever is in the file system; it stays part of `ModelReference.path`."""


def exists_below(folder: Path) -> Exists:
    """Tells what exists, relative paths starting at `folder`."""

    def exists(text: str) -> bool:
        try:
            return (folder / text).exists()
        except (OSError, ValueError):  # too long, or holds a NUL: nothing is called so
            return False

    return exists


def nearest(text: str) -> str:
    """` did you mean 'x'?` when a folder of nearly that name lies where a relative or absolute path leads."""
    path = Path(text.replace("\\", "/"))
    try:
        inside = [str(path.parent / one.name) for one in path.parent.iterdir() if one.is_dir()]
    except (OSError, ValueError):
        return ""
    start = "./" if text.startswith("./") else ""
    wanted = str(path)
    return did_you_mean(start + wanted, [start + name for name in sorted(inside)]) or did_you_mean(
        start + wanted.lower(), [start + name for name in sorted(inside)]
    )


def parse_reference(value: Json, exists: Exists) -> ModelReference:
    """The model that `value` names: `PATH[@REVISION][+ADAPTER[@REVISION]]`, or one of these mappings::

        {model: PATH[@REVISION], lora: PATH[@REVISION], override_architecture: NAME}
        {path: PATH, revision: REVISION}          # taken verbatim; also as `model` and `lora` above

    Text that exists as a path is taken whole, even with '+' or '@' in it.

    Raises:
        ConfigError: E112; without a place.
    """
    if isinstance(value, str):
        return _from_text(value, exists)
    if isinstance(value, Mapping) and "path" in value:
        return _verbatim(value)
    if isinstance(value, Mapping):
        return _from_mapping(value, exists)
    raise ConfigError(
        "E112", f"{value!r} names no model", hint="write a path or a hub id; numbers need quotes"
    )


def _from_text(text: str, exists: Exists) -> ModelReference:
    if exists(text):
        return ModelReference(text)
    parts = text.split("+")
    if len(parts) > 2:
        raise _bad(text, "has more than one '+'")
    model = _part(parts[0], text, exists)
    return replace(model, adapter=_part(parts[1], text, exists)) if len(parts) == 2 else model


def _part(part: str, text: str, exists: Exists) -> ModelReference:
    if exists(part):
        return ModelReference(part)
    path, at, revision = part.partition("@")
    if "@" in revision:
        raise _bad(text, "has more than one '@'")
    if not path.removeprefix(HUB).strip() or (at and not revision.strip()):
        raise _bad(text, "has an empty part" if text.strip() else "names no model")
    return ModelReference(path, revision or None)


def _bad(text: str, fault: str) -> ConfigError:
    hint = "the form is PATH[@REVISION][+ADAPTER[@REVISION]]; a path with '@' or '+' can be written {path: …}"
    return ConfigError("E112", f"the model reference '{text}' {fault}", hint=hint)


def _from_mapping(value: Mapping[str, Json], exists: Exists) -> ModelReference:
    _check_keys(value, ("model", "lora", "override_architecture"))
    if value.get("model") is None:
        raise ConfigError("E112", "a model reference needs 'model' or 'path'", hint=_FORM)
    architecture = value.get("override_architecture")
    if not isinstance(architecture, (str, type(None))):
        raise ConfigError("E112", f"'override_architecture' is {architecture!r}; text is expected")
    model = _member(value["model"], exists)
    lora = value.get("lora")
    adapter = _member(lora, exists) if lora is not None else None
    return replace(model, adapter=adapter, architecture=architecture)


def _member(value: Json, exists: Exists) -> ModelReference:
    if isinstance(value, str):
        return _part(value, value, exists)
    if isinstance(value, Mapping):
        return _verbatim(value)
    raise ConfigError("E112", f"{value!r} names no model", hint=_FORM)


def _verbatim(value: Mapping[str, Json]) -> ModelReference:
    _check_keys(value, ("path", "revision"))
    path, revision = value.get("path"), value.get("revision")
    if not isinstance(path, str) or not path:
        raise ConfigError("E112", f"'path' is {path!r}; text is expected", hint=_FORM)
    if not isinstance(revision, (str, type(None))):
        raise ConfigError("E112", f"'revision' is {revision!r}; text is expected", hint="write it in quotes")
    return ModelReference(path, revision)


_FORM = "write {model: …, lora: …} or {path: …, revision: …}"


def _check_keys(value: Mapping[str, Json], known: tuple[str, ...]) -> None:
    for key in value:
        if key not in known:
            near = did_you_mean(key, known)
            raise ConfigError("E112", f"unknown key '{key}' in a model reference{near}", hint=_FORM)
