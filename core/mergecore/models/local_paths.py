"""What is written into a merged model must not reveal where its parts lay on this machine, nor whose it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PureWindowsPath

from mergecore.types import Checkpoint, Json, ModelReference


def without_local_paths(value: Mapping[str, Json], models: Sequence[Checkpoint] = ()) -> dict[str, Json]:
    """`value` with the last component of every local path in place of the path.

    Local are absolute paths and those that leave this folder (`..`, `~`); within a text, only those of models,
    and those below somebody's home.
    """
    shortened = _shortener(models)

    def walk(one: Json) -> Json:
        if isinstance(one, str):
            return shortened(one)
        if isinstance(one, list):
            return [walk(item) for item in one]
        if isinstance(one, dict):
            return {shortened(key): walk(item) for key, item in one.items()}
        return one

    return {key: walk(item) for key, item in value.items()}


def is_local_path(text: str) -> bool:
    """Whether a text is a path that says something of this machine, and nothing else."""
    return bool(_LOCAL_PATH.fullmatch(text) or _WINDOWS_PATH.fullmatch(text) or _leaves(text))


def last_name(path: str) -> str:
    """The last component of a local path that is a name."""
    parts = PureWindowsPath(path).parts if _WINDOWS_PATH.fullmatch(path) else Path(path).parts
    names = [part for part in parts if part not in ("..", ".", "~", "/") and not part.endswith("\\")]
    return names[-1] if names else "model"


def _shortener(models: Sequence[Checkpoint]) -> Callable[[str], str]:
    named = {str(model.folder): model.folder.name for model in models}
    for model in models:
        for reference in filter(None, (model.reference, model.full_reference)):
            named |= {path: _name(path, model) for path in _paths(reference)}
    local = [
        (_as_pattern(path), named[path])
        for path in sorted(named, key=len, reverse=True)
        if path[0] in "/~" or is_local_path(path)
    ]

    def shortened(text: str) -> str:
        for pattern, name in local:
            text = pattern.sub(lambda _, name=name: name, text)  # type: ignore[misc]
        if is_local_path(text):
            return last_name(text)
        return _AT_HOME.sub(lambda match: last_name(match[0]), text)

    return shortened


def _name(path: str, model: Checkpoint) -> str:
    """The name that stands for the path of a model; that of its folder where the path holds none."""
    bare = path == model.reference.path and Path(path).name in ("", "..", "~")
    return (model.folder.resolve().name if bare else last_name(path)) or "model"


_LOCAL_PATH = re.compile(r"(~[\w.-]*|/[^/\n]+)(/[^/\n]+)+/?")
_WINDOWS_PATH = re.compile(r"([A-Za-z]:[\\/]|\\\\)[^\n\"'<>|]+")
_AT_HOME = re.compile(
    r"(?<![\w/.~-])((/home|/Users|/mnt/[a-z]/Users)/[\w.@-]+(/[\w.@+-]+)*|(/root|~[\w.-]*)(/[\w.@+-]+)+)/?(?<!\.)(?=\W|$)"
    r"|(?<!\w)[A-Za-z]:\\Users\\[\w.@-]+(\\[\w.@+-]+)*"
)
"""A path below a home within a text."""


def _leaves(text: str) -> bool:
    """Whether a text is a relative path that leads out of the folder where it starts."""
    return ".." in text.split("/") and not re.search(r"[\s{}<>|*\"']", text)


def _as_pattern(path: str) -> re.Pattern[str]:
    return re.compile(r"(?<![\w/.~-])" + re.escape(path) + r"(?![\w.-])")


def _paths(reference: ModelReference) -> set[str]:
    return {reference.path, *(one.path for one in reference.adapters)} - {""}
