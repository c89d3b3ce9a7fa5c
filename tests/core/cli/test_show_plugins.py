"""What `mergecore plugins list` and `plugins show` print: problems, other packages, built-in ones."""

from __future__ import annotations

import json
import re

import pytest
from fixture_types import Cli, WritePlugin
from odd_plugins import HEAD, method, reporter

from mergecore import Registry
from mergecore.plugins.registry import WORD_OF

KINDS = '''"""many: one of each kind that fits."""
import click
from mergecore import MergeMethod, ModelSource, Params, SideFile, hookimpl

class Depth(Params):
    depth: int = 3

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="many_method", merge=print, params=Depth, summary="a method " * 20)

@hookimpl
def mergecore_model_sources():
    yield ModelSource(name="many", accepts=lambda *_: False, open=print, summary="from nowhere")

@hookimpl
def mergecore_commands():
    yield click.Command("many", short_help="does many things")

@hookimpl
def mergecore_side_files():
    yield SideFile(name="many", make=lambda request, params: None)

@hookimpl
def mergecore_report(event):
    pass
'''


def sections(text: str) -> dict[str, str]:
    """The parts of the list below their headings, which stand at the beginning of a line."""
    found = re.split(r"^(\S.*)$", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_what_works_is_listed_by_kinds_with_a_line_each(cli: Cli) -> None:
    out = cli("plugins", "list").out
    assert re.match(r"All \d+ plugins work\.\n\n", out)

    assert list(sections(out)) == [out.splitlines()[0], "Built in", out.splitlines()[-1]]
    assert max(map(len, out.splitlines())) <= 80
    rows = [line for line in out.splitlines() if line.startswith("    ")]
    values = [
        value for plugin in Registry.discover().plugins() for value in Registry.discover().offered(plugin)
    ]
    assert len(rows) >= len(values)
    assert [row for row in rows if len(row.split()) < 2] == []  # each says what it does
    assert "    ties              trim task vectors, elect a sign, average those that agree" in rows


def test_every_built_in_value_says_in_a_whole_line_what_it_does(cli: Cli) -> None:
    rows = [line for line in cli("plugins", "list").out.splitlines() if line.startswith("    ")]
    assert len([row for row in rows if row.endswith("...")]) <= 3, "summaries of 59 characters fit"
    registry = Registry.discover()
    for plugin in registry.plugins():
        for kind, value in registry.offered(plugin):
            if hasattr(value, "summary"):
                assert value.summary or WORD_OF[kind] == "MoE family"
                assert len(value.summary) <= 59


def test_other_packages_come_first_and_say_whose_they_are(cli: Cli, write_plugin: WritePlugin) -> None:
    write_plugin("many_dist", KINDS, {"many": "many_dist"})

    out = cli("plugins", "list").out

    assert list(sections(out))[1:3] == ["From other packages", "Built in"]
    assert max(map(len, out.splitlines())) <= 80
    assert sections(out)["From other packages"].strip("\n").split("\n\n") == [
        "  Model sources\n    many  from nowhere (many_dist 1.0)",
        "  Merge methods\n    many_method  a method a method a method a ... (many_dist 1.0, plugin many)",
        "  Side files\n    many  many: one of each kind that fits. (many_dist 1.0)",
        "  Commands\n    many  does many things (many_dist 1.0)",
        "  Reporters\n    many  many: one of each kind that fits. (many_dist 1.0)",
    ]


def test_problems_are_on_top_with_the_reason_and_the_cure(cli: Cli, write_plugin: WritePlugin) -> None:
    write_plugin("broken", "raise ImportError('no cuda')")
    write_plugin("new", "MERGECORE_API = 7\n" + method("new"))
    write_plugin("one", method("same") + "    yield MergeMethod(name='extra', merge=mean, params=Weights)\n")
    write_plugin("two", method("same"))

    out = cli("plugins", "list").out

    claim = "two plugins claim the name 'same': one (one 1.0) and two (two 1.0); none of them gets it"
    cure = "write 'same@one' for that one, or block one of them, for example with --no-plugin one:one"
    assert list(sections(out))[:3] == ["Problems", "From other packages", "Built in"]
    assert sections(out)["Problems"].strip("\n").split("\n") == [
        "  broken (broken 1.0): broken",
        "    why   ImportError: no cuda",
        "    cure  install what it needs, or another version of 'broken'; --no-plugin broken:broken blocks it",
        "  new (new 1.0): broken",
        "    why   it needs mergecore API 7; this is 1",
        "    cure  upgrade mergecore, or install an older version of this plugin",
        "  one (one 1.0): a part of it cannot be used",
        f"    why   {claim}",
        f"    cure  {cure}",
        "  two (two 1.0): contested",
        f"    why   {claim}",
        f"    cure  {cure}",
    ]
    assert "    extra  " in sections(out)["From other packages"]
    assert "same" not in sections(out)["From other packages"]


def test_what_is_blocked_is_listed_last_and_is_no_problem(cli: Cli, write_plugin: WritePlugin) -> None:
    write_plugin("loud", "raise SystemExit")
    found = sections(cli("plugins", "list", "--no-plugin", "loud", "--no-plugin", "ties@mergecore").out)
    assert "Problems" not in found
    assert found["Blocked"].strip("\n").split("\n") == [
        "  loud (loud 1.0): blocked by --no-plugin; do without that option",
        "  ties (mergecore 0.1.0, built-in): blocked by --no-plugin; do without that option",
    ]


def test_a_plugin_that_takes_long_to_import_is_named(
    cli: Cli, write_plugin: WritePlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin("slow", "import time\ntime.sleep(0.3)\n" + method("slow"))
    monkeypatch.setattr("mergecore.cli.show_plugins.SLOW", 0.3)
    [line] = sections(cli("plugins", "list").out)["Slow"].split("\n")[2:-2] or [""]
    assert re.fullmatch(
        r"  slow \(slow 1\.0\): every command waits [\d.]+ s for its import; "
        r"it should import torch and the like inside its functions",
        line,
    )


def test_the_list_for_programs_has_every_fact(cli: Cli, write_plugin: WritePlugin) -> None:
    write_plugin("broken", "print('noise')\nraise ImportError('no cuda')")
    found = {one["name"]: one for one in json.loads(cli("plugins", "list", "--json").out)}
    broken = found["broken"]
    assert (broken["status"], broken["reason"], broken["code"]) == ("broken", "ImportError: no cuda", "E601")
    assert broken["cure"].startswith("install what it needs")
    assert (broken["built_in"], found["ties"]["built_in"]) == (False, True)
    assert found["ties"]["values"] == [
        {
            "kind": "merge method",
            "name": "ties",
            "summary": "trim task vectors, elect a sign, average those that agree",
        }
    ]


# ---- one plugin --------------------------------------------------------------------------------------------


def test_the_facts_of_a_plugin_can_be_shown(write_plugin: WritePlugin, cli: Cli) -> None:
    write_plugin("broken", "raise ImportError('no cuda')")
    assert cli("plugins", "show", "broken").out.splitlines() == [
        "plugin      broken",
        "module      broken",
        "comes with  broken 1.0",
        "status      broken",
        "reason      ImportError: no cuda",
        "cure        install what it needs, or another version of 'broken'; --no-plugin broken:broken blocks it",
    ]
    assert "'brokn' is not an installed plugin; did you mean 'broken'?" in cli("plugins", "show", "brokn").err


@pytest.mark.parametrize(
    "name", ["many", "Many.Dist", "many_method", "many@many_dist", "many_method@many-dist"]
)
def test_a_plugin_is_found_by_its_name_its_package_and_what_it_provides(
    name: str, cli: Cli, write_plugin: WritePlugin
) -> None:
    write_plugin("many_dist", KINDS, {"many": "many_dist"})
    lines = cli("plugins", "show", name).out.splitlines()
    assert lines[0] == "plugin      many"
    assert lines[4].startswith("provides    model source many, merge method many_method, ")
    assert "    depth        whole number, shared, default 3" in lines


def test_of_two_plugins_of_one_name_both_are_shown_or_the_one_of_a_package(
    cli: Cli, write_plugin: WritePlugin
) -> None:
    write_plugin("one", method("mine"), {"mine": "one"})
    write_plugin("two", method("mine"), {"mine": "two"})
    assert cli("plugins", "show", "mine").out.count("comes with  ") == 2
    assert cli("plugins", "show", "mine@two").out.count("comes with  ") == 1
    [shown] = json.loads(cli("plugins", "show", "mine@two", "--json").out)
    assert (shown["distribution"], shown["status"]) == ("two", "contested")
    assert "'mine@three' is not an installed plugin" in cli("plugins", "show", "mine@three").err


def test_methods_say_for_programs_which_package_they_are_from(cli: Cli, write_plugin: WritePlugin) -> None:
    write_plugin("mine", method("mine"))
    found = {one["name"]: one["plugin"] for one in json.loads(cli("methods", "list", "--json").out)}
    assert (found["mine"], found["ties"]) == ("mine 1.0", "mergecore 0.1.0, built-in")


def test_a_reporter_that_is_no_module_of_its_own_is_listed(cli: Cli, write_plugin: WritePlugin) -> None:
    write_plugin("quiet", '"""quiet: hears and says nothing."""' + HEAD + reporter("pass"))
    assert "    quiet  quiet: hears and says nothing. (quiet 1.0)" in cli("plugins", "list").out
