"""Names that no plugin provides, that are blocked, or that several plugins claim."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fixture_types import Cli, WritePlugin
from odd_plugins import discover, method, named, refusal

from mergecore import ConfigError, Executor, MergecoreError, MergeMethod

# ---- names that nobody provides ----------------------------------------------------------------------------


def test_a_name_near_a_known_one_is_a_slip(write_plugin: WritePlugin) -> None:
    with pytest.raises(ConfigError, match=r"^unknown merge method 'tise'; did you mean 'ties'\?") as caught:
        discover().get(MergeMethod, "tise")
    assert (caught.value.code, caught.value.exit_code) == ("E108", 2)
    assert caught.value.hint == "`mergecore methods list` shows those that are installed", "not 28 names"


def test_a_name_near_nothing_wants_a_plugin_that_is_not_installed(write_plugin: WritePlugin) -> None:
    write_plugin("broken", "raise ImportError('no cuda')")
    with pytest.raises(ConfigError) as caught:
        discover().get(MergeMethod, "quintessence")
    assert (caught.value.code, caught.value.exit_code) == ("E606", 2)
    assert str(caught.value).startswith(
        "merge method 'quintessence': no installed plugin provides it. Hint: these cannot be used, and may provide it: "
        "broken (broken: ImportError: no cuda); install the package that has it, or name its file in "
        "MERGECORE_METHOD_FILES; `mergecore methods list` shows those that are installed"
    )
    with pytest.raises(ConfigError, match=r"; install the package that has it; installed: ") as caught:
        discover().get(Executor, "quintessence")


def test_the_first_plugins_that_cannot_be_used_are_named_with_the_reason(write_plugin: WritePlugin) -> None:
    for i in range(5):
        write_plugin(f"broken{i}", f"raise ImportError('{str(i) * 300}')")
    with pytest.raises(ConfigError) as caught:
        discover().get(MergeMethod, "quintessence")
    text = str(caught.value)
    assert f"broken2 (broken: ImportError: {'2' * 184}...) and 2 more; install" in text


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
    "option as in a config": ((("x@P",)), {}, "blocked by --no-plugin. Hint: do without that option"),
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
    config_for: Callable[[str], Path], cli: Cli
) -> None:
    outcome = cli("plan", config_for("linear"), "--no-plugin", "local")
    assert outcome.code == 3
    assert "'./a': no installed plugin opens it; a folder or a hub id is expected" in outcome.err
    assert "these plugins cannot be used: local (blocked); see `mergecore plugins list`" in outcome.err


# ---- conflicts ---------------------------------------------------------------------------------------------

STAYS = "the name 'ties' is that of a built-in merge method, which stays"
USE = "to use this one, write 'ties@z_evil', or block the built-in one with --no-plugin mergecore:ties"


@pytest.mark.parametrize("entry", ["ties", "other"])
def test_a_stranger_takes_no_name_from_a_built_in_plugin(entry: str, write_plugin: WritePlugin) -> None:
    write_plugin("z_evil", method("ties"), {entry: "z_evil"})
    registry = discover()

    assert registry.get(MergeMethod, "ties").space == "delta"
    assert registry.provider(MergeMethod, "ties").built_in
    stranger = next(p for p in registry.plugins() if p.distribution == "z_evil")
    assert (stranger.status, stranger.code) == ("contested", "E602")
    assert (stranger.reason, stranger.cure) == (STAYS, USE)


def test_a_stranger_keeps_what_it_has_beside_the_name_of_a_built_in_plugin(write_plugin: WritePlugin) -> None:
    code = method("ties") + "    yield MergeMethod(name='extra', merge=mean, params=Weights)\n"
    write_plugin("z_evil", code, {"ties": "z_evil"})
    registry = discover()

    assert registry.get(MergeMethod, "extra").name == "extra"
    stranger = next(p for p in registry.plugins() if p.distribution == "z_evil")
    assert (stranger.status, stranger.provides) == ("active", ("MergeMethod:extra",))


def test_a_stranger_is_chosen_by_name_and_distribution(
    write_plugin: WritePlugin, config_for: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("z_evil", method("ties"), {"ties": "z_evil"})

    assert discover().get(MergeMethod, "ties@z_evil").space == "weight"
    assert discover().get(MergeMethod, "ties@Z-Evil").space == "weight"
    outcome = cli("merge", config_for("ties@z_evil"), "out")
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
    loser = named("aaa", registry)
    assert loser.reason == "the name 'mine' belongs to the plugin 'mine' (zzz 1.0)"
    assert loser.cure == "to use this one, write 'mine@aaa', or block that one with --no-plugin zzz:mine"


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
    write_plugin: WritePlugin, config_for: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("z_evil", method("ties"), {"ties": "z_evil"})
    outcome = cli("merge", config_for("linear"), "out")
    assert outcome.code == 0
    assert f"warning: plugin 'ties' (z_evil 1.0) cannot be used: {STAYS}; {USE}" in outcome.err


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
