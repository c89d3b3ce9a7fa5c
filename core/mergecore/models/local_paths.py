"""What is written into a merged model must not tell where its parts lay on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mergecore.types import Checkpoint, Json, ModelReference


def without_local_paths(value: Mapping[str, Json], models: Sequence[Checkpoint]) -> dict[str, Json]:
    """`value` with the last component of every absolute path in place of the path."""
    known = {str(model.folder) for model in models}
    for model in models:
        known |= _paths(model.reference)
    absolute = [
        (_as_pattern(path), Path(path).name)
        for path in sorted(known, key=len, reverse=True)
        if path[0] in "/~"
    ]

    def shortened(text: str) -> str:
        for pattern, name in absolute:
            text = pattern.sub(name, text)
        return Path(text).name if _LOCAL_PATH.fullmatch(text) else text

    def walk(one: Json) -> Json:
        if isinstance(one, str):
            return shortened(one)
        if isinstance(one, list):
            return [walk(item) for item in one]
        if isinstance(one, dict):
            return {shortened(key): walk(item) for key, item in one.items()}
        return one

    return {key: walk(item) for key, item in value.items()}


_LOCAL_PATH = re.compile(r"(~|/[^/\n]+)(/[^/\n]+)+/?")


def _as_pattern(path: str) -> re.Pattern[str]:
    return re.compile(r"(?<![\w/.~-])" + re.escape(path) + r"(?![\w.-])")


def _paths(reference: ModelReference) -> set[str]:
    return {reference.path} | (_paths(reference.adapter) if reference.adapter else set())
