"""Which package may import which: the core no plugin, a plugin the core and its own kind, everyone what is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import importlib_metadata
from house import sources

MAY_IMPORT = {
    "mergecore": {"mergecore"},
    "mergecore_plugins": {"mergecore", "mergecore_architectures", "mergecore_plugins"},
    "mergecore_architectures": {"mergecore", "mergecore_architectures"},
    "mergecore_contrib": {"mergecore", "mergecore_contrib"},
    "mergecore_spectral": {"mergecore", "mergecore_spectral"},
}

ONLY_THERE = {"mergecore.testing.pytest_plugin": "pytest"}
"""What is imported by a module that nothing else imports: pytest loads it."""

SHARED = (
    "mergecore_plugins.methods.common",
    "mergecore_plugins.activations",
    "mergecore_plugins.reports",
    "mergecore_plugins.evaluation",
)
"""Steps that methods consist of, what flows through models, pages, evaluation; any plugin may use them."""


EXTRAS = {"ui": ("mergecore_plugins.ui.",)}
"""What only some modules import, beside what mergecore needs, by the extra that installs it."""


def imports(module: str, path: Path) -> set[str]:
    """The modules that a module imports anywhere, also inside functions and for type checkers only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_packages_are_there(project: Path) -> None:
    assert {module.partition(".")[0] for module, _ in sources(project)} == set(MAY_IMPORT)


def test_imports_between_the_packages_have_one_direction(project: Path) -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in sources(project)
        for name in sorted(imports(module, path))
        if (package := name.partition(".")[0]) in MAY_IMPORT
        and package not in MAY_IMPORT[module.partition(".")[0]]
    ]
    assert not wrong


FLOORS = (
    {"errors", "version"},
    {"names"},
    {"files"},
    {"types"},
    {"compute", "tokenizers", "plugins"},
    {"config"},
    {"models"},
    {"planning"},
    {"output"},
    {"engine"},
    {"pipeline"},
    {"testing", "methods"},
    {"cli"},
)
"""The parts of the core from the ground up: each imports only what is below it, and itself."""


def edges(project: Path) -> Iterator[tuple[str, str]]:
    """Which module of the core imports which, for type checkers too."""
    found = dict(sources(project))
    for module, path in found.items():
        for name in imports(module, path):
            target = name if name in found else name.rpartition(".")[0]
            if module.count(".") and target.startswith("mergecore.") and target in found and target != module:
                yield module, target


def test_the_parts_of_the_core_import_downward_only(project: Path) -> None:
    floor = {part: number for number, parts in enumerate(FLOORS) for part in parts}
    upward = {
        (module, target)
        for module, target in edges(project)
        if module.startswith("mergecore.") and module != "mergecore.__main__"
        if (a := module.split(".")[1]) != (b := target.split(".")[1]) and floor[a] <= floor[b]
    }
    assert upward == set()


def test_no_modules_of_the_core_import_each_other_in_a_circle(project: Path) -> None:
    reached: dict[str, set[str]] = {}
    for module, target in edges(project):
        reached.setdefault(module, set()).add(target)
    while leaves := {one for one in reached if not reached[one] & reached.keys()}:
        for one in leaves:
            del reached[one]
    assert reached == {}, "these import each other, or what does"


def test_no_folder_is_crowded(project: Path) -> None:
    """Some dozen modules beside the face of the folder; a merge method is a file of its own, however many there are."""
    folders = {path.parent for _, path in sources(project)}
    crowded = {
        folder.name: count
        for folder in folders
        if folder.name != "methods" and (count := len([*folder.glob("*.py")])) > 14
    }
    assert crowded == {}


def test_plugins_of_one_kind_do_not_import_those_of_another(project: Path) -> None:
    def kind(name: str) -> str:
        return ".".join(name.split(".")[:2])

    wrong = [
        f"{module} imports {name}"
        for module, path in sources(project)
        for name in sorted(imports(module, path))
        if name.startswith("mergecore_plugins.")
        and kind(name) != kind(module)
        and not name.startswith(SHARED)
    ]
    assert not wrong


def test_what_is_imported_is_declared_as_a_dependency(project: Path) -> None:
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf8"))
    everywhere = names_in(document["project"]["dependencies"])
    extras = document["project"]["optional-dependencies"]
    providers = importlib_metadata.packages_distributions()
    for module, path in sources(project):
        own = [names_in(extras[extra]) for extra, parts in EXTRAS.items() if module.startswith(parts)]
        declared = everywhere.union(*own)
        for name in imports(module, path):
            package = name.partition(".")[0]
            if name.startswith(ONLY_THERE.get(module, "-")):
                continue
            if package not in MAY_IMPORT and package not in sys.stdlib_module_names:
                owners = {canonical(owner) for owner in providers.get(package, [package])}
                assert owners & declared, f"{module} imports {package}"


def test_every_declared_dependency_is_imported(project: Path) -> None:
    """A dependency that nothing imports is downloaded by everybody for nothing."""
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf8"))
    extras = document["project"]["optional-dependencies"]
    declared = names_in(
        [*document["project"]["dependencies"], *(one for extra in EXTRAS for one in extras[extra])]
    )
    providers = importlib_metadata.packages_distributions()
    used = {
        canonical(owner)
        for module, path in sources(project)
        for name in imports(module, path)
        if not name.startswith(ONLY_THERE.get(module, "-"))
        for owner in providers.get(name.partition(".")[0], [])
    }
    assert declared == used


def test_the_tested_versions_name_every_dependency(project: Path) -> None:
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf8"))["project"]
    lines = [
        *document["dependencies"],
        *(line for extra in document["optional-dependencies"].values() for line in extra),
    ]
    declared = names_in(lines)
    text = (project / "constraints.txt").read_text(encoding="utf8")
    pinned = {canonical(name) for name in re.findall(r"^([\w-]+)==[\w.]+$", text, re.MULTILINE)}
    assert declared - pinned == set()


def names_in(lines: list[str]) -> set[str]:
    """The distributions that requirements name."""
    return {canonical(re.split(r"[<>=~! ;\[]", line)[0]) for line in lines}


def canonical(name: str) -> str:
    """A distribution name as package tools compare it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
