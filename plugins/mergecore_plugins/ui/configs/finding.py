"""What lies below the folder of the page: configs, models, and merges with their manifests.  Links are not followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "mergecore-manifest.json"
MAX_DEPTH, MAX_FOLDERS = 6, 2000
MAX_CONFIG = 1_000_000
"""Bytes of a file that is looked into."""
MAX_CONFIGS = 200
WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".gguf", ".pt", ".pth")
KEYS = ("merge_method", "base_model", "models", "slices", "modules", "recipe", "adapters", "experts")
"""By one of these at the beginning of a line, a YAML file is taken for a config."""


@dataclass(frozen=True)
class FoundModel:
    """A folder that holds a model; `path` is relative, as a config would name it."""

    path: str
    made: bool
    """Whether it is a merge of ours."""
    adapter: bool


@dataclass(frozen=True)
class FoundConfig:
    """A config; `about` is its first comment."""

    path: str
    about: str


def folders_below(folder: Path) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
    """The folders below one, itself first, with what they hold; no hidden ones, no links, not endlessly many."""
    todo, seen = [(folder, 0)], 0
    while todo and seen < MAX_FOLDERS:
        here, depth = todo.pop(0)
        seen += 1
        try:
            with os.scandir(here) as found:
                entries = sorted(filter(_shown, found), key=lambda one: one.name)
        except OSError:
            continue  # it went away, or is nobody's business
        yield here, entries
        inside = [Path(one.path) for one in entries if one.is_dir(follow_symlinks=False)]
        todo += [(one, depth + 1) for one in inside if depth < MAX_DEPTH]


def _shown(entry: os.DirEntry[str]) -> bool:
    """Whether an entry has a name that is not hidden and that a config could hold."""
    return not entry.name.startswith(".") and entry.name.isprintable()


def models_below(folder: Path) -> list[FoundModel]:
    """The models below a folder."""
    found = []
    for here, entries in folders_below(folder):
        names = {one.name for one in entries}
        adapter = "adapter_config.json" in names
        if here == folder or not ({"config.json", "adapter_config.json"} & names):
            continue
        if adapter or any(name.endswith(WEIGHTS) for name in names):
            found.append(FoundModel(here.relative_to(folder).as_posix(), MANIFEST in names, adapter))
    return found


def configs_below(folder: Path) -> list[FoundConfig]:
    """The configs below a folder, those that are nearest first."""
    found: list[FoundConfig] = []
    for here, entries in folders_below(folder):
        for one in entries:
            if one.name.endswith((".yml", ".yaml")) and one.is_file(follow_symlinks=False):
                about = _about(Path(one.path))
                if about is not None and len(found) < MAX_CONFIGS:
                    found.append(FoundConfig((here / one.name).relative_to(folder).as_posix(), about))
    return found


def manifests_below(folder: Path) -> list[tuple[Path, float]]:
    """The folders of merges below a folder, with the times of their manifests, the newest first."""
    found = [
        (here, one.stat(follow_symlinks=False).st_mtime)
        for here, entries in folders_below(folder)
        for one in entries
        if one.name == MANIFEST and one.is_file(follow_symlinks=False)
    ]
    return sorted(found, key=lambda one: -one[1])


def _about(path: Path) -> str | None:
    """The first comment of a config; None for another file."""
    try:
        with path.open(encoding="utf8") as file:
            text = file.read(MAX_CONFIG)
    except (OSError, UnicodeDecodeError):
        return None
    lines = text.splitlines()
    if not any(line.startswith(tuple(f"{key}:" for key in KEYS)) for line in lines):
        return None
    return lines[0].lstrip("# ").strip() if lines[0].startswith("#") else ""
