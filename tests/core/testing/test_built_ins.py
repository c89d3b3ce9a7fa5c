"""Every built-in plugin keeps what the kit asks of its kind; new ones are found by themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import Cli, WritePlugin
from odd_plugins import method
from tiny import registry

from mergecore.testing import Finding, findings_of

PLUGINS = {one.name: one for one in registry().plugins() if one.built_in}
METHODS = [name for name, one in PLUGINS.items() if one.module.startswith("mergecore_plugins.methods.")]
WITHOUT = ("process",)
"""It takes its time; for all methods at once, it is in the tests of what is wrong with methods."""
SKIPPED_THERE = {"base", "equal", "models", "whole", "later", "factors", "used", "process", "numbers", "runs"}
"""What does not apply to some, or needs what nobody gives here."""


def found(name: str) -> list[Finding]:
    return list(findings_of(PLUGINS[name], registry(), without=WITHOUT))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PLUGINS if name not in METHODS])
def test_a_built_in_plugin_passes(name: str) -> None:
    assert [one for one in found(name) if one.outcome == "failed"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_built_in_method_passes_everything_that_applies(name: str) -> None:
    findings = found(name)
    assert [one for one in findings if one.outcome == "failed"] == []
    assert {one.property for one in findings if one.outcome == "skipped"} <= SKIPPED_THERE


# ---- the command -------------------------------------------------------------------------------------------


def test_the_command_says_what_was_checked_and_found(cli: Cli) -> None:
    outcome = cli("plugins", "test", "passthrough")
    assert outcome.code == 0
    assert outcome.out.startswith(
        "plugin 'passthrough'\n  ok       loaded      it can be used\n\nmerge method 'passthrough'\n"
        "  ok       described   it says what it does, and what its parameters mean\n"
    )
    assert "  skipped  base        models equal to the base give the base\n" in outcome.out
    assert " passed, 0 failed, " in outcome.out.splitlines()[-1]


def test_a_plugin_that_fails_is_told_and_sets_the_exit_code(cli: Cli, write_plugin: WritePlugin) -> None:
    write_plugin("noisy", method("noisy", "noisy").replace("def mean", NOISY + "def mean"))
    outcome = cli("plugins", "test", "noisy@noisy")
    assert outcome.code == 7
    assert "  FAILED   same        merged again, the result is the same\n" in outcome.out
    assert "another result each time for shape []; take random numbers from `block.uniform`" in outcome.out
    told = json.loads(cli("plugins", "test", "noisy", "--json").out)
    assert told["failed"] >= 1
    assert {"subject", "property", "says", "outcome", "text"} == set(told["findings"][0])


NOISY = """
def noisy(group, params):
    import torch
    return group.map(lambda block: block.x.mean(0) + torch.rand(block.x.shape[1:]))

"""


def test_a_plugin_that_cannot_be_loaded_fails(cli: Cli, write_plugin: WritePlugin) -> None:
    write_plugin("broken", "raise ValueError('no')")
    outcome = cli("plugins", "test", "broken")
    assert outcome.code == 7
    assert "  FAILED   loaded      it can be used\n" in outcome.out
    assert "ValueError: no" in outcome.out


def test_kinds_and_names_that_are_not_there_are_refused(cli: Cli) -> None:
    outcome = cli("plugins", "test", "linear", "--kind", "merge methud")
    assert outcome.code == 2
    assert (
        "there is no kind 'merge methud'; did you mean 'merge method'? Hint: there are model source, "
        in outcome.err
    )
    assert "'linaer' is not an installed plugin" in cli("plugins", "test", "linaer").err


def test_checks_are_left_out_by_their_names(cli: Cli) -> None:
    outcome = cli("plugins", "test", "jsonl", "--without", "quiet")
    assert "  skipped  quiet       it prints nothing where nothing is to be shown\n" in outcome.out
    assert "left out" in outcome.out


def test_a_recipe_is_checked_with_a_document(cli: Cli, tmp_path: Path) -> None:
    from mergecore.testing import tiny_model

    model = tiny_model(tmp_path / "model")
    document = tmp_path / "moe.yml"
    document.write_text(
        f"base_model: {model}\ngate_mode: random\nallow_identical: true\n"
        f"experts:\n- source_model: {model}\n- source_model: {model}\n"
    )
    outcome = cli("plugins", "test", "moe", "--kind", "recipe", "--document", document)
    assert "ok       made        what it plans is made and verified" in outcome.out
    assert outcome.code == 0, outcome.out
