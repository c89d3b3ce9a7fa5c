"""The doors of the core: what plugins import, every name of it listed, documented, and nothing beside."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import mergecore

DOORS = (
    "mergecore",
    "mergecore.types",
    "mergecore.errors",
    "mergecore.testing",
    "mergecore.compute",
    "mergecore.models",
    "mergecore.tokenizers",
    "mergecore.config",
    "mergecore.files",
    "mergecore.cli",
    "mergecore_architectures",
)
"""What may be imported from elsewhere; `planning`, `engine`, `output`, `plugins` and `pipeline` are closed."""

OURS = r"mergecore(?:_plugins|_architectures|_contrib)?(?:\.\w+)*"
IMPORT = re.compile(rf"^\s*(?:from ({OURS}) import (\([^)]*\)|.*)|import ({OURS})$)", re.MULTILINE)
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def public(door: str) -> set[str]:
    return set(import_module(door).__all__)


def imports(text: str) -> Iterator[str]:
    """Every name that a text imports of the four packages; it may be a template."""
    for module, names, whole in IMPORT.findall(re.sub(r" *#.*", "", text)):
        if whole:
            yield whole
        for name in re.findall(r"[\w*]+(?: as \w+)?", names):
            yield f"{module}.{name.partition(' ')[0]}"


def by_a_door(name: str) -> bool:
    door, _, last = name.rpartition(".")
    return name in DOORS or (door in DOORS and last in public(door))


def outsiders(project: Path) -> Iterator[tuple[str, str, str]]:
    """What must keep to the doors: its name, its own package, its text."""
    for package in ("plugins", "architectures", "contrib"):
        for path in sorted((project / package).rglob("*.py")):
            parts = path.relative_to(project / package).with_suffix("").parts
            yield ".".join(parts), parts[0], path.read_text(encoding="utf8")
    for folder in ("cookiecutter-plugin", "tests/third_party", "examples"):
        for path in sorted((project / folder).rglob("*.py")):
            yield str(path.relative_to(project)), "", path.read_text(encoding="utf8")
    for page in sorted([project / "README.md", *(project / "docs").rglob("*.md")]):
        for number, snippet in enumerate(FENCE.findall(page.read_text(encoding="utf8"))):
            yield f"{page.relative_to(project)} {number}", "", snippet


def test_outside_the_core_one_goes_by_the_doors(project: Path) -> None:
    found = {
        (module, name)
        for module, own, text in outsiders(project)
        for name in imports(text)
        if not by_a_door(name) and not (own and name.startswith(f"{own}."))
    }
    assert found == set()


def test_imports_are_found_wherever_they_stand() -> None:
    text = "import mergecore\nif True:\n    from mergecore.types import (\n        Step,\n        Slot as S,\n    )\n"
    assert [*imports(text)] == ["mergecore", "mergecore.types.Step", "mergecore.types.Slot"]
    assert [*imports("import mergecore.engine.run\n")] == ["mergecore.engine.run"]
    assert not by_a_door("mergecore.engine.run")
    assert not by_a_door("mergecore.pipeline")
    assert not by_a_door("mergecore.types.models")
    assert by_a_door("mergecore.types.Step")


def test_what_text_calls_a_module_of_the_core_is_a_door(project: Path) -> None:
    for page in sorted([project / "README.md", *(project / "docs").rglob("*.md")]):
        for name in re.findall(r"`(mergecore(?:\.[a-z_]+)+)", page.read_text(encoding="utf8")):
            assert by_a_door(name) or hasattr(mergecore, name.split(".")[1]), f"{page.name}: {name}"


@pytest.mark.parametrize("door", DOORS)
def test_a_door_lists_names_that_resolve(door: str) -> None:
    module = import_module(door)
    assert module.__doc__
    assert len(module.__all__) == len(public(door))
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name
    assert public(door) <= {*dir(module)}


@pytest.mark.parametrize("door", DOORS)
def test_no_name_of_a_door_is_that_of_a_module_in_it(door: str) -> None:
    """The module would stand in place of the name as soon as anybody imports it."""
    folder = Path(inspect.getfile(import_module(door))).parent
    modules = {path.stem for path in folder.glob("*.py")} if door.count(".") else set()
    assert not public(door) & modules


@pytest.mark.parametrize("door", DOORS)
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
