"""Nothing is longer than one can read at once: files of 400 lines, functions of 50."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import house

LINES, BODY = 400, 50


def sources(project: Path) -> Iterator[tuple[str, str]]:
    for path in [
        *(path for _, path in house.sources(project)),
        *sorted((project / "benchmarks").glob("*.py")),
    ]:
        yield path.relative_to(project).as_posix(), path.read_text(encoding="utf8")


def sources_of_tests(project: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(path for tests in house.folders_of_tests(project) for path in tests.rglob("*.py")):
        yield path.relative_to(project).as_posix(), path.read_text(encoding="utf8")


def long_functions(text: str) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= BODY
    }


def test_no_file_is_too_long(project: Path) -> None:
    everything = [*sources(project), *sources_of_tests(project)]
    assert {name for name, text in everything if len(text.splitlines()) > LINES} == set()


def test_no_function_is_too_long(project: Path) -> None:
    found = {f"{name} {function}" for name, text in sources(project) for function in long_functions(text)}
    assert found == set()


def test_a_function_of_50_lines_is_not_too_long() -> None:
    """Decorators are not counted, the line with its name is."""
    assert long_functions("@property\ndef just(self):\n" + "    pass\n" * 49) == set()
    assert long_functions("def over(self):\n" + "    pass\n" * 50) == {"over"}
