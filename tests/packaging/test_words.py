"""What must not stand in any file of the project: paths of somebody's machine, and marks of unfinished work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SKIPPED = {".git", ".venv", "__pycache__", "build", "dist", "mergecore-demo", "results"}
BINARY = {".npz", ".safetensors", ".pyc", ".png"}

ABSOLUTE = re.compile(r"(?<![\w.:/~$}*-])/(?:home/(?!me\b)|root/|Users/|opt/|mnt/|srv/|tmp/|var/|work/)\w")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")


def text_files(project: Path) -> Iterator[Path]:
    """The files that somebody wrote, without this one."""
    for path in sorted(project.rglob("*")):
        parts = path.relative_to(project).parts
        cached = any(part.endswith("_cache") or part == ".hypothesis" for part in parts)
        skipped = cached or SKIPPED & set(parts) or path.suffix in BINARY or path == Path(__file__)
        if path.is_file() and not skipped:
            yield path


@pytest.mark.parametrize("pattern", [ABSOLUTE, UNFINISHED], ids=["absolute paths", "unfinished work"])
def test_no_file_holds(pattern: re.Pattern[str], project: Path) -> None:
    found = []
    for path in text_files(project):
        for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(project)}:{number}: {line.strip()[:100]}")
    assert not found


def test_the_patterns_find_what_they_are_for() -> None:
    assert ABSOLUTE.search("see /home/somebody/models")
    assert ABSOLUTE.search("(/tmp/x)")
    assert not ABSOLUTE.search("https://host/home/page")
    assert not ABSOLUTE.search("docs/tmp/x")
    assert UNFINISHED.search("# TODO: later")
