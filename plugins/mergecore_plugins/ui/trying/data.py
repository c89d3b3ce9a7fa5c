"""What lies below the folder to evaluate models with: files of evaluators, and plain texts; read `data_below`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mergecore_plugins.ui.configs.files import state, write
from mergecore_plugins.ui.configs.finding import folders_below

MAX_TEXT = 50_000_000
MAX_FILE = 1_000_000


@dataclass(frozen=True)
class Data:
    """A file; `kind` is what it holds, in words."""

    path: str
    kind: str


def data_below(folder: Path) -> list[Data]:
    """The files that models can be evaluated with: those of evaluators first."""
    found = list(_found(folder))
    return sorted(found, key=lambda one: (one.kind != _EVALUATORS, one.path))


_EVALUATORS, _TEXT = "evaluators", "a text, for its perplexity"


def _found(folder: Path) -> Iterator[Data]:
    for _, entries in folders_below(folder):
        is_model = any(one.name in ("config.json", "adapter_config.json") for one in entries)
        for one in entries:
            kind = "" if is_model or not one.is_file(follow_symlinks=False) else _kind(Path(one.path))
            if kind:
                yield Data(Path(one.path).relative_to(folder).as_posix(), kind)


def _kind(path: Path) -> str:
    """What a file holds to evaluate with; empty for another file."""
    size = path.stat().st_size
    if path.suffix in (".yml", ".yaml") and size < MAX_FILE and _is_evaluators(path):
        return _EVALUATORS
    return _TEXT if path.suffix == ".txt" and 0 < size < MAX_TEXT else ""


def _is_evaluators(path: Path) -> bool:
    try:
        return any(line.startswith("evaluators:") for line in path.read_text(encoding="utf8").splitlines())
    except (OSError, UnicodeDecodeError):
        return False


def file_of(folder: Path, chosen: Data) -> str:
    """The file of evaluators: the one that was chosen, or one that takes the perplexity of a text."""
    if chosen.kind == _EVALUATORS:
        return chosen.path
    made = state(folder) / "evaluations" / f"{chosen.path.replace('/', '-')}.yml"
    texts = os.path.relpath(folder / chosen.path, made.parent)
    value = [{"evaluator": "perplexity", "name": Path(chosen.path).name, "texts": texts}]
    write(made, f"evaluators: {json.dumps(value, ensure_ascii=False)}\n")
    return made.relative_to(folder).as_posix()
