"""The command `mergecore average`: its options, written as a merge config."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

from mergecore import MergecoreError
from mergecore.cli import GroupedCommand, Maker, making_options
from mergecore.errors import InputError, Problems
from mergecore.files import parse_json
from mergecore_plugins.averaging.choosing import Window, chosen, config_of, parse_steps, parse_tokens, weights
from mergecore_plugins.averaging.runs import read_run
from mergecore_plugins.averaging.show import Shown
from mergecore_plugins.methods.common import DECAY, Schedule

if TYPE_CHECKING:
    from mergecore.types import Json, Plan


@click.command(cls=GroupedCommand)
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--last", type=click.IntRange(1), metavar="N", help="The N newest checkpoints; 5 by default.")
@click.option("--steps", metavar="A:B", help="Those from step A to step B, both included.")
@click.option("--tokens", metavar="N", help="Those of the last N tokens, such as 2B or 500M.")
@click.option(
    "--every", type=click.IntRange(1), metavar="N", help="Leave out those nearer than N steps to the next."
)
@click.option(
    "--schedule",
    type=click.Choice(get_args(Schedule)),
    default="uniform",
    show_default=True,
    help="How checkpoints are weighted: see `mergecore methods show average`.",
)
@click.option(
    "--decay",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="X",
    help="ema: what is left of the average at each checkpoint; 0.5 by default.",
)
@click.option(
    "--final-step",
    type=click.IntRange(1),
    metavar="N",
    help="Count the model in RUN_DIR itself, as that of step N.",
)
@click.option("--base", metavar="MODEL", help="The base of adapters; by default the one that they name.")
@click.option(
    "--config",
    metavar="MODEL",
    help="The model that gives config.json and tokenizer; by default the newest checkpoint.",
)
@click.option(
    "--dtype", metavar="NAME", help="Number format of the output, such as bfloat16; by default as stored."
)
@click.option("--print-config", is_flag=True, help="Print the merge config that says the same.")
@making_options()
def average(
    run_dir: Path,
    out: Path | None,
    print_config: bool,
    **given: Any,
) -> None:
    """Average the checkpoints of a training run into a model OUT.

    RUN_DIR is the output_dir of Trainer, TRL or axolotl, with folders such as checkpoint-500.  Only weights are
    read; config.json and tokenizer are those of the newest checkpoint.
    """
    maker = Maker(given)
    if out is None and not (given["only_plan"] or print_config):
        raise click.UsageError("give the folder OUT, or --plan or --print-config")
    if given["only_plan"] and print_config:
        raise click.UsageError("--plan and --print-config exclude each other")
    if given["decay"] is not None and given["schedule"] != "ema":
        raise click.UsageError(f"--decay has no effect with --schedule {given['schedule']}; it is for ema")
    run = read_run(run_dir, given["final_step"])
    window = Window(
        last=given["last"],
        steps=parse_steps(given["steps"]) if given["steps"] else (None, None),
        tokens=parse_tokens(given["tokens"]) if given["tokens"] else None,
        every=given["every"],
    )
    decay = DECAY if given["decay"] is None else given["decay"]
    found = chosen(run, window)
    more = {name: given[name] for name in ("base", "config", "dtype")}
    document = config_of(found, given["schedule"], decay, **more)
    if print_config:
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
        return
    shown = Shown(run, found, weights(found, given["schedule"], decay))
    _merge(document, shown, None if given["only_plan"] else out, maker)


def _merge(document: dict[str, Json], shown: Shown, out: Path | None, maker: Maker) -> None:
    """Carry out the config in the folder `out`, or show its plan without one."""
    with _naming_the_option(shown, maker.given["base"]):
        made = maker.plan(document)
    _check_config(made)
    made = replace(made, warnings=(*shown.warnings, *made.warnings))
    if out is not None:
        if maker.given["as_json"]:
            click.echo(json.dumps({"event": "Chosen", **shown.as_json()}))
        elif not maker.given["quiet"]:
            click.echo(shown.as_text())
        maker.execute(made, out)
    elif maker.given["as_json"]:
        facts = cast("dict[str, Json]", parse_json(maker.shown(made), code="E605"))
        click.echo(json.dumps({**shown.as_json(), **facts}))
    else:
        click.echo(f"{shown.as_text()}\n")
        maker.show(maker.shown(made))


def _check_config(made: Plan) -> None:
    """Raise E220 when nothing would say what kind of model the weights are of."""
    primary = made.models[made.primary]
    if not primary.config:
        what = f"no config.json is in {primary.name}, or in the folder of its run"
        hint = "name a model that has one, such as that from which the run began: --config MODEL"
        raise InputError("E220", what, hint=hint)


@contextmanager
def _naming_the_option(shown: Shown, base: str | None) -> Iterator[None]:
    """Let an error of the body about a base that is not there say which option names one."""
    try:
        yield
    except MergecoreError as error:
        for one in error.errors if isinstance(error, Problems) else (error,):
            if one.code == "E701" and base is None and any(saved.kind == "adapter" for saved in shown.found):
                one.hint = "say where the base of the adapters is: --base MODEL"
        raise
