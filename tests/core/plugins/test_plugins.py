"""Plugins of others: found, isolated, blocked, contested; and what a merge says that needs one that is not there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import pytest
from fixture_types import Cli, WriteModel, WritePlugin

from mergecore import ConfigError, Executor, MergecoreError, MergeMethod, PluginError
from mergecore.cli.app import cli as group
from mergecore.plugins.loading import HOOK_OF, OWN_COMMANDS
from mergecore.plugins.registry import WORD_OF, Plugin, Registry
from mergecore.types.events import Display, Warned

HEAD = """
from mergecore import Executor, MergeMethod, Params, PerModel, hookimpl

class Weights(Params):
    weight: PerModel[float]

def mean(group, params):
    return group.map(lambda block: block.x.mean(0))
"""


def method(name: str, function: str = "mean") -> str:
    """The code of a plugin with one merge method."""
    return f"""{HEAD}
@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="{name}", merge={function}, params=Weights)
"""


def reporter(body: str) -> str:
    """The code of a plugin with one reporter."""
    return f"""
from mergecore import hookimpl

@hookimpl
def mergecore_report(event):
    {body}
"""


def discover(environ: Mapping[str, str] | None = None, disabled: tuple[str, ...] = ()) -> Registry:
    return Registry.discover(disabled, environ or {})


def named(name: str, registry: Registry | None = None) -> Plugin:
    """The only plugin of that name that does not come with mergecore."""
    [found] = [p for p in (registry or discover()).plugins() if p.name == name and not p.built_in]
    return found


def refusal(name: str, registry: Registry | None = None) -> PluginError:
    """The error for wanting the merge method `name`."""
    with pytest.raises(PluginError) as caught:
        (registry or discover()).get(MergeMethod, name)
    return caught.value


@pytest.fixture
def config(tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A function that writes a config for two models and a method with weights, in the working directory."""
    monkeypatch.chdir(tmp_path)
    models = [write_model(tmp_path / "a", 1.0), write_model(tmp_path / "b", 2.0)]
    entries = "".join(f"  - model: ./{model.name}\n    parameters: {{weight: 1}}\n" for model in models)

    def write(name: str) -> Path:
        path = tmp_path / "config.yml"
        path.write_text(f"merge_method: {name}\nmodels:\n{entries}")
        return path

    return write


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
    write_plugin: WritePlugin, config: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("others", method("average"), {"average": "others"})
    assert cli("merge", config("average"), "out").code == 0
    from safetensors.torch import load_file

    assert load_file("out/model.safetensors")["model.norm.weight"].tolist() == [1.5, 1.5]  # (1 + 2) / 2
    assert json.loads(Path("out/mergecore-manifest.json").read_text())["plugins"]["average"] == "others 1.0"


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
    "escape sequence": (r"raise ValueError('\x1b[31m\nred')", "E601", "ValueError: \\x1b[31m red"),
    "API of the past": ("MERGECORE_API = 0", "E603", "it needs mergecore API 0; this is 1"),
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
    assert (plugin.status, plugin.code, plugin.reason) == ("broken", error, reason)


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
        "merge method 'brk' comes with plugin 'brk' (quits 1.0), which cannot be used: SystemExit: 0"
    )


def test_wanting_a_plugin_for_another_api_says_which_one_it_needs(write_plugin: WritePlugin) -> None:
    write_plugin("old", "MERGECORE_API = 0\n" + method("brk"), {"brk": "old"})
    error = refusal("brk")
    assert (error.code, error.exit_code) == ("E603", 7)
    assert str(error).endswith("which cannot be used: it needs mergecore API 0; this is 1")


def test_a_broken_plugin_that_is_not_used_costs_a_warning(
    write_plugin: WritePlugin, config: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("broken", "raise ImportError('no cuda')")
    outcome = cli("merge", config("linear"), "out")
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


# ---- names that nobody provides ----------------------------------------------------------------------------


def test_a_name_near_a_known_one_is_a_slip(write_plugin: WritePlugin) -> None:
    with pytest.raises(ConfigError, match=r"^unknown merge method 'tise'; did you mean 'ties'\?") as caught:
        discover().get(MergeMethod, "tise")
    assert (caught.value.code, caught.value.exit_code) == ("E108", 2)


def test_a_name_near_nothing_wants_a_plugin_that_is_not_installed(write_plugin: WritePlugin) -> None:
    write_plugin("broken", "raise ImportError('no cuda')")
    with pytest.raises(ConfigError) as caught:
        discover().get(MergeMethod, "quintessence")
    assert (caught.value.code, caught.value.exit_code) == ("E606", 2)
    text = str(caught.value)
    assert text.startswith("merge method 'quintessence': no installed plugin provides it. Hint: installed: ")
    assert text.endswith("; cannot be used, and may provide it: broken (broken)")


def test_a_name_that_only_resembles_a_known_one_may_be_that_of_another_plugin() -> None:
    with pytest.raises(ConfigError, match=r"^merge method 'sliced_terpo': no installed plugin") as caught:
        discover().get(MergeMethod, "sliced_terpo")
    assert caught.value.code == "E606"
    with pytest.raises(ConfigError, match=r"provides it; did you mean 'passthrough'\?") as caught:
        discover().get(MergeMethod, "passthrough_of_layers")
    assert caught.value.code == "E606"
    with pytest.raises(ConfigError, match=r"^unknown merge method 'TIES'; did you mean 'ties'\?") as caught:
        discover().get(MergeMethod, "TIES")
    assert caught.value.code == "E108"


def test_a_plugin_of_that_name_and_another_kind_does_not_help() -> None:
    with pytest.raises(ConfigError, match=r"^merge method 'threads': no installed plugin provides it"):
        discover().get(MergeMethod, "threads")
    with pytest.raises(ConfigError, match=r"^unknown executor 'thread'; did you mean 'threads'\?"):
        discover().get(Executor, "thread")


# ---- blocking ----------------------------------------------------------------------------------------------

BLOCKED = {
    "option": ((("x",)), {}, "blocked by --no-plugin. Hint: do without that option"),
    "option with the distribution": ((("p",)), {}, "blocked by --no-plugin. Hint: do without that option"),
    "option with both": ((("P:x",)), {}, "blocked by --no-plugin. Hint: do without that option"),
    "list": (
        (),
        {"MERGECORE_DISABLE_PLUGINS": "other, x"},
        "blocked by MERGECORE_DISABLE_PLUGINS. Hint: take it off that list",
    ),
    "no others": (
        (),
        {"MERGECORE_PLUGINS": "none"},
        "blocked by MERGECORE_PLUGINS. Hint: add it to that list",
    ),
    "only one other": (
        (),
        {"MERGECORE_PLUGINS": "y"},
        "blocked by MERGECORE_PLUGINS. Hint: add it to that list",
    ),
}


@pytest.mark.parametrize(("disabled", "environ", "told"), BLOCKED.values(), ids=BLOCKED)
def test_a_blocked_plugin_is_not_imported_and_says_what_blocks_it(
    disabled: tuple[str, ...], environ: dict[str, str], told: str, write_plugin: WritePlugin
) -> None:
    write_plugin("p", "raise SystemExit", {"x": "p"})
    registry = discover(environ, disabled)
    assert named("x", registry).status == "blocked"
    error = refusal("x", registry)
    assert (error.code, error.exit_code) == ("E607", 7)
    assert str(error) == f"merge method 'x' comes with 'p' 1.0, which is {told}"


def test_what_is_on_the_list_of_plugins_and_what_is_built_in_are_not_blocked(
    write_plugin: WritePlugin,
) -> None:
    write_plugin("p", method("x"), {"x": "p"})
    write_plugin("q", method("y"), {"y": "q"})
    registry = discover({"MERGECORE_PLUGINS": "q"})
    assert [plugin.name for plugin in registry.plugins() if plugin.status == "blocked"] == ["x"]


def test_a_built_in_plugin_can_be_blocked_and_replaced(write_plugin: WritePlugin) -> None:
    assert refusal("ties", discover(disabled=("ties",))).code == "E607"
    write_plugin("better", method("ties"), {"better": "better"})
    registry = discover(disabled=("ties",))
    assert registry.get(MergeMethod, "ties").params.__name__ == "Weights"
    assert registry.provider(MergeMethod, "ties").origin == "better 1.0"


def test_blocking_what_is_not_installed_is_a_slip(cli: Cli) -> None:
    outcome = cli("plugins", "list", "--no-plugin", "tise")
    assert outcome.code == 2
    assert outcome.err == (
        "mergecore: error E606: --no-plugin: 'tise' is not installed; did you mean 'ties'? "
        "Hint: see `mergecore plugins list`\n"
    )


def test_a_blocked_source_is_named_when_a_model_cannot_be_opened(
    config: Callable[[str], Path], cli: Cli
) -> None:
    outcome = cli("plan", config("linear"), "--no-plugin", "local")
    assert outcome.code == 3
    assert "'./a': no installed plugin opens it; a folder or a hub id is expected" in outcome.err
    assert "these plugins cannot be used: local (blocked); see `mergecore plugins list`" in outcome.err


# ---- conflicts ---------------------------------------------------------------------------------------------


STAYS = (
    "the name 'ties' is that of a built-in merge method, which stays; to use this one, write 'ties@z_evil', "
    "or block the built-in one with --no-plugin mergecore:ties"
)


@pytest.mark.parametrize("entry", ["ties", "other"])
def test_a_stranger_takes_no_name_from_a_built_in_plugin(entry: str, write_plugin: WritePlugin) -> None:
    write_plugin("z_evil", method("ties"), {entry: "z_evil"})
    registry = discover()

    assert registry.get(MergeMethod, "ties").space == "delta"
    assert registry.provider(MergeMethod, "ties").built_in
    stranger = next(p for p in registry.plugins() if p.distribution == "z_evil")
    assert (stranger.status, stranger.code, stranger.reason) == ("contested", "E602", STAYS)


def test_a_stranger_keeps_what_it_has_beside_the_name_of_a_built_in_plugin(write_plugin: WritePlugin) -> None:
    code = method("ties") + "    yield MergeMethod(name='extra', merge=mean, params=Weights)\n"
    write_plugin("z_evil", code, {"ties": "z_evil"})
    registry = discover()

    assert registry.get(MergeMethod, "extra").name == "extra"
    stranger = next(p for p in registry.plugins() if p.distribution == "z_evil")
    assert (stranger.status, stranger.provides) == ("active", ("MergeMethod:extra",))


def test_a_stranger_is_chosen_by_name_and_distribution(
    write_plugin: WritePlugin, config: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("z_evil", method("ties"), {"ties": "z_evil"})

    assert discover().get(MergeMethod, "ties@z_evil").space == "weight"
    assert discover().get(MergeMethod, "ties@Z-Evil").space == "weight"
    outcome = cli("merge", config("ties@z_evil"), "out")
    assert outcome.code == 0
    manifest = json.loads(Path("out/mergecore-manifest.json").read_text())
    assert manifest["plugins"]["ties"] == "z_evil 1.0"


def test_a_distribution_that_does_not_provide_the_name_is_told(write_plugin: WritePlugin) -> None:
    write_plugin("z_evil", method("ties"), {"ties": "z_evil"})

    with pytest.raises(ConfigError) as caught:
        discover().get(MergeMethod, "ties@nobody")
    assert caught.value.code == "E606"
    assert str(caught.value) == (
        "merge method 'ties@nobody': no plugin of 'nobody' provides it. "
        "Hint: there is ties@mergecore, ties@z_evil"
    )


def test_blocking_the_built_in_plugin_gives_its_name_to_the_stranger(write_plugin: WritePlugin) -> None:
    write_plugin("z_evil", method("ties"), {"ties": "z_evil"})
    assert discover(disabled=("z_evil",)).get(MergeMethod, "ties").space == "delta"
    assert discover(disabled=("mergecore:ties",)).get(MergeMethod, "ties").space == "weight"


def test_the_plugin_of_a_name_wins_over_another_stranger(write_plugin: WritePlugin) -> None:
    write_plugin("aaa", method("mine"), {"aaa": "aaa"})
    write_plugin("zzz", method("mine"), {"mine": "zzz"})
    registry = discover()

    assert registry.provider(MergeMethod, "mine").distribution == "zzz"
    assert named("aaa", registry).reason == (
        "the name 'mine' belongs to the plugin 'mine' (zzz 1.0); to use this one, write 'mine@aaa'"
    )


def test_two_distributions_that_claim_one_plugin_name_get_nothing(write_plugin: WritePlugin) -> None:
    write_plugin("one", method("mine"), {"mine": "one"})
    write_plugin("two", method("mine"), {"mine": "two"})
    registry = discover()

    error = refusal("mine", registry)
    assert (error.code, error.exit_code) == ("E602", 7)
    assert str(error) == (
        "two plugins claim the name 'mine': mine (one 1.0) and mine (two 1.0); none of them gets it. Hint: write "
        "'mine@one' for that one, or block one of them, for example with --no-plugin one:mine"
    )
    assert registry.provider(MergeMethod, "mine@two").distribution == "two"


def test_a_merge_with_another_method_does_not_care(
    write_plugin: WritePlugin, config: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("z_evil", method("ties"), {"ties": "z_evil"})
    outcome = cli("merge", config("linear"), "out")
    assert outcome.code == 0
    assert f"warning: plugin 'ties' (z_evil 1.0) cannot be used: {STAYS}" in outcome.err


@pytest.mark.parametrize("first", ["one", "two"])
def test_two_plugins_that_yield_one_name_both_lose_it_and_keep_the_rest(
    first: str, write_plugin: WritePlugin
) -> None:
    write_plugin("one", method("same") + "    yield MergeMethod(name='extra', merge=mean, params=Weights)\n")
    write_plugin("two", method("same"))
    registry = discover()
    with pytest.raises(MergecoreError):
        registry.get(MergeMethod, first)  # whichever is loaded first
    error = refusal("same", registry)
    claim = "two plugins claim the name 'same': one (one 1.0) and two (two 1.0); none of them gets it"
    hint = "write 'same@one' for that one, or block one of them, for example with --no-plugin one:one"
    assert (error.code, str(error)) == ("E602", f"{claim}. Hint: {hint}")
    assert registry.get(MergeMethod, "extra").name == "extra"
    assert (named("one", registry).status, named("one", registry).reason) == ("active", claim)
    assert named("one", registry).provides == ("MergeMethod:extra",)
    assert named("two", registry).status == "contested"
    assert [plugin.name for plugin in registry.unusable()] == ["one", "two"]


def test_the_list_shows_what_works_and_why_the_rest_does_not(write_plugin: WritePlugin, cli: Cli) -> None:
    write_plugin("broken", "raise ImportError('no cuda')")
    write_plugin("one", method("same") + "    yield MergeMethod(name='extra', merge=mean, params=Weights)\n")
    write_plugin("two", method("same"))
    rows = [line.split(maxsplit=4) for line in cli("plugins", "list").out.splitlines()]
    assert [row for row in rows if row[2] != "mergecore"] == [
        ["broken", "broken", "broken", "1.0", "ImportError: no cuda"],
        ["one", "active", "one", "1.0", f"MergeMethod:extra; {named('one').reason}"],
        ["two", "contested", "two", "1.0", named("two").reason],
    ]


def test_the_facts_of_a_plugin_can_be_shown(write_plugin: WritePlugin, cli: Cli) -> None:
    write_plugin("broken", "raise ImportError('no cuda')")
    assert cli("plugins", "show", "broken").out.splitlines() == [
        "plugin      broken",
        "module      broken",
        "comes with  broken 1.0",
        "status      broken",
        "reason      ImportError: no cuda",
    ]
    assert "'brokn' is not an installed plugin; did you mean 'broken'?" in cli("plugins", "show", "brokn").err


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


# ---- at work -----------------------------------------------------------------------------------------------


def test_a_reporter_that_raises_is_named_once_and_then_left_alone(
    write_plugin: WritePlugin, config: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("loud", reporter("raise ValueError('too loud')"))
    outcome = cli("merge", config("linear"), "out")
    assert outcome.code == 0
    told = "reporter 'loud' (loud 1.0) failed and is silenced: ValueError: too loud"
    assert outcome.err.count(told) == 1
    assert json.loads(Path("out/mergecore-manifest.json").read_text())["warnings"] == [told]


def test_a_reporter_cannot_end_the_program(write_plugin: WritePlugin) -> None:
    write_plugin("quits", reporter("raise SystemExit(0)"))
    registry, event = discover(), Warned(Display("none"), "careful")
    assert registry.report(event) == ["reporter 'quits' (quits 1.0) failed and is silenced: SystemExit: 0"]
    assert registry.report(event) == []


RAISING = f"""{HEAD}
def bad(group, params):
    {{body}}

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="boom", merge=bad, params=Weights)
"""

FAULTS = {
    "raises": ("raise ValueError('boom')", "E604", "ValueError: boom"),
    "exits": ("raise SystemExit(0)", "E604", "SystemExit: 0"),
    "returns nothing": ("pass", "E605", "it returned nothing, not a tensor"),
    "returns another shape": (
        "import torch; return torch.ones(1)",
        "E605",
        r"\[1\] of float32 for a tensor of \[\d",
    ),
    "returns blocks of another shape": (
        "return group.map(lambda block: block.x)",
        "E605",
        r"\[2, \d\] of float32",
    ),
    "returns whole numbers": ("return group.map(lambda block: block.x[0].int())", "E605", "int32"),
}


@pytest.mark.parametrize(("body", "code", "told"), FAULTS.values(), ids=FAULTS)
def test_a_method_that_breaks_its_contract_is_blamed_with_its_plugin_and_the_tensor(
    body: str, code: str, told: str, write_plugin: WritePlugin, config: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("p", RAISING.format(body=body), {"boom": "p"})
    outcome = cli("merge", config("boom"), "out", "-j", "2")
    assert outcome.code == 7
    [line] = [line for line in outcome.err.splitlines() if "error" in line]
    assert line.startswith(f"mergecore: error {code}: method 'boom' of plugin 'p' (p 1.0)")
    assert re.search(told, line)
    assert re.search(r"tensor '[a-z0-9_.]+.weight'", line)
    assert not Path("out").exists()


CALLED = {
    "model source": "def f(*a): raise KeyError('x')\n@hookimpl\ndef mergecore_model_sources():\n"
    "    yield ModelSource(name='v', accepts=f, open=f, rank=1)\n",
    "architecture": "def f(*a): raise KeyError('x')\n@hookimpl\ndef mergecore_architectures():\n"
    "    yield Architecture(name='v', describe=f, rank=1)\n",
    "recipe": "def f(*a): raise KeyError('x')\n@hookimpl\ndef mergecore_recipes():\n"
    "    yield Recipe(name='v', accepts=f, compile=f)\n",
    "merge method": method("v").replace("params=", "check_params=f, params=")
    + "def f(*a): raise KeyError('x')\n",
}


@pytest.mark.parametrize(("kind", "code"), CALLED.items(), ids=CALLED)
def test_whatever_a_plugin_raises_while_planning_is_blamed_on_it(
    kind: str, code: str, write_plugin: WritePlugin, config: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("p", "from mergecore import *\n" + code, {"v": "p"})
    outcome = cli("plan", config("v" if kind == "merge method" else "linear"))
    assert outcome.code == 7
    told = f"{kind} 'v' of plugin 'p' (p 1.0) failed: KeyError: 'x'"
    assert f"{told}. Hint: --debug shows where; report it to the authors of the plugin" in outcome.err
    assert outcome.err.startswith("mergecore: error E604: ")


def test_a_bug_of_a_built_in_plugin_keeps_its_traceback() -> None:
    registry = discover()
    with pytest.raises(KeyError), registry.calling(MergeMethod, "linear"):
        raise KeyError("x")
