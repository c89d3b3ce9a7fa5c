"""The commands of the core: merge, plan, methods, plugins, schema, verify."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergecore.cli.mergekit.merge import MergeCommand
from mergecore.cli.options import common_options, output_options, plan_options, run_options
from mergecore.cli.screen import show_text
from mergecore.cli.testing_plugins import check_plugin
from mergecore.files.exhaustion import TO_PLAN, check_memory
from mergecore.plugins.registry import Registry
from mergecore.types import Executor, MergeMethod, OutputWriter, Recipe, SideFile, TokenizerStrategy

if TYPE_CHECKING:
    from mergecore.types.plans import PlanOptions


@click.command(cls=MergeCommand)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--device", default="cpu", show_default=True, metavar="NAME", help="Where to compute: cpu, cuda, auto, …"
)
@click.option("--remove-intermediate", is_flag=True, help="Remove intermediate results once OUT is complete.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Then compare the result with what it was made of; write a page about it.",
)
@output_options
@plan_options
def merge(config: Path, out: Path, report: Path | None, disabled: Sequence[str], **given: Any) -> None:
    """Merge models as CONFIG says, into the folder OUT."""
    check_memory(TO_PLAN)
    from mergecore.cli.reports import Reporting
    from mergecore.config.documents import mentioned_folders
    from mergecore.errors import Collector
    from mergecore.output.target import check_target
    from mergecore.pipeline import execute, plan

    options = run_options(given)
    _check_order(config, out)
    registry = Registry.discover(disabled)
    reporting = Reporting(report, out, given, registry) if report else None
    problems = Collector()
    made = None
    with problems.collecting():
        made = plan(config, registry=registry, options=_plan_options(given))
    if made is None:
        with problems.collecting():
            check_target(out, mentioned_folders(config), given["overwrite"])
    problems.raise_any()
    assert made is not None
    execute(made, out, registry=registry, options=options, progress=reporting)
    if reporting:
        reporting.write(config, made)


def _check_order(config: Path, out: Path) -> None:
    """Raise a usage error for a folder and a config that stand in the wrong order."""
    if out.suffix in (".yml", ".yaml") and out.is_file() and not config.is_file():
        raise click.UsageError(f"the config comes first: mergecore merge {out} {config}")


@click.command(cls=MergeCommand)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--tensor", "pattern", metavar="GLOB", help="Show sources and parameters of these output tensors."
)
@click.option(
    "--check", is_flag=True, help="Print one line if all is well, and warnings, instead of the plan."
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a page about the plan too: what each model weighs where, and every tensor.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@plan_options
def plan(
    config: Path, pattern: str | None, check: bool, html: Path | None, disabled: Sequence[str], **given: Any
) -> None:
    """Check CONFIG and show what a merge would do.

    Reads headers and small files only, and writes nothing but the file of --html.
    """
    check_memory(TO_PLAN)
    from mergecore import pipeline
    from mergecore.cli.reports import check_report, report_command, write_plan_report
    from mergecore.cli.show_plan import check_as_json, check_as_text, plan_shown

    registry = Registry.discover(disabled)
    if html is not None:
        report_command(registry)
        check_report(html)
    made = pipeline.plan(config, registry=registry, options=_plan_options(given))
    made, there = pipeline.made_already(made, given["intermediate"])
    shown = plan_shown(made, registry, {**given, "there": there}, None if check else pattern)
    if check:
        shown = json.dumps(check_as_json(made)) if given["as_json"] else check_as_text(made, config)
    if html is not None:
        write_plan_report(html, config, made, registry, {**given, "there": there})
    (click.echo if given["as_json"] else show_text)(shown)


@click.group()
def methods() -> None:
    """The merge methods that are installed."""


@methods.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@common_options
def list_methods(disabled: Sequence[str], as_json: bool) -> None:
    """List the installed merge methods by what one wants of them.

    Those that do not come with mergecore say which package they are from.
    """
    from mergecore.cli.show_methods import method_as_json, methods_as_text

    registry = Registry.discover(disabled)
    found = registry.all(MergeMethod)
    if as_json:
        shown = [
            method_as_json(one) | {"plugin": registry.provider(MergeMethod, one.name).origin} for one in found
        ]
        click.echo(json.dumps(shown))
        return
    click.echo(methods_as_text([(one, registry.provider(MergeMethod, one.name)) for one in found]))
    click.echo("\n`mergecore methods show NAME` says what a method computes, needs and takes.")


@methods.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@common_options
def show_method(name: str, disabled: Sequence[str], as_json: bool) -> None:
    """Show formula, requirements and parameters of the method NAME."""
    from mergecore.cli.show_methods import method_as_json, method_as_text

    registry = Registry.discover(disabled)
    method: MergeMethod[Any] = registry.get(MergeMethod, name)
    if as_json:
        click.echo(json.dumps(method_as_json(method)))
    else:
        text, example = method_as_text(method, registry.provider(MergeMethod, name))
        show_text(text)
        if example:
            click.echo(example)


@click.group()
def plugins() -> None:
    """The plugins that are installed."""


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@common_options
def list_plugins(disabled: Sequence[str], as_json: bool) -> None:
    """List every plugin: what is wrong, then what each kind of them does.

    Those of other packages come before the built-in ones.
    """
    from mergecore.cli.show_plugins import plugin_as_json, plugins_as_text

    registry = Registry.discover(disabled)
    if as_json:
        click.echo(json.dumps([plugin_as_json(one, registry) for one in registry.plugins()]))
    else:
        show_text(plugins_as_text(registry))


@plugins.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@common_options
def show_plugin(name: str, disabled: Sequence[str], as_json: bool) -> None:
    """Show what the plugin NAME provides, and its parameters.

    NAME may also be that of a package, of something that a plugin provides, or
    PLUGIN@PACKAGE.
    """
    from mergecore.cli.show_plugins import named, plugin_as_json, plugin_as_text

    registry = Registry.discover(disabled)
    found = named(name, registry)
    if as_json:
        click.echo(json.dumps([plugin_as_json(one, registry) for one in found]))
    else:
        show_text("\n\n".join(plugin_as_text(one, registry) for one in found))


plugins.add_command(check_plugin)


@click.command()
@click.argument("recipe", required=False)
@click.option(
    "--any",
    "of_any",
    is_flag=True,
    help="For files with documents of any kind: merge configs and all recipes.",
)
@common_options
def schema(recipe: str | None, of_any: bool, disabled: Sequence[str]) -> None:
    """Print the JSON schema of merge configs, for editors.

    With RECIPE, such as transplant, print that of its documents.
    """
    from mergecore.config.schema import any_schema, recipe_schema
    from mergecore.config.schema import schema as config_schema

    if recipe and of_any:
        raise click.UsageError("name a RECIPE, or give --any")
    registry = Registry.discover(disabled)
    chosen: list[Any] = [*registry.all(OutputWriter), *registry.all(Executor)]
    files = registry.all(SideFile)
    if recipe is not None:
        made = recipe_schema(registry.get(Recipe, recipe), chosen, files)
    else:
        made = config_schema(registry.all(MergeMethod), [*registry.all(TokenizerStrategy), *chosen], files)
    if of_any:
        made = any_schema(
            made, [recipe_schema(one, chosen, files) for one in registry.all(Recipe) if one.schema]
        )
    click.echo(json.dumps(made, indent=2))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@common_options
def verify(folder: Path, disabled: Sequence[str]) -> None:
    """Compare a merged model with its manifest, byte by byte."""
    from mergecore.output.verify import verify_folder

    report = verify_folder(folder, Registry.discover(disabled))
    show_text(f"{folder}: {report.tensors} tensors and {report.files} files are as they were written")
    if report.unread:
        show_text(f"note: what the files say of their tensors was not read: {report.unread}")


COMMANDS: Sequence[click.Command] = (merge, plan, methods, plugins, schema, verify)
"""All of them, for the command line to add."""


def _plan_options(given: dict[str, Any]) -> PlanOptions:
    from mergecore.types.plans import PlanOptions

    names = (
        "offline",
        "missing",
        "unexpected",
        "allow_crimes",
        "seed",
        "shard_size",
        "strict",
        "result",
        "fuse",
    )
    values = {name: given[name] for name in names}
    if given.get("device", "cpu") != "cpu" and given["fuse"] == "auto":
        values["fuse"] = "never"  # what is computed while it is read is computed on the host
    return PlanOptions(**values)
