"""The command `mergecore transplant`: its options, written as a document for the recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from mergecore.cli import Maker, making_options
from mergecore_plugins.transplant.foreign import TransplantCommand
from mergecore_plugins.transplant.methods import METHODS, FillParams, Metric, Pieces, Weights

if TYPE_CHECKING:
    from mergecore.types import Json, Plan

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT = FillParams()


def _choice(name: str, kind: object, help_text: str) -> Callable[[F], F]:
    names = [str(one).replace("_", "-") for one in get_args(kind)]
    default = str(getattr(DEFAULT, name)).replace("_", "-")
    return click.option(
        f"--{name}", type=click.Choice(names), default=default, show_default=True, help=help_text
    )


@click.command(cls=TransplantCommand)
@click.argument("model")
@click.argument("donor")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--method",
    type=click.Choice([name.replace("_", "-") for name in METHODS]),
    default="omp",
    show_default=True,
    metavar="NAME",
    help="How to make the rows of tokens that MODEL lacks; see above.",
)
@click.option(
    "-k",
    type=click.IntRange(1),
    default=DEFAULT.k,
    show_default=True,
    metavar="N",
    help="omp and common-interpolation: number of shared tokens that a row is made of.",
)
@click.option(
    "--center/--no-center",
    default=True,
    show_default=True,
    help="omp: subtract the mean of the rows before they are compared, or not.",
)
@click.option(
    "--ridge",
    type=click.FloatRange(0),
    metavar="X",
    default=0.0,
    show_default=True,
    help="omp: penalty on large weights; 0.1 is a strong one.",
)
@_choice("metric", Metric, "common-interpolation: how to measure which shared tokens are near.")
@_choice("weights", Weights, "common-interpolation: how to weight the near tokens.")
@_choice("pieces", Pieces, "subword: how to combine the pieces of a token.")
@click.option(
    "--pad-to-multiple-of",
    type=click.IntRange(1),
    metavar="N",
    help="Round the number of rows up to a multiple of N.",
)
@click.option(
    "--chat-template",
    metavar="NAME",
    help="auto, the name of a template such as chatml, or the text of one; by default that of DONOR.",
)
@making_options(seed="Seed of random and john-hewitt.")
def transplant(out: Path, **given: Any) -> None:
    """Give MODEL the tokenizer of DONOR, as a new model OUT.

    Tokens that both have keep their rows of embeddings and head, exactly.  The rows of all others are made by
    --method.  Everything else of MODEL is copied.

    Methods: omp, common-interpolation, landmark-pca, subword, mean, john-hewitt, random, zero.
    """
    maker = Maker(given)
    plan = maker.plan(_document(given))
    if given["only_plan"]:
        maker.show(_shown(plan, maker))
        return
    maker.execute(plan, out)


def _document(given: dict[str, Any]) -> dict[str, Json]:
    asked: dict[str, Json] = {"model": given["model"], "donor": given["donor"]}
    for name in ("method", "metric", "weights", "pieces"):
        asked[name] = given[name].replace("-", "_")
    asked |= {name: given[name] for name in ("k", "center", "ridge")}
    if given["pad_to_multiple_of"]:
        asked["pad_to_multiple_of"] = given["pad_to_multiple_of"]
    further = {"chat_template": given["chat_template"]} if given["chat_template"] else {}
    return {"transplant": asked, "seed": given["seed"], **further}


def _shown(plan: Plan, maker: Maker) -> str:
    from mergecore.types import MovedRows

    shown = maker.shown(plan)
    if maker.given["as_json"]:
        return shown
    moved = [
        f"  {step.name} {list(step.shape)}: {step.note}"
        for step in plan.steps
        if isinstance(step.inputs[0].tensor.data, MovedRows)
    ]
    return "\n".join([shown, "", "rows", *moved])
