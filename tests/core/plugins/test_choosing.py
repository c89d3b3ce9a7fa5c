"""Two packages that provide one name: who they are is said, and `NAME@PACKAGE` chooses one, in all places."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixture_types import Cli, WriteModel, WritePlugin
from odd_plugins import discover, method
from safetensors.torch import load_file

from mergecore import ModelSource, PluginError, Registry

COPY_OF = """
from dataclasses import replace
from mergecore import hookimpl
import {module} as other

@hookimpl
def {hook}():
    for value in other.{hook}():
        yield replace(value, name="mine")
        break
"""

HOOKS = {
    "method": ("mergecore_plugins.methods.linear", "mergecore_merge_methods"),
    "writer": ("mergecore_plugins.writers.safetensors", "mergecore_output_writers"),
    "executor": ("mergecore_plugins.executors.threads", "mergecore_executors"),
    "strategy": ("mergecore_plugins.tokenizers.copy", "mergecore_tokenizer_strategies"),
    "side file": ("mergecore_plugins.side_files.model_card", "mergecore_side_files"),
    "chat template": ("mergecore_plugins.side_files.chat_templates", "mergecore_side_files"),
}

WRITTEN: dict[str, Callable[[str], dict[str, Any]]] = {
    "method": lambda name: {"merge_method": name},
    "writer": lambda name: {"output": {"writer": name}},
    "executor": lambda name: {"executor": name},
    "strategy": lambda name: {"tokenizer": {"strategy": name}},
    "side file": lambda name: {"side_files": {name: True, "model_card": False}},
    "chat template": lambda name: {"chat_template": name},
}


@pytest.fixture
def folder(tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", 1.0), ("b", 3.0)):
        write_model(tmp_path / name, value)
    return tmp_path


def write(**more: object) -> str:
    models = [{"model": f"./{name}", "parameters": {"weight": 1}} for name in "ab"]
    Path("config.yml").write_text(yaml.safe_dump({"merge_method": "linear", "models": models, **more}))
    return "config.yml"


@pytest.mark.parametrize("kind", HOOKS)
def test_one_of_two_is_chosen_by_its_package(
    kind: str, folder: Path, write_plugin: WritePlugin, cli: Cli
) -> None:
    module, hook = HOOKS[kind]
    for package in ("one", "two"):
        write_plugin(package, COPY_OF.format(module=module, hook=hook), {"mine": package})

    refused = cli("plan", write(**WRITTEN[kind]("mine")))

    assert refused.code != 0
    if kind != "chat template":  # text that is not a name may be a template
        assert (
            "two plugins claim the name 'mine': mine (one 1.0) and mine (two 1.0); none of them gets it. Hint: "
            "write 'mine@one' for that one, or block one of them, for example with --no-plugin one:mine"
        ) in refused.err
    outcome = cli("merge", write(**WRITTEN[kind]("mine@two")), "out")
    assert outcome.code == 0, outcome.err
    manifest = json.loads(Path("out/mergecore-manifest.json").read_text())
    if kind not in ("executor", "chat template"):  # what changes no weight is not noted
        assert manifest["plugins"]["mine"] == "two 1.0"
    assert load_file("out/model.safetensors")["model.norm.weight"].tolist() == [2.0, 2.0]


def test_the_executor_of_the_command_line_is_chosen_so_too(
    folder: Path, write_plugin: WritePlugin, cli: Cli
) -> None:
    module, hook = HOOKS["executor"]
    for package in ("one", "two"):
        write_plugin(package, COPY_OF.format(module=module, hook=hook), {"mine": package})
    assert cli("merge", write(), "out", "--executor", "mine@one").code == 0
    assert "two plugins claim the name 'mine'" in cli("merge", write(), "x", "--executor", "mine").err


COMMAND = """
import click, mergecore

@mergecore.hookimpl
def mergecore_commands():
    yield click.Command("greet", callback=lambda: print("from PACKAGE"), short_help="greets")
"""


def test_commands_are_chosen_so_too(write_plugin: WritePlugin, cli: Cli) -> None:
    for package in ("one", "two"):
        write_plugin(package, COMMAND.replace("PACKAGE", package))
    assert cli("greet@two").out == "from two\n"
    assert "greet" not in cli("--help").out
    refused = cli("greet")
    assert refused.code == 7
    assert (
        "two plugins claim the name 'greet': one (one 1.0) and two (two 1.0); none of them gets it. Hint: write "
        "'mergecore greet@one' for that one, or block one of them, for example with --no-plugin one:one"
    ) in refused.err


RECIPE = """
from mergecore import Params, Recipe, hookimpl

class Soup(Params):
    soup: tuple[str, ...]

def compile_soup(document, planner):
    model = planner.read_document(Soup).soup[INDEX]
    return planner.compile({"merge_method": "linear", "models": [{"model": model, "parameters": {"weight": 1}}]})

@hookimpl
def mergecore_recipes():
    yield Recipe(name="NAME", accepts=lambda document: ACCEPTS, compile=compile_soup, schema=Soup)
"""


def recipe(name: str, index: int, accepts: str = "'soup' in document") -> str:
    return RECIPE.replace("NAME", name).replace("INDEX", str(index)).replace("ACCEPTS", accepts)


def norm(folder: str) -> float:
    return float(load_file(f"{folder}/model.safetensors")["model.norm.weight"][0])


def soup(**more: object) -> str:
    Path("soup.yml").write_text(yaml.safe_dump({**more, "soup": ["./a", "./b"]}))
    return "soup.yml"


def test_of_two_recipes_of_one_name_the_document_chooses_one(
    folder: Path, write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("one", recipe("soup", 0), {"soup": "one"})
    write_plugin("two", recipe("soup", 1), {"soup": "two"})

    refused = cli("plan", soup())

    assert refused.code == 7
    assert (
        "two plugins claim the name 'soup': soup (one 1.0) and soup (two 1.0); none of them gets it. Hint: write "
        "'recipe: soup@one' for that one, or block one of them"
    ) in refused.err
    for number, package in enumerate(("one", "two")):
        assert cli("merge", soup(recipe=f"soup@{package}"), package).code == 0
        assert norm(package) == (1.0, 3.0)[number]
    manifest = json.loads(Path("two/mergecore-manifest.json").read_text())
    assert "recipe" not in manifest["document"]  # it is that of the merge which the recipe makes


def test_of_two_recipes_that_accept_one_document_it_names_one(
    folder: Path, write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("one", recipe("broth", 0))
    write_plugin("two", recipe("stew", 1))

    refused = cli("plan", soup())

    assert refused.code == 7
    assert (
        "several recipes accept this document: 'broth' (one 1.0) and 'stew' (two 1.0). "
        "Hint: write 'recipe: broth' in it, or another of these names"
    ) in refused.err
    assert cli("merge", soup(recipe="stew"), "out").code == 0
    assert norm("out") == 3.0
    assert "unknown recipe 'steww'; did you mean 'stew'?" in cli("plan", soup(recipe="steww")).err
    assert "soup.yml:1:9: 'recipe' is 3; the name of a recipe is expected" in cli("plan", soup(recipe=3)).err


def test_a_recipe_that_accepts_everything_changes_no_merge_and_no_other_recipe(
    folder: Path, write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("greedy", recipe("aaa", 1, accepts="True"))
    assert cli("merge", write(), "out").code == 0
    assert norm("out") == 2.0
    outcome = cli("plan", soup(pick_experts={"model": "./a"}))
    assert "unknown key 'soup' in the document of a choice of experts" in outcome.err


# ---- what nobody names -------------------------------------------------------------------------------------

SOURCE = """
from mergecore import ModelSource, hookimpl
from mergecore.models import open_folder
from pathlib import Path

@hookimpl
def mergecore_model_sources():
    yield ModelSource(
        name="zoo", rank=10, accepts=lambda one, _: one.path.startswith("zoo:"),
        open=lambda one, _: open_folder(Path(one.path[4:]), one),
    )
"""


def test_sources_of_one_name_are_told_apart_by_blocking_one(
    folder: Path, write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("one", SOURCE)
    write_plugin("two", SOURCE)
    with pytest.raises(PluginError) as caught:
        discover().get(ModelSource, "zoo")
    assert caught.value.hint == "block one of them, for example with --no-plugin one:one"
    [problem] = [one for one in discover().plugins() if one.name == "two"]
    assert (problem.status, problem.cure) == ("contested", caught.value.hint)
    entries = [{"model": f"zoo:{name}", "parameters": {"weight": 1}} for name in "ab"]
    assert cli("merge", write(models=entries), "out", "--no-plugin", "two").code == 0
    assert norm("out") == 2.0


def test_the_name_of_a_built_in_source_is_told_without_a_way_to_write_it(write_plugin: WritePlugin) -> None:
    write_plugin("one", SOURCE.replace('"zoo"', '"hub"'))
    [problem] = [one for one in discover().plugins() if one.name == "one"]
    assert problem.reason == "the name 'hub' is that of a built-in model source, which stays"
    assert problem.cure == "to use this one, block the built-in one with --no-plugin mergecore:hub"


REPORTER = """
from mergecore import hookimpl
@hookimpl
def mergecore_report(event):
    print("PACKAGE", type(event).__name__)
"""


def test_reporters_of_one_name_both_hear_and_each_can_be_blocked(
    folder: Path, write_plugin: WritePlugin, cli: Cli
) -> None:
    for package in ("one", "two"):
        write_plugin(package, REPORTER.replace("PACKAGE", package), {"mine": package})
    heard = cli("merge", write(), "out").err
    assert ("one PlanReady" in heard, "two PlanReady" in heard) == (True, True)
    heard = cli("merge", write(), "again", "--no-plugin", "mine@one").err
    assert ("one PlanReady" in heard, "two PlanReady" in heard) == (False, True)


# ---- what harms nobody else --------------------------------------------------------------------------------

ODD = {
    "broken": "raise ImportError('no cuda')",
    "exits": "import os, sys\nsys.exit(3)",
    "new": "MERGECORE_API = 99\nfrom mergecore import Later\n",
    "garbage": method("x").replace("yield MergeMethod(", "yield print or MergeMethod("),
    "loud": "print('LOUD')\n" + method("loud"),
    "slow": "import time\ntime.sleep(0.2)\n" + method("slow"),
    "recursive": "def f(): f()\nf()",
    "ties": method("ties"),
}


def test_odd_packages_all_at_once_harm_no_help_no_list_and_no_merge(
    folder: Path, write_plugin: WritePlugin, cli: Cli
) -> None:
    for name, code in ODD.items():
        write_plugin(f"p_{name}", code, {name: f"p_{name}"})

    for words in (
        ["--help"],
        ["plugins", "list"],
        ["methods", "list"],
        ["methods", "show", "ties"],
        ["schema"],
    ):
        outcome = cli(*words)
        assert (outcome.code, "LOUD" in outcome.out) == (0, False), words
    assert cli("merge", write(), "out").code == 0
    assert norm("out") == 2.0
    states = {one.name: one.status for one in Registry.discover((), {}).plugins() if not one.built_in}
    assert states == {
        "broken": "broken", "exits": "broken", "new": "broken", "garbage": "broken", "recursive": "broken",
        "loud": "active", "slow": "active", "ties": "contested",
    }  # fmt: skip
    assert json.loads(cli("plugins", "list", "--json").out)
