"""Compares bf16 merges with the exact result rounded once: how much error does a tool add to what bf16 costs?

`python benchmarks/accuracy.py` prints a row for each method.  The exact result is the method in float64; the
error ratio is the mean distance of the merged numbers from it, over that of the exact result rounded to bf16.
1.00 is as good as bf16 can be.  Read `main`, then `error_ratio`.

Differences of bf16 numbers are multiples of few steps, so weighted votes on a sign often cancel.  Who wins then is
decided by the rounding of the weights, in any precision; so this uses weights that are exact in all of them.
"""

import json
import math
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import click
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.checkpoints import Checkpoints, LlamaShape, write_set
from benchmarks.methods import CASES, config_for

import mergecore
from mergecore import Registry
from mergecore.testing import run_method
from mergecore.types import Json, MergeMethod, Step, Stored, TensorInput

SHAPE = LlamaShape(
    hidden=256, intermediate=688, layers=4, heads=4, key_value_heads=2, vocabulary=2000, tied=False
)
WEIGHTS = (0.5, 0.375, 0.25)

RANDOM = ("dare_linear", "dare_ties", "della", "della_linear")
"""Other tools draw other numbers, so their results cannot be compared."""


@click.command()
@click.option("--methods", default=",".join(CASES), help="Methods, with commas between them.")
@click.option(
    "--mergekit", "command", help="Command of another tool that takes CONFIG and OUT, such as mergekit-yaml."
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures to a file."
)
def main(methods: str, command: str | None, json_file: Path | None) -> None:
    """Print the error ratio of each method, and that of another tool beside it."""
    torch.set_num_threads(1)
    rows: dict[str, dict[str, float | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        made = write_set(Path(folder) / "set", SHAPE, models=3)
        for method in methods.split(","):
            rows[method] = compare(method, made, Path(folder), command)
            click.echo(row(method, rows[method]))
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf8")


def compare(method: str, made: Checkpoints, folder: Path, command: str | None) -> dict[str, float | None]:
    """The error ratio of mergecore and, where it makes sense, of the other tool."""
    config = with_exact_weights(config_for(method, made.base, made.models))
    registry = Registry.discover()
    plan = mergecore.plan(config, registry=registry)
    exact = {step.name: exactly(step, registry, plan.seed) for step in plan.steps if step.method is not None}
    ours = mergecore.merge(config, folder / f"ours-{method}", registry=registry)
    ratios: dict[str, float | None] = {"mergecore": error_ratio(tensors_in(ours), exact)}
    if command:
        theirs = None if method in RANDOM else other(command, config, folder / f"theirs-{method}")
        ratios["other"] = error_ratio(theirs, exact) if theirs else None
    return ratios


def with_exact_weights(config: dict[str, object]) -> dict[str, Json]:
    """The config with weights that no precision rounds."""
    models = cast("list[dict[str, dict[str, object]]]", config["models"])
    for model, weight in zip(
        [one for one in models if "weight" in one.get("parameters", {})], WEIGHTS, strict=False
    ):
        model["parameters"]["weight"] = weight
    return cast("dict[str, Json]", config)


def exactly(step: Step, registry: Registry, seed: int) -> Tensor:
    """The result of a step in float64."""
    method: MergeMethod[mergecore.Params] = registry.get(MergeMethod, step.method or "")
    assert step.params is not None
    base = stored(step.base).double() if step.base else None
    inputs = [stored(one).double() for one in step.inputs]
    return run_method(method, step.params, inputs, base, name=step.name, seed=seed)


def stored(one: TensorInput) -> Tensor:
    """A tensor as its file holds it."""
    data = one.tensor.data
    assert isinstance(data, Stored)
    return load_file(data.file)[data.name]


def other(command: str, config: Mapping[str, Json], out: Path) -> dict[str, Tensor] | None:
    """What another tool makes of a config; None when it fails, which is said."""
    file = out.with_suffix(".yml")
    file.write_text(yaml.safe_dump(dict(config)), encoding="utf8")
    done = subprocess.run([*shlex.split(command), file, out], capture_output=True, text=True, check=False)
    if done.returncode:
        click.echo(f"{out.name}: failed: {done.stderr.strip().splitlines()[-1:]}", err=True)
        return None
    return tensors_in(out)


def tensors_in(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint."""
    return {
        name: one for file in sorted(folder.glob("*.safetensors")) for name, one in load_file(file).items()
    }


def error_ratio(merged: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> float:
    """The mean error of all elements, over the one that rounding to bf16 alone makes.

    A method that selects elements has nothing to round: it is then 1 plus the share of those selected otherwise.
    """
    found = math.fsum(distance(merged[name].double(), one) for name, one in exact.items())
    least = math.fsum(distance(one.to(torch.bfloat16).double(), one) for one in exact.values())
    if least == 0:
        otherwise = sum(int((merged[name].double() != one).sum()) for name, one in exact.items())
        return 1 + otherwise / sum(one.numel() for one in exact.values())
    return found / least


def distance(one: Tensor, exact: Tensor) -> float:
    """The sum of the distances of all elements."""
    return float((one - exact).abs().sum())


def row(method: str, ratios: Mapping[str, float | None]) -> str:
    """A line of the table."""
    cells: Iterator[str] = ("-" if ratio is None else f"{ratio:.4f}" for ratio in ratios.values())
    return "  ".join([f"{method:<18}", *cells])


if __name__ == "__main__":
    main()
