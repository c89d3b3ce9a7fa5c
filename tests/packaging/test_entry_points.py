"""Entry points: one for each module with a hook, sorted, installed, and all of them work."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import importlib_metadata
import pytest
from house import distributions, sources

from mergecore.plugins.registry import Registry


@pytest.fixture(scope="module")
def declared(project: Path) -> dict[str, str]:
    """The entry points of pyproject.toml, in the order they stand there."""
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf8"))
    entries: dict[str, str] = document["project"]["entry-points"]["mergecore"]
    return entries


def implements_a_hook(module: Path) -> bool:
    tree = ast.parse(module.read_text(encoding="utf8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return any("hookimpl" in ast.unparse(mark) for function in functions for mark in function.decorator_list)


def modules_with_hooks(project: Path) -> set[str]:
    own = {folder.name for distribution in distributions(project) for folder in distribution.iterdir()}
    return {
        module
        for module, path in sources(project)
        if module.partition(".")[0] not in own and implements_a_hook(path)
    }


def test_every_module_with_a_hook_has_an_entry_point_and_the_reverse(
    declared: dict[str, str], project: Path
) -> None:
    assert set(declared.values()) == modules_with_hooks(project)


def test_no_module_has_two_entry_points(declared: dict[str, str]) -> None:
    assert len(set(declared.values())) == len(declared)


def test_entry_points_are_sorted(declared: dict[str, str]) -> None:
    assert list(declared) == sorted(declared)


def test_an_entry_point_is_called_as_its_module(declared: dict[str, str]) -> None:
    assert list(declared) == [module.rpartition(".")[2] for module in declared.values()]


def test_the_installed_entry_points_are_those_of_the_project(declared: dict[str, str]) -> None:
    points = importlib_metadata.distribution("mergecore").entry_points.select(group="mergecore")
    assert {point.name: point.value for point in points} == declared, "run `pip install -e .` again"


def test_every_built_in_plugin_works_and_provides_what_its_name_says(declared: dict[str, str]) -> None:
    own = [plugin for plugin in Registry.discover((), {}).plugins() if plugin.built_in]
    assert [(plugin.name, plugin.status, plugin.reason) for plugin in own] == [
        (name, "active", "") for name in declared
    ]
    for plugin in own:
        if plugin.name in ("chat_templates", "averaging", "families", "samplers"):
            continue  # each is called as configs call it; the method has the name of its command
        names = [offer.partition(":")[2] for offer in plugin.provides if offer != "Reporter"]
        command = plugin.name.replace("_", "-")  # as commands of several words are called
        assert plugin.name in names or command in names or not names, plugin
