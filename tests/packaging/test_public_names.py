"""What `import mergecore` promises: names that resolve, say what they are, and are documented."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from house import sources
from public_api import LIST, public_api

import mergecore
from mergecore.plugins import hookspecs

HOOKS = [name for name in dir(hookspecs) if name.startswith("mergecore_")]
VALUES = {"API", "PerModel", "__version__", "hookimpl"}  # they are no classes or functions of ours


@pytest.mark.parametrize("name", mergecore.__all__)
def test_a_public_name_resolves_and_has_a_docstring(name: str) -> None:
    value = getattr(mergecore, name)
    if name not in VALUES:
        text = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
        assert text
        assert not text.startswith(f"{name}(")  # what dataclasses say of themselves


def test_names_are_sorted_and_listed_once() -> None:
    assert list(mergecore.__all__) == sorted(set(mergecore.__all__))


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'mergecore' has no attribute 'ties'"):
        _ = mergecore.ties  # type: ignore[attr-defined]


def test_modules_and_their_public_functions_and_classes_have_docstrings(project: Path) -> None:
    missing = []
    for _, path in sources(project):
        tree = ast.parse(path.read_text(encoding="utf8"))
        name = path.relative_to(project).as_posix()
        if tree.body and not ast.get_docstring(tree):
            missing.append(name)
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if node.name not in HOOKS and not ast.get_docstring(node):
                missing.append(f"{name}: {node.name}")
    assert not missing


def test_public_names_and_signatures_are_those_of_the_list() -> None:
    """A change is fine where it is meant: `python tests/public_api.py`, and docs/reference/versions.md."""
    listed, found = LIST.read_text(encoding="utf8").splitlines(), public_api()
    assert [line for line in listed if line not in found] == [], (
        "gone or changed: see docs/reference/versions.md"
    )
    assert [line for line in found if line not in listed] == [], "new: run `python tests/public_api.py`"
    assert found == listed


# ---- hooks -------------------------------------------------------------------------------------------------


def test_there_are_fourteen_hooks() -> None:
    assert len(HOOKS) == 14


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_has_a_docstring(hook: str) -> None:
    text = inspect.getdoc(getattr(hookspecs, hook))
    assert text
    assert text.startswith(("Yield ", "Hear "))


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_documented_with_its_signature_and_an_example(hook: str, project: Path) -> None:
    text = (project / "docs" / "reference" / "hooks.md").read_text(encoding="utf8")
    signature = str(inspect.signature(getattr(hookspecs, hook))).replace("'", "")
    heading = f"\n## `{hook}{signature}`\n"
    assert text.count(heading) == 1
    section = text.partition(heading)[2].partition("\n## ")[0]
    assert f"@hookimpl\ndef {hook}(" in section


def test_hooks_are_documented_in_the_order_of_the_specs(project: Path) -> None:
    text = (project / "docs" / "reference" / "hooks.md").read_text(encoding="utf8")
    source = inspect.getsource(hookspecs)
    assert re.findall(r"^## `(mergecore_\w+)", text, re.MULTILINE) == re.findall(
        r"^def (\w+)", source, re.MULTILINE
    )


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_has_a_test_that_is_named_after_it_and_goes_by_the_command_line(
    hook: str, project: Path
) -> None:
    tests = [
        node
        for path in (project / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith(f"test_{hook}_")
    ]
    assert tests
    for test in tests:
        called = {ast.unparse(node.func) for node in ast.walk(test) if isinstance(node, ast.Call)}
        assert "cli" in called, f"{test.name} may pass although no user can reach the hook"
