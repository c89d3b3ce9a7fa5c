"""What tables, errors and help look like, on terminals and in pipes."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest
from fixture_types import Cli, WritePlugin
from terminal import ANSI, on_a_terminal

from mergecore import MergeMethod, Registry
from mergecore.cli.app import cli as cli_group
from mergecore_plugins.transplant.methods import METHODS

MERGECORE = str(Path(sys.executable).parent / "mergecore")
ODD = """
raise ImportError("a reason of many words " * 6 + "[red]not red[/red]")
"""


def test_each_method_has_a_line_of_at_most_80_columns_below_the_heading_of_its_family(cli: Cli) -> None:
    lines = cli("methods", "list").out.splitlines()

    headings = [line for line in lines[:-1] if line and not line.startswith(" ")]
    assert headings == [
        "Average models that are alike",
        "Blend models, keeping the size of their weights",
        "Join fine-tunes of one base",
        "Join fine-tunes of one base, in a basis that they share",
        "Join fine-tunes of one base, keeping a random part of each",
        "Stack layers, or keep one model",
        "Take over some entries of one other model",
    ]
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert sorted(listed) == sorted(one.name for one in Registry.discover().all(MergeMethod))
    assert max(map(len, lines)) <= 80
    assert all(len(line.split()) > 3 for line in lines if line.startswith("  "))


def test_a_method_of_another_package_is_listed_with_its_origin_and_shortened(
    cli: Cli, write_plugin: WritePlugin
) -> None:
    code = '''"""far: goes far beyond what anybody would take for a line, and on, and on, and on, to the end."""
from mergecore import MergeMethod, Params, hookimpl

class NoParams(Params):
    pass

def far(group, params):
    return group.x[0]

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="far", merge=far, params=NoParams, needs_whole_tensors=True)
'''
    write_plugin("far", code)

    lines = cli("methods", "list").out.splitlines()

    at = lines.index("Others")
    assert lines[at + 1].startswith("  far               far: goes far beyond what anybody")
    assert lines[at + 1].endswith(" ... (far 1.0)")
    assert len(lines[at + 1]) <= 80


def test_the_help_of_merge_has_its_options_by_what_they_are_for(cli: Cli) -> None:
    out = cli("merge", "--help").out

    sections = {part.split(":")[0]: part for part in out.split("\n\n")}
    assert "--seed" in sections["What the result is"]
    assert "--threads" in sections["How it is run"]
    assert "--resume" in sections["After an interruption, or over an earlier output"]
    assert "--quiet" in sections["What is printed"]
    assert "\nOptions:" not in out  # every option has a heading
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_are_wrapped_at_words_on_a_terminal(columns: int, write_plugin: WritePlugin) -> None:
    write_plugin("odd", ODD)

    screen, code = on_a_terminal([MERGECORE, "plugins", "list"], columns)

    lines = ANSI.sub("", screen).splitlines()
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert "[red]not red[/red]" in " ".join(" ".join(lines).split())
    at = next(i for i, line in enumerate(lines) if line.startswith("    why   ImportError"))
    assert lines[at + 1].startswith(" " * 10)  # further words stand below the first ones


def test_tables_have_a_line_for_each_row_in_a_pipe(cli: Cli, write_plugin: WritePlugin) -> None:
    write_plugin("odd", ODD)
    lines = cli("plugins", "list").out.splitlines()
    assert sum(line.startswith("  odd (odd 1.0)") for line in lines) == 1
    assert any(line.startswith("    why   ") and line.endswith("[red]not red[/red]") for line in lines)


def test_errors_are_wrapped_at_words_on_a_terminal() -> None:
    screen, code = on_a_terminal([MERGECORE, "plan", "[red]no.yml"], 60)

    assert code == 2
    lines = ANSI.sub("", screen).replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(" ".join(lines).split()).startswith(
        "mergecore: error E105: [red]no.yml: no such file. Hint: "
    )


def every_command() -> list[list[str]]:
    """The words of each command and group, those of plugins among them."""
    found: list[list[str]] = [[]]
    with click.Context(cli_group) as context:
        for name in cli_group.list_commands(context):
            command = cli_group.get_command(context, name)
            found.append([name])
            if isinstance(command, click.Group):
                found += [[name, one] for one in command.commands]
    return found


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_help_fits_80_columns_and_no_line_in_it_is_cut(
    words: list[str], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli(*words, "--help").out.splitlines()

    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.endswith("...") and not line.startswith("Usage")] == []
    assert [line for line in lines if "INTEGER" in line or "FLOAT" in line] == []
    assert [line for line in lines if line.strip() == r"\b"] == []  # a mark for click that it did not see


def test_the_help_of_transplant_names_every_method(cli: Cli) -> None:
    out = cli("transplant", "--help").out
    assert [name for name in METHODS if name.replace("_", "-") not in out] == []


@pytest.mark.parametrize("columns", [60, 80])
def test_text_is_wrapped_below_what_it_begins_with_on_a_terminal(columns: int) -> None:
    screen, code = on_a_terminal([MERGECORE, "methods", "show", "ties"], columns)

    lines = ANSI.sub("", screen).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  formula    B + lambda"))
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert lines[at + 1].startswith(" " * 13 + lines[at + 1].strip())


def test_text_has_its_own_lines_in_a_pipe(cli: Cli) -> None:
    lines = cli("methods", "show", "ties").out.splitlines()
    assert any(line.endswith("m_i: agrees with the elected sign") for line in lines)
