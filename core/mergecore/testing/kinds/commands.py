"""Checks of commands; read `check_command`, then `COMMAND`."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from click.testing import CliRunner

from mergecore.errors import MergecoreError
from mergecore.testing.findings import NotCheckedError, Property, demand, hold, told


def check_command(
    command: click.Command,
    *arguments: str | Path,
    exit_code: int = 0,
    without: Collection[str] = (),
) -> None:
    """Check the help of a command, and that it says what is wrong with a command line.

    arguments: words to call it with; then it must end with `exit_code`.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    case = CommandCase(command, tuple(map(str, arguments)), exit_code)
    hold(f"command '{command.name}'", COMMAND, case, without)


@dataclass
class CommandCase:
    """A command, and words to call it with."""

    command: click.Command
    words: tuple[str, ...]
    exit_code: int = 0

    def call(self, *words: str) -> tuple[int, str, BaseException | None]:
        """The exit code, what is printed, and what is raised."""
        done = CliRunner().invoke(self.command, list(words))
        return done.exit_code, done.output, done.exception


def _is_helped(case: CommandCase) -> None:
    code, text, _ = case.call("--help")
    demand(code == 0, f"--help ends with the exit code {code}")
    demand(case.command.get_short_help_str(), "it has no help; give its function a docstring")
    demand("Usage:" in text, "--help shows no usage")


def _options_are_helped(case: CommandCase) -> None:
    with click.Context(case.command) as context:
        for one in case.command.get_params(context):
            told = one.get_help_record(context) if isinstance(one, click.Option) else None
            demand(
                not isinstance(one, click.Option) or one.hidden or (told and told[1].strip()),
                f"the option {'/'.join(one.opts)} has no help; say what it does by help=…",
            )


def _refuses_unknown_options(case: CommandCase) -> None:
    code, _, raised = case.call(*case.words, "--no-such-option")
    demand(
        code != 0
        and not (raised and not isinstance(raised, SystemExit | click.ClickException | MergecoreError)),
        f"an unknown option ends with the exit code {code} and {type(raised).__name__ if raised else 'no error'}",
    )


def _runs(case: CommandCase) -> None:
    if not case.words:
        raise NotCheckedError("no arguments are given to call it with")
    code, text, raised = case.call(*case.words)
    code = raised.exit_code if isinstance(raised, MergecoreError) else code
    said = text[-200:] if raised is None or isinstance(raised, SystemExit) else told(raised)
    demand(
        code == case.exit_code,
        f"called with {json.dumps(case.words)} it ends with the exit code {code}, not {case.exit_code}: "
        f"{said}",
    )


COMMAND: Sequence[Property[CommandCase]] = (
    Property("help", "it has a help", _is_helped),
    Property("options", "every option has a help", _options_are_helped),
    Property("unknown", "unknown options are refused", _refuses_unknown_options),
    Property("runs", "it runs", _runs),
)
"""What every command keeps."""
