"""Values of hooks that are of the right type and cannot be used all the same."""

from __future__ import annotations

import time

import pytest
from fixture_types import Cli, WritePlugin
from odd_plugins import HEAD, method, named

YIELDS = "mergecore_merge_methods yields 'x', whose "


def given(**fields: str) -> str:
    """The code of a plugin with a method of these fields."""
    said = {"name": "'x'", "merge": "mean", "params": "Weights"} | fields
    call = ", ".join(f"{key}={value}" for key, value in said.items())
    return f"{HEAD}\n@hookimpl\ndef mergecore_merge_methods():\n    yield MergeMethod({call})\n"


BAD = {
    "no function": ({"merge": "None"}, "merge is None; a function is expected"),
    "params that are an object": (
        {"params": "Weights(weight=1)"},
        "params is Weights(weight=(1.0,)); a class of",
    ),
    "params of pydantic alone": (
        {"params": "dict"},
        "params is <class 'dict'>; a class of Params is expected",
    ),
    "a summary of bytes": ({"summary": "b'x'"}, "summary is b'x'; text is expected"),
    "a family that is not text": ({"family": "3"}, "family is 3; text is expected"),
    "a space that is none": (
        {"space": "'detla'"},
        "space is 'detla'; one of 'weight', 'delta', 'apart' is expected",
    ),
    "one number of models": ({"models": "2"}, "models is 2; a pair such as (1, None) is expected"),
    "a paper that is not text": ({"paper": "1"}, "paper is 1; text is expected"),
    "passes that are no number": (
        {"input_passes": "True"},
        "input_passes is True; a whole number is expected",
    ),
    "a check that is not a function": ({"check_params": "1"}, "check_params is 1; a function is expected"),
    "whole tensors by a number": ({"needs_whole_tensors": "1"}, "needs_whole_tensors is 1; True or False is"),
    "an object of many words": ({"formula": "list(range(99))"}, "formula is a list; text is expected"),
}


@pytest.mark.parametrize(("fields", "told"), BAD.values(), ids=BAD)
def test_a_value_with_an_impossible_field_breaks_its_plugin_alone(
    fields: dict[str, str], told: str, write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("bad", given(**fields))
    write_plugin("good", method("good"))

    plugin = named("bad")

    assert (plugin.status, plugin.code) == ("broken", "E605")
    assert plugin.reason.startswith(f"{YIELDS}{told}")
    assert plugin.cure == (
        "report it to the authors of 'bad', or install another version; --no-plugin bad:bad blocks it"
    )
    assert "  good  " in cli("methods", "list").out
    assert cli("--help").code == 0


OTHERS = {
    "codecs": "OutputWriter(name='x', layout=print, codecs=[1])",
    "rank": "ModelSource(name='x', accepts=print, open=print, rank='first')",
    "describe": "Architecture(name='x', describe='names')",
}


@pytest.mark.parametrize(("name", "call"), OTHERS.items(), ids=OTHERS)
def test_values_of_every_kind_are_looked_at(name: str, call: str, write_plugin: WritePlugin) -> None:
    kind = call.partition("(")[0]
    hook = {"OutputWriter": "output_writers", "ModelSource": "model_sources", "Architecture": "architectures"}
    code = f"from mergecore import {kind}, hookimpl\n@hookimpl\ndef mergecore_{hook[kind]}():\n    yield {call}\n"
    write_plugin("bad", code)
    assert f"yields 'x', whose {name} is " in named("bad").reason
    expected = {"codecs": "a mapping is expected", "rank": "a whole number is", "describe": "a function is"}
    assert expected[name] in named("bad").reason


FAMILY = """
from dataclasses import replace
from mergecore import hookimpl
from mergecore_plugins.moe.families import mixtral as family

@hookimpl
def mergecore_moe_families():
    experts = {name: parts for name, parts in family.names.experts.items() if parts != ("down",)}
    yield replace(family, name="lossy", {field}=replace(family.names, experts=experts))
"""


@pytest.mark.parametrize("field", ["names", "fused"])
def test_a_family_of_mixtures_that_would_lose_matrices_is_not_used(
    field: str, write_plugin: WritePlugin
) -> None:
    write_plugin("lossy", FAMILY.replace("{field}", field))
    assert named("lossy").reason == (
        f"mergecore_moe_families yields 'lossy', whose {field}.experts names the part 'down' 0 times; "
        "each of gate, up and down has one place"
    )


def test_a_command_that_cannot_say_what_it_does_does_not_break_the_help(
    write_plugin: WritePlugin, cli: Cli
) -> None:
    code = """
import click, mergecore

class Rude(click.Command):
    def get_short_help_str(self, limit=45):
        raise RuntimeError("no words")

@mergecore.hookimpl
def mergecore_commands():
    yield Rude("rude")
"""
    write_plugin("rude", code)
    outcome = cli("--help")
    assert (outcome.code, "merge" in outcome.out, "rude" in outcome.out) == (0, True, False)
    assert named("rude").reason == ("mergecore_commands yields 'rude', which raised RuntimeError: no words")


def test_a_hook_that_never_ends_is_cut_off(write_plugin: WritePlugin) -> None:
    write_plugin("endless", method("x").replace("    yield", "    while True: yield"))
    begun = time.perf_counter()
    assert named("endless").reason == "mergecore_merge_methods yields more than 10000 values"
    assert time.perf_counter() - begun < 10
