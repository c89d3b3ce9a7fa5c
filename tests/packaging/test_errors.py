"""Codes of errors: each is documented with its exit code, and raised as the class that it belongs to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergecore import errors
from mergecore.errors import MergecoreError, class_of

PAGE = Path("docs") / "reference" / "errors.md"
CODE = re.compile(r"E\d{3}")


@pytest.fixture(scope="module")
def used(project: Path) -> dict[str, list[str]]:
    """Every code in the sources, and where it stands."""
    found: dict[str, list[str]] = {}
    for path, tree in trees(project):
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                found.setdefault(node.value, []).append(f"{path.relative_to(project)}:{node.lineno}")
    return found


@pytest.fixture(scope="module")
def documented(project: Path) -> dict[str, tuple[int, str]]:
    """Exit code and class of every code, as the page says."""
    found: dict[str, tuple[int, str]] = {}
    heading = (0, "")
    for line in (project / PAGE).read_text(encoding="utf8").splitlines():
        if title := re.fullmatch(r"## Exit code (\d)(?:: `(\w+)`)?", line):
            heading = (int(title[1]), title[2] or "")
        elif row := re.match(r"\| (E\d{3}) \|", line):
            assert row[1] not in found, f"{row[1]} stands twice in {PAGE}"
            found[row[1]] = heading
    return found


def trees(project: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(project.glob("*/mergecore*/**/*.py")):
        yield path, ast.parse(path.read_text(encoding="utf8"))


def test_every_code_is_documented(used: dict[str, list[str]], documented: dict[str, tuple[int, str]]) -> None:
    missing = {code: places for code, places in used.items() if code not in documented}
    assert not missing, f"add a row to {PAGE} for each of these"


def test_every_documented_code_is_used(
    used: dict[str, list[str]], documented: dict[str, tuple[int, str]]
) -> None:
    assert not set(documented) - set(used) - {"E001"}, (
        f"remove these rows from {PAGE}"
    )  # E001 is any other exception


def test_every_code_is_documented_with_its_class_and_exit_code(
    documented: dict[str, tuple[int, str]],
) -> None:
    for code, heading in documented.items():
        if code == "E001":
            assert heading == (1, "")
        else:
            assert heading == (class_of(code).exit_code, class_of(code).__name__), code


def test_an_error_is_raised_as_the_class_of_its_code(project: Path) -> None:
    classes = {kind.__name__ for kind in MergecoreError.__subclasses__()} - {"Problems"}
    assert len(classes) == 6
    wrong, count = [], 0
    for path, tree in trees(project):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            code = str(node.args[0].value)
            if name in classes and CODE.fullmatch(code):
                count += 1
                if class_of(code).__name__ != name:
                    wrong.append(f"{path.relative_to(project)}:{node.lineno}: {name}({code!r})")
    assert count > 50
    assert not wrong


def test_every_class_has_its_own_exit_code() -> None:
    kinds = [kind for kind in MergecoreError.__subclasses__() if kind is not errors.Problems]
    assert sorted(kind.exit_code for kind in kinds) == [2, 3, 4, 5, 6, 7]
