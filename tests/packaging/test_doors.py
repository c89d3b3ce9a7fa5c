"""The doors of the core: what plugins import, every name of it listed, documented, and nothing beside."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import house
import pytest
import signatures
from signatures import DOORS

import mergecore

CLOSED = ("mergecore.plugins", "mergecore.planning", "mergecore.output", "mergecore.engine")
"""Folders of the core for the core alone; their faces list what its other parts take from them."""

TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")
OURS = re.compile(r"mergecore(_plugins|_architectures|_contrib|_spectral)?(\.\w+)*")
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def public(door: str) -> set[str]:
    names = set(import_module(door).__all__)
    if door != "mergecore.methods":
        return names
    registry = mergecore.Registry.discover()
    return {one for one in names if registry.provider(mergecore.MergeMethod, one).built_in}


def used(text: str) -> set[str]:
    """Every name of the four packages that a module imports, reaches by its dots, or has in a text by itself."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(module), names=names):
                found |= {f"{module}.{alias.name}" for alias in names}
            case ast.Attribute():
                found |= {dotted(node)}
            case ast.Constant(value=str(value)):
                found |= {value}
    return {name for name in found if OURS.fullmatch(name)}


def dotted(node: ast.expr) -> str:
    """`mergecore.types.Step`, down to what is a name of a door; nothing for what does not begin with a name."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            before = dotted(value)
            return before if before and by_a_door(before) and before not in DOORS else f"{before}.{attr}"
    return ""


def by_a_door(name: str) -> bool:
    door, _, last = name.rpartition(".")
    return name in DOORS or (door in DOORS and last in public(door))


def outsiders(project: Path) -> Iterator[tuple[str, str, str]]:
    """What must keep to the doors: its name, its own package, its text."""
    for module, path in house.sources(project):
        package = module.partition(".")[0]
        if package != "mergecore":
            yield module, package, path.read_text(encoding="utf8")
    for distribution in house.distributions(project):
        for path in sorted((distribution / "tests").rglob("*.py")):
            own = distribution.name.replace("-", "_")
            yield path.relative_to(project).as_posix(), own, path.read_text(encoding="utf8")
    for folder in ("cookiecutter-plugin", "tests/third_party", "tests/frozen", "examples"):
        for path in sorted((project / folder).rglob("*.py")):
            yield str(path.relative_to(project)), "", TEMPLATE.sub("x", path.read_text(encoding="utf8"))
    for page in sorted([project / "README.md", *(project / "docs").rglob("*.md")]):
        for number, snippet in enumerate(FENCE.findall(page.read_text(encoding="utf8"))):
            yield f"{page.relative_to(project)} {number}", "", snippet


def test_benchmarks_go_by_the_doors_of_the_core(project: Path) -> None:
    """Those of a built-in plugin may look into that plugin."""
    found = {
        (path.name, name)
        for path in sorted((project / "benchmarks").rglob("*.py"))
        for name in used(path.read_text(encoding="utf8"))
        if not by_a_door(name) and not name.startswith("mergecore_plugins.")
    }
    assert found == set()


def test_outside_the_core_one_goes_by_the_doors(project: Path) -> None:
    found = {
        (module, name)
        for module, own, text in outsiders(project)
        for name in used(text)
        if not by_a_door(name) and not (own and name.startswith(f"{own}."))
    }
    assert found == set()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import mergecore as m, os", {"mergecore"}),
        (
            "if True:\n    from mergecore.types import (\n        Step,\n        Slot as S,\n    )",
            {"mergecore.types.Step", "mergecore.types.Slot"},
        ),
        ("import mergecore.engine.run as run", {"mergecore.engine.run"}),
        ("mergecore.pipeline.plan({})", {"mergecore.pipeline", "mergecore.pipeline.plan"}),
        ("mergecore.Registry.discover()", {"mergecore.Registry"}),
        ("import_module('mergecore.output')", {"mergecore.output"}),
    ],
)
def test_what_is_used_is_found_wherever_it_stands(text: str, names: set[str]) -> None:
    assert used(text) == names


@pytest.mark.parametrize(
    "name", ["mergecore.engine.run", "mergecore.pipeline", "mergecore.types.models", "mergecore.types.P"]
)
def test_what_is_not_listed_is_not_public(name: str) -> None:
    assert not by_a_door(name)
    assert by_a_door("mergecore.types.Step")


def test_what_text_calls_a_module_of_the_core_is_a_door(project: Path) -> None:
    for page in sorted([project / "README.md", *(project / "docs").rglob("*.md")]):
        for name in re.findall(r"`(mergecore(?:\.[a-z_]+)+)", page.read_text(encoding="utf8")):
            assert by_a_door(name) or hasattr(mergecore, name.split(".")[1]), f"{page.name}: {name}"


@pytest.mark.parametrize("folder", CLOSED)
def test_the_face_of_a_closed_folder_lists_what_other_parts_of_the_core_take(
    folder: str, project: Path
) -> None:
    inside = project / "core" / folder.replace(".", "/")
    names = {
        name.rpartition(".")[2]
        for path in (project / "core").rglob("*.py")
        if not path.is_relative_to(inside)
        for name in used(path.read_text(encoding="utf8"))
        if name.startswith(f"{folder}.")
    }
    assert names == public(folder)


@pytest.mark.parametrize("door", [*DOORS, *CLOSED])
def test_a_door_lists_names_that_resolve(door: str) -> None:
    module = import_module(door)
    assert module.__doc__
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name
    assert public(door) <= {*dir(module)}


@pytest.mark.parametrize("door", [*DOORS, *CLOSED])
def test_no_name_of_a_door_is_that_of_a_module_in_it(door: str) -> None:
    """The module would stand in place of the name as soon as anybody imports it."""
    file = Path(inspect.getfile(import_module(door)))
    inside = file.parent.iterdir() if file.name == "__init__.py" else ()
    assert not public(door) & {path.stem for path in inside}


@pytest.mark.parametrize("door", [*DOORS, *CLOSED])
def test_what_is_loaded_late_is_what_type_checkers_see(door: str) -> None:
    module = import_module(door)
    tree = ast.parse(Path(inspect.getfile(module)).read_text(encoding="utf8"))
    homes = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name, home in homes.items():
        assert home is not None
        assert getattr(module, name) is getattr(import_module(home), name)


@pytest.mark.parametrize("door", [door for door in DOORS if door not in ("mergecore", "mergecore.errors")])
def test_a_door_has_nothing_else(door: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{door}' has no attribute 'nothing'"):
        _ = import_module(door).nothing


def test_every_door_has_its_table(project: Path) -> None:
    text = (project / "docs" / "reference" / "imports.md").read_text(encoding="utf8")
    sections = re.split(r"^## `([\w.]+)`$", text, flags=re.MULTILINE)[1:]
    tables = {
        door: set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", section, re.MULTILINE))))
        for door, section in zip(sections[::2], sections[1::2], strict=True)
    }
    assert list(tables) == list(DOORS)
    for door, names in tables.items():
        known = public("mergecore") if door != "mergecore" else set()
        assert names == public(door) - known, door


def test_the_types_in_signatures_of_doors_have_doors() -> None:
    assert set(signatures.without_door(DOORS)) == set()


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("def f(a: A, *b: B, c: 'C | None' = None) -> dict[str, D]: ...", "A B C D None dict str"),
        ("class K(A):\n    b: B\n    _c: C\n    def d(self) -> D: ...\n    def _e(self) -> E: ...", "A B D"),
        ("class K:\n    def __init__(self, a: A) -> None: ...", "A None"),
        ("K: TypeAlias = Mapping[str, 'A']", "A Mapping str"),
        ("K = Mapping[str, A]", "A Mapping str"),
    ],
)
def test_the_types_of_a_definition_are_found(text: str, types: str) -> None:
    node = ast.parse(text).body[0]
    assert isinstance(node, signatures.Definition)
    found = {name for one in signatures.types_in(node) for name in signatures.names_in(one)}
    assert found | ({"None"} if "None" in text else set()) == set(types.split())
