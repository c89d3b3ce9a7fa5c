"""Reports in files of their own: `plan --html`, `merge --report`, and those that commands of plugins write.

A plugin makes them: `report_command` finds the command `report`, a `ReportCommand`, which knows how to.
"""

from __future__ import annotations

import os
import resource
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from mergecore.cli.screen import show_error
from mergecore.errors import OutputError, PluginError, printable
from mergecore.files.durable import NO_PERMISSION
from mergecore.files.sizes import size_text
from mergecore.plugins.registry import Registry
from mergecore.types import Plan
from mergecore.types.events import Event, ModelSealed
from mergecore.version import MANIFEST

MARK = b'<meta name="generator" content="mergecore">'
"""What reports have near their beginning; other files are never replaced."""


@dataclass(frozen=True)
class PlanFacts:
    """A plan of which a report is made."""

    plan: Plan
    """What would be done."""
    memory: Mapping[str, tuple[int, int]]
    """By the name of each plan in `Plan.earlier`, empty for the plan itself: its workers, and its peak of memory."""
    command: str
    """The command line that carries it out."""
    there: Collection[str] = ()
    """The names of intermediate results that are made already."""


@dataclass(frozen=True)
class MergeFacts:
    """A merge of which a report is made."""

    plan: Plan
    """What was done; its models can be read."""
    folder: Path
    """What was made."""
    workers: int
    """How many threads may be used, and what they may hold: as in the merge."""
    command: str
    """The command line that makes it."""
    seconds: float | None = None
    """What the run took; None where the folder was there before."""
    resumed: bool = False
    """Whether that is only a part of it."""
    peak_memory: int | None = None
    """Bytes that the process had in memory at its peak; None where the folder was there before."""


class ReportCommand(click.Command):
    """A command that can also make pages about plans and merges; `plan --html` and `merge --report` ask for them.

    of_plan: the text of a page about a plan.
    of_merge: that about a merge, with the plugins that open what it reads.
    """

    def __init__(
        self,
        *given: Any,
        of_plan: Callable[[PlanFacts], str],
        of_merge: Callable[[MergeFacts, Registry], str],
        **named: Any,
    ) -> None:
        super().__init__(*given, **named)
        self.of_plan = of_plan
        self.of_merge = of_merge


def report_command(registry: Registry) -> ReportCommand:
    """The command `report`.

    Raises:
        MergecoreError: E606 or E607 where no plugin provides it, E605 where it makes no reports.
    """
    found = registry.get(click.Command, "report")
    if not isinstance(found, ReportCommand):
        plugin = registry.provider(click.Command, "report")
        what = f"the command 'report' of plugin '{plugin.name}' makes no reports of plans"
        raise PluginError("E605", what, plugin=plugin.name, hint="it has to be a ReportCommand")
    return found


_BESIDE = "choose a place beside it: nothing is added to a merged model"


def check_report(path: Path, *, overwrite: bool = False, outside: Path | None = None) -> None:
    """Refuse a report that could not be written, before hours are spent on it.

    overwrite: whether an earlier report may be replaced.
    outside: a folder in which it must not be.

    Raises:
        OutputError: E501 when the file exists; E505 when its folder does not exist, or is one of a merged model.
    """
    if os.path.lexists(path) and not (overwrite and _is_report(path)):
        why = " and is not a report" if overwrite else ""
        hint = "choose another name, or remove it"
        raise OutputError("E501", f"{path} exists{why}", hint=hint)
    if outside is not None and path.absolute().is_relative_to(outside.absolute()):
        raise OutputError("E505", f"{path}: the report is inside the output {outside}", hint=_BESIDE)
    if (merged := _merge_around(path)) is not None:
        raise OutputError("E505", f"{path}: the report is inside the merged model {merged}", hint=_BESIDE)
    if not path.absolute().parent.is_dir():
        hint = "make it, or choose another place"
        raise OutputError("E505", f"{path}: the folder {path.parent} does not exist", hint=hint)


def _merge_around(path: Path) -> Path | None:
    """The folder of a merged model in which a file would lie, however deep."""
    folder = path.parent.resolve()
    return next((one for one in (folder, *folder.parents) if os.path.lexists(one / MANIFEST)), None)


def write_report(path: Path, text: str, *, quiet: bool = False) -> None:
    """Write a report, which is there whole or not at all, and say so.

    Raises:
        OutputError: E504 or E505 when it cannot be written.
    """
    data = text.encode("utf8", "backslashreplace")
    partial = path.with_name(f".{path.name[:200]}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        code = "E505" if error.errno in NO_PERMISSION else "E504"
        what = f"the report cannot be written: {error.strerror}"
        raise OutputError(
            code, what, place=str(path), hint="free some space, or choose another place"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    if not quiet:
        show_error(printable(f"wrote {path}, {size_text(len(data))}"))


def command_line(name: str, *arguments: Path | str, leave_out: Collection[str] = ()) -> str:
    """What to type: the command `name` with `arguments` and the options that were given to the present one.

    leave_out: options that it does not have, or that are not wanted, such as `--html`.
    """
    words = ["mergecore", name, *map(str, arguments)]
    context = click.get_current_context()
    for option in context.command.params:
        if isinstance(option, click.Option) and not {*option.opts} & {*leave_out}:
            words += _words(context, option)
    return shlex.join(words)


def _words(context: click.Context, option: click.Option) -> Iterator[str]:
    """How an option was given, if it was."""
    if not option.name or context.get_parameter_source(option.name) is not ParameterSource.COMMANDLINE:
        return
    name, value = max(option.opts, key=len), context.params.get(option.name)
    if option.is_flag:
        yield name
    else:
        for one in value if isinstance(value, tuple) else (value,):
            yield from (name, str(one))


def _is_report(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK in file.read(4096)


class Reporting:
    """The report of a merge that is about to run: it hears how the merge goes, then writes the page."""

    def __init__(self, path: Path, out: Path, given: Mapping[str, Any], registry: Registry) -> None:
        """Check all that can be checked before.

        Raises:
            click.UsageError: for intermediate results that are to be removed, though the report reads them.
            MergecoreError: as `report_command` and `check_report` do.
        """
        if given["remove_intermediate"]:
            what = "--report reads intermediate results, which --remove-intermediate removes"
            raise click.UsageError(what, click.get_current_context())
        self.command = report_command(registry)
        check_report(path, overwrite=given["overwrite"], outside=out)
        self.path, self.out, self.given, self.registry = path, out, given, registry
        self._sealed: ModelSealed | None = None

    def __call__(self, event: Event) -> None:
        """Note the end of a run; that of several which comes last is the result."""
        if isinstance(event, ModelSealed):
            self._sealed = event

    def write(self, config: Path, plan: Plan) -> None:
        """Compare what was made with what it was made of, and write the page."""
        from mergecore.output.intermediate import folder_for
        from mergecore.pipeline.plans import made_already

        made = self._sealed is not None and self._sealed.made
        plan, _ = made_already(plan, folder_for(self.out, self.given["intermediate"]))
        facts = MergeFacts(
            plan,
            self.out,
            _memory(plan, self.registry, self.given)[0],
            command_line("merge", config, self.out, leave_out=_OF_REPORTS),
            self._sealed.seconds if self._sealed and made else None,
            bool(self.given["resume"]),
            _peak_memory() if made else None,
        )
        write_report(self.path, self.command.of_merge(facts, self.registry), quiet=self.given["quiet"])


def write_plan_report(
    path: Path, config: Path, plan: Plan, registry: Registry, given: Mapping[str, Any]
) -> None:
    """Write the page about a plan.

    given: the options of the command by name, as for `plan_shown`.
    """
    plans = {**{one.name: one.plan for one in plan.earlier}, "": plan}
    memory = {name: _memory(one, registry, given) for name, one in plans.items()}
    command = command_line("merge", config, "OUT", leave_out=_OF_REPORTS)
    facts = PlanFacts(plan, memory, command, given.get("there", ()))
    write_report(path, report_command(registry).of_plan(facts))


_SHOWING = ("--html", "--report", "--json", "--check", "--tensor", "--quiet", "--verbose")
_OF_REPORTS = (*_SHOWING, "--resume", "--restart", "--recheck", "--overwrite")
"""Options of `plan` that `merge` lacks, and those that say nothing of what is made."""


def _memory(plan: Plan, registry: Registry, given: Mapping[str, Any]) -> tuple[int, int]:
    """Workers, and the peak of memory."""
    from mergecore.engine.memory import estimate
    from mergecore.planning.toolkit import methods_of

    found = estimate(plan, methods_of(plan, registry)[0], given["threads"], given["max_memory"])
    return found.workers, found.peak


def _peak_memory() -> int:
    """Bytes that this process had in memory at its peak."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
