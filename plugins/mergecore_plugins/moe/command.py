"""`mergecore moe`: mixtures of one model, and mixtures with fewer experts, each written as a document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mergecore.cli import GroupedCommand, common_options, output_options, run_options, size_options

if TYPE_CHECKING:
    from mergecore.types import Json

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def moe() -> None:
    """Mixtures of experts: of one dense model, or with fewer experts."""


def _shared(command: F) -> F:
    """Add the options of all commands of the group."""
    for option in (
        common_options,
        output_options,
        size_options,
        click.option(
            "--offline", is_flag=True, help="Do not use the network; read hub models from the cache."
        ),
        click.option("--plan", "only_plan", is_flag=True, help="Show what would be done; read headers only."),
    ):
        command = option(command)
    return command


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
@click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    show_default=True,
    help="Seed of routers and noise.",
)
@_shared
def upcycle(model: str, out: Path, disabled: Sequence[str], **given: Any) -> None:
    """Make a mixture OUT whose experts are all copies of the dense MODEL.

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
    _make(document, out, disabled, given)


def _picking(name: str) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in (
            _shared,
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
def keep(model: str, out: Path, experts: str, disabled: Sequence[str], **given: Any) -> None:
    """Keep some experts of the mixture MODEL, in the order given, as a new model OUT.

    The rows of the routers and config.json follow.
    """
    _pick("keep", model, out, experts, disabled, given)


@moe.command(cls=GroupedCommand)
@_picking("drop")
def drop(model: str, out: Path, experts: str, disabled: Sequence[str], **given: Any) -> None:
    """Leave out some experts of the mixture MODEL, as a new model OUT.

    The rows of the routers and config.json follow.
    """
    _pick("drop", model, out, experts, disabled, given)


def _pick(
    key: str, model: str, out: Path, experts: str, disabled: Sequence[str], given: dict[str, Any]
) -> None:
    asked: dict[str, Json] = {"model": model, key: [*_numbers(experts)]}
    if given["experts_per_token"]:
        asked["experts_per_token"] = given["experts_per_token"]
    _make({"pick_experts": asked}, out, disabled, given)


def _numbers(text: str) -> list[int]:
    """The numbers that `0,2,4-7` means."""
    found: list[int] = []
    for word in text.split(","):
        first, _, last = word.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise click.UsageError(f"--experts {text}: numbers are expected, such as 0,2,4-7")
        found += range(int(first), int(last or first) + 1)
    return found


def _make(document: dict[str, Json], out: Path, disabled: Sequence[str], given: dict[str, Any]) -> None:
    """Carry out a document in the folder `out`, or show its plan."""
    from mergecore import PlanOptions, Registry, execute, plan
    from mergecore.cli import plan_shown, show_text

    how = run_options(given)
    registry = Registry.discover(disabled)
    options = PlanOptions(given["offline"], shard_size=given["shard_size"])
    made = plan(document, registry=registry, options=options)
    if given["only_plan"]:
        (click.echo if given["as_json"] else show_text)(plan_shown(made, registry, given))
        return
    execute(made, out, registry=registry, options=how)
