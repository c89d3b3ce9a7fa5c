"""The comparison of two versions: silent about what is equal, loud about what is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "same_bytes.py"
MERGECORE = str(Path(sys.executable).parent / "mergecore")


def compare(old: str, new: str, *only: str) -> subprocess.CompletedProcess[str]:
    words = [word for name in only for word in ("--only", name)]
    line = [sys.executable, str(SCRIPT), old, new, *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_a_version_writes_the_same_bytes_as_itself() -> None:
    done = compare(MERGECORE, MERGECORE, "vocabulary-union")

    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["equal    vocabulary-union  ", "1 merges, 0 of them differ"],
    )


def test_a_version_that_rounds_otherwise_is_found(tmp_path: Path) -> None:
    other = tmp_path / "mergecore"
    other.write_text(
        f'#!/bin/sh\nif [ "$1" = merge ]; then sed -i s/0.6/0.5/ "$2"; fi\nexec {MERGECORE} "$@"\n'
    )
    other.chmod(0o755)

    done = compare(MERGECORE, str(other), "linear")

    assert done.returncode == 1
    assert done.stdout.startswith("differs  linear  ")
    assert "1 merges, 1 of them differ" in done.stdout
