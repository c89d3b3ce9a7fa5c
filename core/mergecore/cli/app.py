"""The command line: the group, its options that every command shares, and how errors are printed.

The commands themselves are in `commands`; plugins add theirs.  Nothing here imports torch.
"""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click

from mergecore.cli.commands import COMMANDS
from mergecore.cli.screen import show_error
from mergecore.errors import ConfigError, MergecoreError, OutputError, Problems
from mergecore.plugins.registry import Registry
from mergecore.plugins.streams import keep_descriptor_for_results
from mergecore.version import __version__

F = TypeVar("F", bound=Callable[..., Any])


class Interrupted(KeyboardInterrupt):
    """The user, or the system, wants the merge to stop; it can be resumed."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class PluginGroup(click.Group):
    """A group whose commands are its own and those of plugins."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *_registry(context).commands()})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        own = super().get_command(context, name)
        if own is not None:
            return own
        try:
            return _registry(context).get(click.Command, name)
        except ConfigError:
            return None  # click tells that there is no such command


def _registry(context: click.Context) -> Registry:
    """The plugins, found once for a command line."""
    registry: Registry = context.meta.get(_REGISTRY) or Registry.discover()
    context.meta[_REGISTRY] = registry
    return registry


_REGISTRY = "mergecore.registry"


@click.group(
    cls=PluginGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "--version", prog_name="mergecore")
def cli() -> None:
    """Merge pretrained language models: nothing lost, nothing silently wrong, every method a plugin."""


for command in COMMANDS:
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the code of what happened."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _replace_closed_streams()
    _escape_what_cannot_be_encoded()
    if "--json" in words:
        keep_descriptor_for_results()
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """The exit code of a command line."""
    _listen()
    try:
        result = cli.main(words, prog_name="mergecore", standalone_mode=False)
    except _NO_ARGUMENTS as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        tell(_usage(error), words)
        return ConfigError.exit_code
    except click.ClickException as error:  # how commands of plugins may fail
        error.show()
        return error.exit_code
    except (Interrupted, click.Abort) as error:
        hint = "; run again with --resume to go on" if _can_resume(words) else ""
        with suppress(OSError):  # the terminal may be gone
            show_error(f"mergecore: interrupted{hint}")
        cause = error.__cause__ if isinstance(error, click.Abort) else error
        return cause.exit_code if isinstance(cause, Interrupted) else 130
    except MergecoreError as error:
        tell(error, words)
        return error.exit_code
    except BrokenPipeError:
        return 141
    except Exception as error:  # noqa: BLE001 - a bug keeps its traceback, and its exit code
        if known := _of_the_system(error):
            tell(known, words)
            return known.exit_code
        traceback.print_exc()
        click.echo(
            "mergecore: error E001: internal error, a bug of mergecore; please report the lines above",
            err=True,
        )
        return 1
    return result if isinstance(result, int) else 0


def _listen() -> None:
    """Stop in order when the user or the system says so; the end of a terminal is left to nohup if that runs."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _of_the_system(error: Exception) -> MergecoreError | None:
    """What to say about an error that is not a bug: the disk, the memory, or the working folder is not what it was."""
    from mergecore.files.exhaustion import exhausted

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OutputError("E504", "the output of the command cannot be written: the disk is full")
    if isinstance(error, FileNotFoundError) and not _has_working_folder():
        hint = "change to a folder that exists, and run again"
        return ConfigError("E116", "the folder that the command runs in was deleted", hint=hint)
    return exhausted(error)


def _has_working_folder() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _can_resume(words: Sequence[str]) -> bool:
    """Whether the command can go on where it was interrupted."""
    try:
        with click.Context(cli) as context:
            command = cli.get_command(context, words[0]) if words else None
    except MergecoreError:  # a plugin that cannot be loaded is not what the user waits to hear of now
        return False
    return command is not None and any("--resume" in parameter.opts for parameter in command.params)


_NO_ARGUMENTS: tuple[type[click.UsageError], ...] = tuple(
    filter(None, [getattr(click.exceptions, "NoArgsIsHelpError", None)])
)
"""What some versions of click raise to show the help of a group."""


def _usage(error: click.UsageError) -> ConfigError:
    """What is wrong with the command line."""
    command = error.ctx.command_path if error.ctx else "mergecore"
    hint = f"see `{command} --help`"
    if isinstance(error, click.MissingParameter) and error.ctx and isinstance(error.param, click.Argument):
        pieces = error.ctx.command.collect_usage_pieces(error.ctx)
        hint = f"the command is `{' '.join([command, *pieces[1:]])}`; {hint}"
    if any(dash in error.format_message() for dash in "\u2013\u2014"):
        hint = "an option begins with two short dashes: -- instead of a long one"
    return ConfigError("E115", error.format_message().rstrip("."), hint=hint)


def _replace_closed_streams() -> None:
    """Open what `2>&-` closed, or a file of weights would get the number that messages are written to."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r+"))  # noqa: SIM115 - open as long as the process


def _escape_what_cannot_be_encoded() -> None:
    """Write a character that the locale lacks as an escape, rather than fail at it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def tell(error: MergecoreError, words: Sequence[str]) -> None:
    """Print an error, or several, one line each."""
    if "--debug" in words:
        traceback.print_exception(error)
    errors = error.errors if isinstance(error, Problems) else (error,)
    as_json = "--error-format=json" in words or ("--error-format", "json") in pairwise(words)
    for one in errors:
        if as_json:
            click.echo(json.dumps(one.as_json()), err=True)
        else:
            show_error(f"mergecore: error {one.code}: {one}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    raise Interrupted(128 + number)
