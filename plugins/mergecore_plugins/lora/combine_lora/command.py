"""The command `mergecore combine-lora`: adapters merged into one, written as a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergecore.cli import GroupedCommand, Maker, making_options
from mergecore.errors import counted
from mergecore_plugins.lora.adapter import check_out

if TYPE_CHECKING:
    from mergecore import Plan
    from mergecore.types import Json


@click.command("combine-lora", cls=GroupedCommand)
@click.argument("adapters", nargs=-1)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--method",
    metavar="NAME",
    default="task_arithmetic",
    show_default=True,
    help="How to merge, such as linear, ties, knots, core_space.",
)
@click.option(
    "--weight",
    "weights",
    type=float,
    multiple=True,
    metavar="X",
    help="Weight of an adapter; once for all, or once for each; 1 by default.",
)
@click.option(
    "--density",
    type=click.FloatRange(0, 1),
    metavar="X",
    help="Share of entries to keep, for methods that drop some.",
)
@click.option(
    "--rank",
    metavar="N|exact|full",
    help="Rank of the new adapter; by default the sum of those of ADAPTERS.",
)
@click.option("--base", metavar="NAME", help="The base; only needed for tensors that were trained whole.")
@click.option("--dtype", metavar="NAME", help="Number format of the output; by default that of ADAPTERS.")
@making_options(seed="Seed of random numbers.")
def combine_lora(out: Path, **given: Any) -> None:
    """Merge ADAPTERS of one base into a new adapter OUT.

    Each of ADAPTERS is a folder, or a hub id with or without @REVISION.  The base need not be there.  A table at the
    end shows what the new adapter lacks of the merged changes, for each kind of module.
    """
    check_out("combine-lora", given["adapters"], out)
    maker = Maker(given)
    made = maker.plan(_document(given))
    folder = maker.show_or_execute(made, out)
    if folder and not given["quiet"]:
        _show(made, folder, as_json=given["as_json"])


def _document(given: dict[str, Any]) -> dict[str, Json]:
    """The config that says the same."""
    adapters, weights = given["adapters"], given["weights"] or (1.0,)
    if len(weights) not in (1, len(adapters)):
        what = f"{counted(len(weights), 'time')} --weight for {counted(len(adapters), 'adapter')}"
        raise click.UsageError(f"{what}: one for all, or one for each")
    each = weights * len(adapters) if len(weights) == 1 else weights
    models: list[Json] = [
        {"model": {"adapter": one}, "parameters": {"weight": weight}}
        for one, weight in zip(adapters, each, strict=True)
    ]
    rank = given["rank"]
    output: dict[str, Json] = {"writer": "peft"}
    if rank is not None:
        output["rank"] = int(rank) if rank.isdecimal() else rank
    return {
        "merge_method": given["method"],
        **({"base_model": given["base"]} if given["base"] else {}),
        "models": models,
        **({"parameters": {"density": given["density"]}} if given["density"] is not None else {}),
        **({"dtype": given["dtype"]} if given["dtype"] else {}),
        "output": output,
        "seed": given["seed"],
    }


def _show(made: Plan, folder: Path, *, as_json: bool) -> None:
    from safetensors.torch import load_file

    from mergecore_plugins.lora.combine_lora.report import report
    from mergecore_plugins.lora.combine_lora.steps import FACTS_FILE

    found = report(made, load_file(folder / FACTS_FILE))
    click.echo(json.dumps(found.as_json()) if as_json else found.as_text())
