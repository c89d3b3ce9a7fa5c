"""The command `mergecore report`, which also makes the pages of `plan --html` and `merge --report`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergecore import PlanOptions, Registry, hookimpl
from mergecore.cli import (
    MergeFacts,
    PlanFacts,
    ReportCommand,
    check_report,
    command_line,
    common_options,
    write_report,
)

if TYPE_CHECKING:
    from mergecore import Manifest, Plan
    from mergecore.types import Json


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield `report`."""
    yield report


def _of_plan(facts: PlanFacts) -> str:
    from mergecore_plugins.reports.plans.page import plan_report

    return plan_report(facts)


def _of_merge(facts: MergeFacts, registry: Registry) -> str:
    from mergecore_plugins.look.merged.page import merge_report

    return merge_report(facts, registry)


@click.command(cls=ReportCommand, of_plan=_of_plan, of_merge=_of_merge)
@click.argument("merged", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--models", type=click.Path(path_type=Path), metavar="DIR", help="The folder in which the models lie."
)
@click.option("-j", "--threads", type=click.IntRange(1), metavar="N", help="Number of threads.")
@click.option("--offline", is_flag=True, help="Do not use the network; read hub models from the cache.")
@common_options
def report(
    merged: Path, file: Path, models: Path | None, threads: int | None, offline: bool, disabled: Sequence[str]
) -> None:
    """Write a page about the merged model MERGED into FILE.

    As `mergecore merge --report` does, of a folder that was merged before: its manifest says of what.  Models are
    looked for under the names that it has, below --models if that is given; time and memory are not known.
    """
    from mergecore import plan, read_manifest

    check_report(file, outside=merged)
    registry = Registry.discover(disabled)
    manifest = read_manifest(merged)
    documents, options = _documents(manifest, models)
    made = plan(documents, registry=registry, options=replace(options, offline=offline))
    _check(manifest, made, merged)
    line = command_line("report", merged, file)
    write_report(file, _of_merge(MergeFacts(made, merged, threads or os.cpu_count() or 1, line), registry))


def _documents(manifest: Manifest, models: Path | None) -> tuple[list[dict[str, Json]], PlanOptions]:
    """The configs that a manifest holds, the result last, with the models below `models`; options that were given.

    What one of them makes for another is computed while it is read: it need not be there any more.
    """
    extra = manifest.model_extra or {}
    *before, last = _in_order(extra.get("document") or {}, "")
    given: dict[str, Any] = last.pop("command_line", {})  # type: ignore[assignment]
    options = PlanOptions(**given, fuse="always" if before else "auto")
    if models is None:
        return [*before, last], options
    names = {str(one.get("reference")) for one in extra.get("models", ())}

    def walk(value: Json) -> Json:
        if isinstance(value, dict):
            return {key: walk(one) for key, one in value.items()}
        if isinstance(value, list):
            return [walk(one) for one in value]
        known = isinstance(value, str) and any(value in (name, *name.split("+")) for name in names)
        return _found(value, models) if known and isinstance(value, str) else value

    return [{key: walk(value) for key, value in one.items()} for one in (*before, last)], options


def _in_order(document: Mapping[str, Any], name: str) -> list[dict[str, Json]]:
    """A config, after those that make what it reads, each with its name."""
    own = {key: value for key, value in document.items() if key != "made_before"}
    before = [one for key, made in document.get("made_before", {}).items() for one in _in_order(made, key)]
    if name:
        own = {key: value for key, value in own.items() if key != "command_line"} | {"name": name}
    return [*before, own]


def _found(reference: str, models: Path) -> str:
    """A reference whose parts are below `models` where they are there."""
    parts = reference.split("+")
    return "+".join(str(models / one) if one and (models / one).exists() else one for one in parts)


def _check(manifest: Manifest, plan: Plan, merged: Path) -> None:
    """Refuse models other than those that were merged, which would give other numbers.

    Raises:
        OutputError: E508.
    """
    from mergecore.errors import OutputError

    known = (manifest.model_extra or {}).get("models", ())
    made = {one.name for one in plan.earlier} | {one.name for one in plan.documents}
    for was, model in zip(known, plan.models, strict=False):
        if model.name in made:
            continue  # it is computed here, where the merge may have read it
        headers = {one["header_sha256"] for one in _files(was)}
        if headers != {one.header_sha256 for one in model.weight_files}:
            what = f"{model.name} is not the model that was merged: the headers of its files are others"
            raise OutputError(
                "E508", what, place=str(merged), hint="--models names the folder of the right one"
            )
    if {one.name for one in plan.outputs} != manifest.tensors.keys() or len(known) != len(plan.models):
        what = "its config alone makes other tensors than it has: it was merged with further options"
        hint = f"`mergecore merge CONFIG {merged} --report FILE`, with these, makes the page"
        raise OutputError("E508", what, place=str(merged), hint=hint)


def _files(model: Mapping[str, Json]) -> list[Mapping[str, str]]:
    """The files of a model of a manifest, and of its parts."""
    found: list[Mapping[str, str]] = [*model.get("files", ())]  # type: ignore[misc]
    for part in model.get("parts", ()):  # type: ignore[union-attr]
        found += _files(part)  # type: ignore[arg-type]
    return found
