"""Codes of errors: each is documented with its exit code, and raised as the class that it belongs to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from error_texts import messages, untested
from house import folders_of_tests, sources

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
    for _, path in sources(project):
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


def test_every_message_and_every_hint_is_matched_by_a_test(project: Path) -> None:
    found = messages(project)
    assert len(found) > 700
    assert untested(found, *folders_of_tests(project)) == {}


def test_what_no_test_matches_is_found(tmp_path: Path) -> None:
    """Constant texts, alternatives, names, and what helpers are given; not what only a docstring says."""
    source = tmp_path / "core" / "mergecore" / "x.py"
    source.parent.mkdir(parents=True)
    source.write_text(
        "def one(size, odd):\n"
        "    what = f'it has {size} green apples'\n"
        "    raise InputError('E201', what, hint='take them all away' if odd else 'leave it')\n"
        "def refuse(what):\n"
        "    raise class_of('E101')('E101', f'this is {what}')\n"
        "def two():\n"
        "    refuse('a pear of wood')\n"
    )
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_x.py").write_text(
        '"""A pear of wood is refused."""\nmatch = r"has \\d+ green apples\\. Hint: take them all away"\n'
    )
    assert [one.pieces for one in messages(tmp_path)] == [
        ("it has ", " green apples"),
        ("leave it",),
        ("take them all away",),
        ("this is ",),
        ("a pear of wood",),
    ]
    assert untested(messages(tmp_path), tests) == {
        "core/mergecore/x.py:3": "leave it",
        "core/mergecore/x.py:5": "this is ",
        "core/mergecore/x.py:7": "a pear of wood",
    }
    (tests / "test_y.py").write_text("assert told == f'{place}: this is a pear of wood, so leave it'\n")
    assert untested(messages(tmp_path), tests) == {}


def test_every_class_has_its_own_exit_code() -> None:
    kinds = [kind for kind in MergecoreError.__subclasses__() if kind is not errors.Problems]
    assert sorted(kind.exit_code for kind in kinds) == [2, 3, 4, 5, 6, 7]
