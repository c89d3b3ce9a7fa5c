"""The options of commands that write a model: how to run, what to do about an earlier run, what to say.

`merge` has them, and so have commands of plugins.  Nothing here imports torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mergecore.types.execution import Mode, RunOptions

    IntType = click.ParamType[int]
else:  # older versions of click have no such subscript
    IntType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])


class Size(IntType):
    """An amount of memory or disk, such as 4GB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        from mergecore.errors import ConfigError
        from mergecore.files.sizes import parse_size

        try:
            return parse_size(value)
        except ConfigError as error:
            place = param.opts[0] if param else None
            raise ConfigError(error.code, error.what, place=place, hint=error.hint) from error


def size_options(command: F) -> F:
    """Add what bounds a run: `--threads`, `--max-memory`, and `--shard-size` of the output."""
    for option in (
        click.option(
            "--shard-size",
            type=Size(),
            metavar="SIZE",
            help="Largest size of an output file, such as 5GB; overrides the config.",
        ),
        click.option(
            "-j",
            "--threads",
            type=click.IntRange(1),
            metavar="N",
            help="Number of workers; by default one for each processor.",
        ),
        click.option(
            "--max-memory",
            type=Size(),
            metavar="SIZE",
            help="Use no more memory than this, such as 8GB; Python and torch count.",
        ),
    ):
        command = option(command)
    return command


def output_options(command: F) -> F:
    """Add what commands that write a model have: how it is run, what is there already, and what is printed."""
    for option in (
        click.option(
            "--allow-nonfinite", is_flag=True, help="Accept NaN and Inf in inputs and in the result."
        ),
        click.option(
            "--executor", metavar="NAME", help="The plugin that runs the steps; by default threads."
        ),
        click.option("--resume", is_flag=True, help="Continue an interrupted run, if there is one."),
        click.option("--restart", is_flag=True, help="Discard an interrupted run and start again."),
        click.option(
            "--recheck", is_flag=True, help="With --resume: check again what the interrupted run wrote."
        ),
        click.option("--overwrite", is_flag=True, help="Replace an earlier output."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
        click.option("-v", "--verbose", count=True, help="Print more."),
        click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
    ):
        command = option(command)
    return command


def run_options(given: Mapping[str, Any]) -> RunOptions:
    """What the values of a command's options say about its run.

    given: by name; those of `output_options`, and of `threads`, `max_memory`, `device`, `executor`,
        `allow_nonfinite`, `intermediate` and `remove_intermediate` those that the command has.

    Raises:
        click.UsageError: when they exclude each other, or say nothing without another.
    """
    from mergecore.types.events import Display
    from mergecore.types.execution import RunOptions

    context = click.get_current_context(silent=True)
    if given["resume"] and given["restart"]:
        raise click.UsageError("--resume and --restart exclude each other", context)
    if given["recheck"] and not given["resume"]:
        raise click.UsageError("--recheck has no effect without --resume", context)
    display = Display(
        style="jsonl" if given["as_json"] else "console",
        verbosity=-1 if given["quiet"] else given["verbose"],
        terminal=sys.stderr.isatty(),
    )
    mode: Mode = "resume" if given["resume"] else "restart" if given["restart"] else "new"
    names = {"threads", "max_memory", "device", "executor", "overwrite", "allow_nonfinite", "recheck"}
    names |= {"intermediate", "remove_intermediate"}
    return RunOptions(mode=mode, display=display, **{name: given[name] for name in names & given.keys()})


def common_options(command: F) -> F:
    """Add what every command understands: `--no-plugin`, `--debug`, `--error-format`."""
    for option in (
        click.option(
            "--no-plugin", "disabled", multiple=True, metavar="NAME", help="Do not use this plugin."
        ),
        click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks."),
        click.option(
            "--error-format",
            type=click.Choice(["text", "json"]),
            default="text",
            expose_value=False,
            help="Format of errors on standard error.",
        ),
    ):
        command = option(command)
    return command


def document_options(command: F) -> F:
    """Add what is said of several documents: `--result`, `--fuse`, `--intermediate`."""
    for option in (
        click.option(
            "--result",
            default="",
            metavar="NAME",
            help="Which of several documents to write to OUT; by default the one without a name.",
        ),
        click.option(
            "--fuse",
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            show_default=True,
            help="Compute intermediate results while they are read: where it costs less, if possible, or never.",
        ),
        click.option(
            "--intermediate",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Where intermediate results of several documents are; by default OUT.parts.",
        ),
    ):
        command = option(command)
    return command


def plan_options(command: Any) -> Any:
    """Add the options that `merge` and `plan` share."""
    for option in (
        click.option(
            "--offline", is_flag=True, help="Do not use the network; read hub models from the cache."
        ),
        click.option(
            "--missing",
            type=click.Choice(["error", "base", "skip", "drop"]),
            default="error",
            show_default=True,
            help="If a model lacks a tensor: refuse, take it from the base, merge the others, or leave it out.",
        ),
        click.option(
            "--unexpected",
            type=click.Choice(["error", "copy", "drop", "merge"]),
            default="error",
            show_default=True,
            help="If the base (or the first model) lacks a tensor: refuse, copy it, leave it out, or merge "
            "the models that have it.",
        ),
        click.option("--allow-crimes", is_flag=True, help="Merge models of different architectures."),
        click.option(
            "--strict",
            is_flag=True,
            help="Refuse a config with something that has no effect, such as an unused parameter.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0),
            metavar="N",
            help="Seed of random methods; overrides the config.",
        ),
        size_options,
        document_options,
    ):
        command = option(command)
    return common_options(command)
