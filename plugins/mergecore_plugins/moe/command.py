"""`mergecore moe`: mixtures of one model, and mixtures with fewer experts, each written as a document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mergecore.cli import GroupedCommand, Maker, making_options

if TYPE_CHECKING:
    from mergecore.types import Json

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def moe() -> None:
    """Make mixtures of experts, and take experts out."""


@moe.command(cls=GroupedCommand)
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--experts", type=click.IntRange(2), default=8, show_default=True, metavar="N", help="How many experts."
)
@click.option(
    "--experts-per-token",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    metavar="N",
    help="How many experts see a token.",
)
@click.option(
    "--noise",
    type=click.FloatRange(0),
    metavar="X",
    help="Standard deviation of the noise that tells experts apart; none by default.",
)
@click.option("--architecture", metavar="NAME", help="The family; by default the first that fits.")
@click.option("--dtype", metavar="NAME", help="Number format of the output; by default that of MODEL.")
@making_options(seed="Seed of routers and noise.")
def upcycle(model: str, out: Path, **given: Any) -> None:
    """Make a mixture OUT of copies of the dense MODEL.

    It computes what MODEL does, up to the noise, and is meant to be trained further.  Routers are random.
    """
    noise: dict[str, Json] = {"noise_scale": given["noise"]} if given["noise"] else {}
    expert: dict[str, Json] = {"source_model": model, **noise}
    document: dict[str, Json] = {
        "base_model": model,
        "gate_mode": "uniform_random",
        "experts": [expert] * given["experts"],
        "experts_per_token": given["experts_per_token"],
        "allow_identical": True,
        "seed": given["seed"],
        **{key: given[key] for key in ("architecture", "dtype") if given[key]},
    }
    _make(document, out, given)


def _picking(name: str) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in (
            making_options(),
            click.option(
                "--experts-per-token",
                type=click.IntRange(1),
                metavar="N",
                help="How many experts see a token; as before, if that many are left.",
            ),
            click.option(
                "--experts",
                required=True,
                metavar="N,N,…",
                help=f"The experts to {name}, by their numbers from 0; 4-7 means all of these.",
            ),
            click.argument("out", type=click.Path(path_type=Path)),
            click.argument("model"),
        ):
            command = option(command)
        return command

    return add


@moe.command(cls=GroupedCommand)
@_picking("keep")
def keep(model: str, out: Path, experts: str, **given: Any) -> None:
    """Keep some experts of the mixture MODEL, as a new model OUT.

    They are put in the order given.  The rows of the routers and config.json follow.
    """
    _pick("keep", model, out, experts, given)


@moe.command(cls=GroupedCommand)
@_picking("drop")
def drop(model: str, out: Path, experts: str, **given: Any) -> None:
    """Leave out some experts of the mixture MODEL, as a new model OUT.

    The rows of the routers and config.json follow.
    """
    _pick("drop", model, out, experts, given)


def _pick(key: str, model: str, out: Path, experts: str, given: dict[str, Any]) -> None:
    asked: dict[str, Json] = {"model": model, key: [*_numbers(experts)]}
    if given["experts_per_token"]:
        asked["experts_per_token"] = given["experts_per_token"]
    _make({"pick_experts": asked}, out, given)


def _numbers(text: str) -> list[int]:
    """The numbers that `0,2,4-7` means."""
    found: list[int] = []
    for word in text.split(","):
        first, _, last = word.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise click.UsageError(f"--experts {text}: numbers are expected, such as 0,2,4-7")
        found += range(int(first), int(last or first) + 1)
    return found


def _make(document: dict[str, Json], out: Path, given: dict[str, Any]) -> None:
    """Carry out a document in the folder `out`, or show its plan."""
    maker = Maker(given)
    maker.show_or_execute(maker.plan(document), out)
