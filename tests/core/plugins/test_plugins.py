"""Plugins of others: found and isolated; commands of theirs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from fixture_types import Cli, WritePlugin
from odd_plugins import discover, method, named, refusal, reporter

from mergecore import MergeMethod
from mergecore.cli.app import cli as group
from mergecore.plugins.loading import HOOK_OF, OWN_COMMANDS
from mergecore.plugins.registry import WORD_OF, Plugin

# ---- a plugin that works -----------------------------------------------------------------------------------


def test_a_plugin_is_listed_with_its_distribution_and_what_it_provides(write_plugin: WritePlugin) -> None:
    write_plugin("otherpeople", method("midpoint"), {"midpoint": "otherpeople"}, version="2.3")
    assert named("midpoint") == Plugin(
        "midpoint", "otherpeople", "otherpeople", "2.3", "active", provides=("MergeMethod:midpoint",)
    )


def test_a_plugin_can_yield_values_and_hear_events(write_plugin: WritePlugin) -> None:
    write_plugin("both", method("both") + reporter("pass"))
    assert named("both").provides == ("MergeMethod:both", "Reporter")


def test_a_value_says_which_plugin_provides_it(write_plugin: WritePlugin) -> None:
    write_plugin("many", method("some_method"), {"many": "many"})
    registry = discover()
    assert registry.get(MergeMethod, "some_method").name == "some_method"
    assert registry.provider(MergeMethod, "some_method").origin == "many 1.0"
    assert registry.provider(MergeMethod, "ties").origin.endswith(", built-in")


def test_a_method_that_is_called_as_its_plugin_is_found_without_loading_others(
    write_plugin: WritePlugin,
) -> None:
    write_plugin("unneeded", "raise ImportError('it was loaded')")
    registry = discover()
    registry.get(MergeMethod, "ties")
    assert "unneeded" not in sys.modules
    assert registry._slots[0].plugin.status == "not loaded"


def test_a_method_of_a_plugin_merges(
    write_plugin: WritePlugin, config_for: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("others", method("halfway"), {"halfway": "others"})
    assert cli("merge", config_for("halfway"), "out").code == 0
    from safetensors.torch import load_file

    assert load_file("out/model.safetensors")["model.norm.weight"].tolist() == [1.5, 1.5]  # (1 + 2) / 2
    assert json.loads(Path("out/mergecore-manifest.json").read_text())["plugins"]["halfway"] == "others 1.0"


def test_every_kind_of_value_has_a_hook_and_a_word() -> None:
    assert HOOK_OF.keys() == WORD_OF.keys()


def test_the_names_of_the_commands_of_the_core_are_reserved(write_plugin: WritePlugin) -> None:
    import_module("mergecore.cli.commands")
    assert set(group.commands) == set(OWN_COMMANDS)
    code = "import click, mergecore\n@mergecore.hookimpl\ndef mergecore_commands():\n    yield click.Command('merge')\n"
    write_plugin("rude", code)
    assert named("rude").reason == "mergecore_commands yields 'merge', a command of mergecore itself"


# ---- one that does not -------------------------------------------------------------------------------------

BROKEN = {
    "import error": ("raise ImportError('no cuda')", "E601", "ImportError: no cuda"),
    "syntax error": ("def", "E601", "SyntaxError: invalid syntax (bad.py, line 1)"),
    "exit": ("import sys; sys.exit(0)", "E601", "SystemExit: 0"),
    "speechless": (
        "class Odd(RuntimeError):\n    def __str__(self):\n        raise ValueError('no')\nraise Odd",
        "E601",
        "Odd",
    ),
    "escape sequence": (r"raise ValueError('\x1b[31m\nred')", "E601", "ValueError: \\x1b[31m red"),
    "API of the past": ("MERGECORE_API = 0", "E603", "it needs mergecore API 0; this is 1"),
    "API of the future": ("MERGECORE_API = 2", "E603", "it needs mergecore API 2; this is 1"),
    "API of the future that cannot be imported here": (
        "MERGECORE_API = 2\nfrom mergecore import Nebula",
        "E603",
        "it needs mergecore API 2; this is 1 (ImportError: cannot import name 'Nebula' from 'mergecore' (",
    ),
    "API that is no number": (
        "MERGECORE_API = '1'",
        "E605",
        "it states MERGECORE_API = '1'; a whole number is expected",
    ),
    "misspelled hook": (
        method("x").replace("mergecore_merge_methods", "mergecore_merge_method"),
        "E605",
        "there is no hook 'mergecore_merge_method'; did you mean 'mergecore_merge_methods'?",
    ),
    "no hook": ("", "E605", "it implements no hook of mergecore"),
    "no decorator": (
        "def mergecore_merge_methods():\n    yield 1\n",
        "E605",
        "it implements no hook of mergecore: 'mergecore_merge_methods' lacks the decorator @hookimpl",
    ),
    "wrong argument": (
        reporter("pass").replace("(event)", "(evnt)"),
        "E605",
        "Plugin 'bad' for hook 'mergecore_report' hookimpl definition: mergecore_report(evnt) Argument(s) {'evnt'} "
        "are declared in the hookimpl but can not be found in the hookspec",
    ),
    "wrong type": (
        method("x").replace("yield MergeMethod(name", "yield dict(name"),
        "E605",
        "mergecore_merge_methods yields dict where MergeMethod is expected",
    ),
    "other kind": (
        method("x").replace("mergecore_merge_methods", "mergecore_executors"),
        "E605",
        "mergecore_executors yields MergeMethod where Executor is expected",
    ),
    "nothing yielded": (
        method("x").replace("yield ", ""),
        "E605",
        "mergecore_merge_methods returns NoneType, yields nothing",
    ),
    "bad name": (
        method("a b"),
        "E605",
        "mergecore_merge_methods yields the name 'a b'; letters, digits, '_', '-' and '.' are expected",
    ),
    "hook that raises": (
        method("x").replace("yield", "raise KeyError('a')\n    yield"),
        "E604",
        "mergecore_merge_methods raised KeyError: 'a'",
    ),
    "name twice": (
        method("x") + "    yield MergeMethod(name='x', merge=mean, params=Weights)\n",
        "E602",
        "mergecore_merge_methods yields two values called 'x'",
    ),
}


@pytest.mark.parametrize(("code", "error", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_plugin_that_cannot_be_used_is_listed_with_the_reason(
    code: str, error: str, reason: str, write_plugin: WritePlugin
) -> None:
    write_plugin("bad", code)
    plugin = named("bad")
    assert (plugin.status, plugin.code) == ("broken", error)
    assert plugin.reason.startswith(reason) if reason.endswith("(") else plugin.reason == reason
    assert plugin.cure


@pytest.mark.parametrize("code", [case[0] for case in BROKEN.values()], ids=BROKEN)
def test_nothing_is_left_of_a_plugin_that_cannot_be_used(code: str, write_plugin: WritePlugin) -> None:
    write_plugin("bad", code)
    registry = discover()
    others = [plugin for plugin in registry.plugins() if plugin.name != "bad"]
    assert {plugin.status for plugin in others} == {"active"}
    assert "bad" not in registry._loader.reporters()
    assert "x" not in [one.name for one in registry.all(MergeMethod)]


def test_an_interrupt_while_a_plugin_is_imported_stops_the_program(write_plugin: WritePlugin) -> None:
    write_plugin("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        discover().load_all()


def test_one_module_cannot_be_two_plugins(write_plugin: WritePlugin) -> None:
    write_plugin("twice", method("x"), {"first": "twice", "second": "twice"})
    registry = discover()
    assert named("first", registry).status == "active"
    assert named("second", registry).reason == "its module is plugin 'first' already"


def test_wanting_a_broken_plugin_names_its_distribution_and_the_reason(write_plugin: WritePlugin) -> None:
    write_plugin("quits", "import sys; sys.exit(0)", {"brk": "quits"})
    error = refusal("brk")
    assert (error.code, error.exit_code, error.plugin) == ("E601", 7, "brk")
    assert str(error) == (
        "merge method 'brk' comes with plugin 'brk' (quits 1.0), which cannot be used: SystemExit: 0. "
        "Hint: install what it needs, or another version of 'quits'; --no-plugin quits:brk blocks it"
    )


def test_wanting_a_plugin_for_another_api_says_which_one_it_needs(write_plugin: WritePlugin) -> None:
    write_plugin("old", "MERGECORE_API = 0\n" + method("brk"), {"brk": "old"})
    error = refusal("brk")
    assert (error.code, error.exit_code) == ("E603", 7)
    assert str(error).endswith(
        "which cannot be used: it needs mergecore API 0; this is 1. "
        "Hint: upgrade this plugin; if there is no newer version, ask its authors for one"
    )


def test_a_broken_plugin_that_is_not_used_costs_a_warning(
    write_plugin: WritePlugin, config_for: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("broken", "raise ImportError('no cuda')")
    outcome = cli("merge", config_for("linear"), "out")
    assert outcome.code == 0
    assert outcome.err.count("plugin 'broken' (broken 1.0) cannot be used: ImportError: no cuda") == 1
    assert json.loads(Path("out/mergecore-manifest.json").read_text())["warnings"] == []


# ---- damaged installations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", ["", "Metadata-Version: 2.1\n"], ids=["none", "no name"])
def test_a_plugin_whose_metadata_is_gone_is_still_a_plugin(metadata: str, write_plugin: WritePlugin) -> None:
    write_plugin("half", method("half"), metadata=metadata)
    assert (named("half").status, named("half").origin) == ("active", "? ?")


@pytest.mark.parametrize("entries", [b"[mergecore]\nnonsense\n", b"\xff\xfe"], ids=["no value", "no text"])
def test_a_distribution_whose_entry_points_cannot_be_read_is_listed(
    entries: bytes, write_plugin: WritePlugin
) -> None:
    folder = write_plugin("damaged", method("x"))
    (folder / "damaged-1.0.dist-info" / "entry_points.txt").write_bytes(entries)
    from mergecore.plugins.discovery import installed

    [plugin] = [plugin for plugin, _ in installed((), {}) if plugin.distribution == "damaged"]
    assert (plugin.name, plugin.status) == ("damaged", "broken")
    assert plugin.reason.startswith("its entry_points.txt cannot be read: ")
    assert len(installed((), {})) > 10


def test_of_two_installed_versions_the_one_that_is_imported_counts(write_plugin: WritePlugin) -> None:
    write_plugin("twin", method("x"), {"x": "twin"}, version="1.0")
    second = write_plugin("elsewhere", method("x"), {"x": "elsewhere"})
    facts = second / "elsewhere-1.0.dist-info" / "METADATA"
    facts.write_text("Metadata-Version: 2.1\nName: twin\nVersion: 2.0\n")  # this one is first on the path
    assert named("x").origin == "twin 2.0"


# ---- commands ----------------------------------------------------------------------------------------------


def test_the_command_of_a_broken_plugin_says_why_it_is_not_there(write_plugin: WritePlugin, cli: Cli) -> None:
    write_plugin("broken", "raise ImportError('no cuda')")
    outcome = cli("broken")
    assert outcome.code == 7
    assert (
        "E601: command 'broken' comes with plugin 'broken' (broken 1.0), which cannot be used" in outcome.err
    )


def test_a_command_that_nobody_has_is_an_error_of_usage(cli: Cli) -> None:
    outcome = cli("mrege")
    assert outcome.code == 2
    assert "No such command 'mrege'" in outcome.err
