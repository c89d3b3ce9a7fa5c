"""The command `mergecore layershuffle`: its options, written as a document for the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergecore import OutputError
from mergecore.cli import SHARED, ForeignCommand, Maker, making_options
from mergecore.errors import counted

if TYPE_CHECKING:
    from mergecore.types import Json


_DEVICES = ("device", "compute_device", "load_to_compute", "cuda", "read_to_gpu", "multi_gpu", "gpu_rich")


class ShuffleCommand(ForeignCommand):
    """A command that understands the options of mergekit-layershuffle."""

    foreign = SHARED.extended(
        renamed={
            "fp16": "--dtype float16",
            "dry_run": "--print-config",
            "write_yaml": "--write-config {value}",
        },
        harmless={
            "print_yaml": "the config with the layers that were drawn is in the card; --print-config prints it alone",
            "no_full_random": "layers keep their places unless --full-random says otherwise",
            **dict.fromkeys(
                ("device", "compute_device"), "layers are copied, so there is nothing to compute"
            ),
        },
        with_value={"device", "compute_device"},
        program="mergekit-layershuffle",
        does="draws layers at random",
        same={"full_random"},
    )


@click.command(cls=ShuffleCommand)
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("-m", "--model", "models", multiple=True, required=True, metavar="MODEL", help="A model.")
@click.option(
    "-w",
    "--weight",
    "weights",
    multiple=True,
    type=click.FloatRange(0),
    metavar="X",
    help="How often layers of a model are drawn: one for each --model, in their order; equal by default.",
)
@click.option(
    "--full-random",
    is_flag=True,
    help="Draw which layers, too, and put them in any order; each model gives its number of layers times its weight.",
)
@click.option("--dtype", metavar="NAME", help="Number format of the output; by default as stored.")
@click.option("--allow-crimes", is_flag=True, help="Take layers from models of different architectures.")
@click.option(
    "--print-config",
    is_flag=True,
    help="Print the merge config with the layers that are drawn; make nothing.",
)
@click.option(
    "--write-config", type=click.Path(path_type=Path), metavar="FILE", help="Write that config to FILE."
)
@making_options(seed="Another seed draws other layers.")
def layershuffle(
    out: Path | None,
    print_config: bool,
    write_config: Path | None,
    **given: Any,
) -> None:
    """Make OUT of layers drawn from several models.

    Each layer of the output is the same layer of one of the models.  The same seed draws the same layers, and
    the card of the output has the config that makes them again.
    """
    maker = Maker(given)
    if out is None and not (given["only_plan"] or print_config):
        raise click.UsageError("give the folder OUT, or --plan or --print-config")
    plan = maker.plan(_document(given))
    _tell(plan.document, print_config, write_config)
    if given["only_plan"]:
        maker.show(maker.shown(plan))
    elif out is not None and not print_config:
        maker.execute(plan, out)


def _document(given: Mapping[str, Any]) -> dict[str, Json]:
    models, weights = given["models"], given["weights"] or [1.0] * len(given["models"])
    if len(weights) != len(models):
        raise click.UsageError(
            f"--weight is given {counted(len(weights), 'time')}, --model {counted(len(models), 'time')}"
        )
    listed: list[Json] = [
        {"model": model, "weight": weight} for model, weight in zip(models, weights, strict=True)
    ]
    shuffle: Json = {"models": listed, "full_random": given["full_random"]}
    more = {"dtype": given["dtype"]} if given["dtype"] else {}
    return {"layershuffle": shuffle, "seed": given["seed"], **more}


def _tell(config: Mapping[str, Json], print_it: bool, file: Path | None) -> None:
    """Print the config, or write it, where that is asked for."""
    import yaml

    own = {key: value for key, value in config.items() if key != "command_line"}
    text = yaml.safe_dump(own, sort_keys=False, allow_unicode=True, default_flow_style=None)
    if file is not None:
        try:
            file.write_text(text, encoding="utf8")
        except OSError as error:
            what = f"the config cannot be written: {error.strerror}"
            raise OutputError("E505", what, place=str(file), hint="choose another file") from error
    if print_it:
        click.echo(text, nl=False)
