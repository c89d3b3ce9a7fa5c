"""The command `mergecore extract-lora`: its options, written as a document for the recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergecore.cli import Maker, making_options
from mergecore_plugins.lora.extract_lora.foreign import ExtractCommand

if TYPE_CHECKING:
    from mergecore.types import Json
    from mergecore_plugins.lora.extract_lora.ranks import Bounds

USUAL, WITH_BOUNDS = 32, 128
"""The largest rank where none is given; and where the singular values decide."""
SHARE = click.FloatRange(0, 1, min_open=True)


@click.command("extract-lora", cls=ExtractCommand)
@click.argument("finetuned")
@click.argument("base")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--rank", metavar="N|full", help="The largest rank; 32, or 128 with one of the next three.")
@click.option(
    "--energy",
    type=SHARE,
    metavar="X",
    help="Keep this share of the squared norm of each change, such as 0.99.",
)
@click.option(
    "--min-value", type=click.FloatRange(0), metavar="X", help="Keep singular values of at least this value."
)
@click.option(
    "--min-share", type=SHARE, metavar="X", help="Keep singular values of at least this share of the largest."
)
@click.option(
    "--rank-pattern",
    "patterns",
    multiple=True,
    metavar="GLOB=N",
    help="The rank of some modules; may be repeated.",
)
@click.option(
    "--include",
    multiple=True,
    metavar="NAME",
    help="Use only these modules: names, patterns or roles; may be repeated.",
)
@click.option("--exclude", multiple=True, metavar="NAME", help="Leave these modules out; may be repeated.")
@click.option(
    "--embeddings",
    type=click.Choice(["lora", "save", "skip"]),
    default="lora",
    show_default=True,
    help="Factor embeddings, store them whole, or leave them out.",
)
@click.option("--only-linear", is_flag=True, help="Leave out all but weights of linear layers.")
@click.option(
    "--method",
    type=click.Choice(["auto", "exact", "randomised"]),
    default="auto",
    show_default=True,
    help="How to compute singular values; auto takes the faster way.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Number format of the factors.",
)
@click.option("--base-name", metavar="NAME", help="Name of the base in the adapter, such as its hub id.")
@making_options(seed="Seed of the random projection.")
def extract_lora(out: Path, **given: Any) -> None:
    """Make a LoRA adapter OUT of a fine-tune and its base.

    The adapter is the difference between FINETUNED and BASE.  A table at the end shows its error for each kind
    of module.
    """
    from mergecore_plugins.lora.extract_lora.ranks import Bounds

    maker = Maker(given)
    bounds = Bounds(given["energy"], given["min_value"], given["min_share"])
    asked = _asked(given, bounds)
    if bounds.said:
        asked = _with_ranks(asked, bounds, maker)
    made = maker.plan({"extract_lora": asked, "seed": given["seed"]})
    folder = maker.show_or_execute(made, out)
    if folder and not given["quiet"]:
        _show(made, folder, as_json=given["as_json"])


def _asked(given: dict[str, Any], bounds: Bounds) -> dict[str, Json]:
    """The document that says the same."""
    rank = given["rank"] or (WITH_BOUNDS if bounds.said else USUAL)
    asked: dict[str, Json] = {name: given[name] for name in ("finetuned", "base")}
    asked["rank"] = int(rank) if str(rank).isdecimal() else rank
    asked |= {name: given[name] for name in ("embeddings", "only_linear", "method", "dtype")}
    asked |= {name: [*given[name]] for name in ("include", "exclude") if given[name]}
    if given["patterns"]:
        asked["rank_pattern"] = dict(map(_pattern, given["patterns"]))
    if given["base_name"]:
        asked["base_name"] = given["base_name"]
    return asked


def _pattern(text: str) -> tuple[str, Json]:
    name, _, rank = text.rpartition("=")
    if not name or not rank.isdecimal():
        raise click.UsageError(
            f"--rank-pattern '{text}': a pattern and a number are expected, such as '*.q_proj=64'"
        )
    return name, int(rank)


def _with_ranks(asked: dict[str, Json], bounds: Bounds, maker: Maker) -> dict[str, Json]:
    """The document with the ranks that the singular values decide; reads all weights."""
    from mergecore import run
    from mergecore_plugins.lora.extract_lora.ranks import decided

    look = {"extract_lora": {**asked, "only_facts": True}, "seed": maker.given["seed"]}
    looked = maker.plan(look)
    seen = run(looked, registry=maker.registry, options=maker.run_options)
    found = decided(looked, seen, bounds, [name for name, _ in map(_pattern, maker.given["patterns"])])
    if found.bounded and not maker.given["quiet"]:
        count = "1 module" if len(found.bounded) == 1 else f"{len(found.bounded)} modules, such as"
        click.echo(f"--rank keeps less than asked for of {count} {found.bounded[0]}", err=True)
    return found.document(asked)


def _show(made: Any, folder: Path, *, as_json: bool) -> None:
    from safetensors.torch import load_file

    from mergecore_plugins.lora.extract_lora.report import report
    from mergecore_plugins.lora.extract_lora.steps import FACTS_FILE

    found = report(made, load_file(folder / FACTS_FILE))
    click.echo(json.dumps(found.as_json()) if as_json else found.as_text())
