"""How do mergecore and mergekit merge and extract adapters, side by side?  One run, both tools in turn.

    python benchmarks/lora_tools.py --peer /path/to/mergekit-venv/bin/python

Merged is an adapter on every linear layer of a Llama-shaped bf16 model; the result is compared with the exact sum
`W + alpha / r · B A` in float64, rounded once.  Extracted is the difference of two models of one layer, at one rank;
its error is compared with the smallest that is possible, from the eigenvalues of the change in float64.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.adapters import write_adapter
from benchmarks.checkpoints import LlamaShape, parse_count, shape_for, write_set
from benchmarks.measure import Usage, measure
from benchmarks.pages import table, with_tables
from benchmarks.tools import ENVIRONMENT

if TYPE_CHECKING:
    from torch import Tensor

PAGE = Path(__file__).resolve().parent.parent / "docs/explanation/speed.md"
COMMAND = "python benchmarks/lora_tools.py --write-docs --peer …"
HEAD = ("what", "tool", "wall s", "CPU s", "peak memory MB", "written MB", "error")
CONFIG = "merge_method: passthrough\nmodels:\n  - model: {base}+{adapter}\n"
SPECTRUM = 256
"""Singular values of a change that stand out of its noise."""


@dataclass(frozen=True)
class Tools:
    """The commands of both, without their arguments."""

    peer: Path
    """The Python of an environment in which mergekit is installed."""

    def ours(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "mergecore", *words]

    def theirs(self, command: str, *words: str) -> list[str]:
        return [str(self.peer.with_name(command)), *words]


@click.command()
@click.option(
    "--peer", type=click.Path(exists=True, path_type=Path), required=True, help="Python of mergekit."
)
@click.option("--parameters", default="1.2B", show_default=True, help="Of the model that is merged.")
@click.option("--hidden", default=2048, show_default=True, help="Width of the model that is extracted from.")
@click.option(
    "--rank", default=64, show_default=True, help="Of what is extracted; a quarter of it is merged."
)
@click.option("--repeats", default=2, show_default=True, help="Of each; the fastest counts.")
@click.option(
    "--workdir", type=click.Path(path_type=Path), help="Where the models are; a temporary folder else."
)
@click.option("--write-docs", is_flag=True, help=f"Put the table into {PAGE.name}.")
def main(
    peer: Path, parameters: str, hidden: int, rank: int, repeats: int, workdir: Path | None, write_docs: bool
) -> None:
    """Print a line for each task and tool."""
    tools = Tools(peer)
    with tempfile.TemporaryDirectory(dir=workdir) as temporary:
        rows = [*merges(tools, Path(temporary), parameters, rank // 4, repeats)]
        rows += extractions(tools, Path(temporary), hidden, rank, repeats)
    text = table(HEAD, rows)
    click.echo(text)
    if write_docs:
        PAGE.write_text(with_tables(PAGE.read_text(), COMMAND, text))


def best(command: Sequence[str], written: Sequence[Path], repeats: int) -> tuple[Usage, float]:
    """What the fastest of several runs used, and the MB that each leaves on the disk, where nothing was before."""
    runs = []
    for _ in range(repeats):
        for folder in written:
            _remove(folder)
        used = measure(command, ENVIRONMENT)
        if used.exit_code:
            sys.exit(f"{' '.join(command)}:\n{used.output_tail}")
        runs.append(used)
    left = sum(file.stat().st_size for folder in written for file in folder.rglob("*") if file.is_file())
    return min(runs, key=lambda one: one.cpu), left / 1e6


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _row(what: str, tool: str, used: Usage, written: float, error: str) -> tuple[str, ...]:
    figures = f"{used.wall:.1f}", f"{used.cpu:.1f}", f"{used.peak_anonymous / 1e6:.0f}", f"{written:.0f}"
    return (what, tool, *figures, error)


# ---- merging -----------------------------------------------------------------------------------------------


def merges(tools: Tools, home: Path, parameters: str, rank: int, repeats: int) -> Iterator[tuple[str, ...]]:
    """An adapter into a model by both tools."""
    shape = shape_for(parse_count(parameters))
    base, adapter = write_set(home / "merge", shape, models=0).base, home / "adapter"
    write_adapter(adapter, shape, rank)
    config = home / "merge.yml"
    config.write_text(CONFIG.format(base=base, adapter=adapter))
    ours, theirs, cache = home / "ours", home / "theirs", home / "cache"
    commands = {
        "mergecore": (tools.ours("merge", str(config), str(ours)), [ours]),
        "mergekit": (
            tools.theirs("mergekit-yaml", str(config), str(theirs), "--lora-merge-cache", str(cache)),
            [theirs, cache],
        ),
    }
    what = f"merge rank {rank} into {shape.parameters() / 1e9:.1f} B"
    for tool, (command, written) in commands.items():
        used, left = best(command, written, repeats)
        yield _row(what, tool, used, left, merge_error(base, adapter, written[0]))
        for folder in written:
            _remove(folder)


def merge_error(base: Path, adapter: Path, out: Path) -> str:
    """How many bf16 numbers are not the exact ones rounded once, and how far they are from these at most."""
    import json

    from safetensors.torch import load_file

    config = json.loads((adapter / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    factors = load_file(adapter / "adapter_model.safetensors")
    wrong, furthest, count = 0, 0.0, 0
    for (name, before), (_, found) in zip(_tensors(base), _tensors(out), strict=True):
        module = f"base_model.model.{name.removesuffix('.weight')}"
        wanted = before
        if f"{module}.lora_A.weight" in factors:
            a, b = (factors[f"{module}.lora_{one}.weight"].double() for one in "AB")
            wanted = (before.double() + scale * (b @ a)).bfloat16()
        apart = (found.double() - wanted.double()).abs()
        wrong, count = wrong + int(apart.count_nonzero()), count + apart.numel()
        furthest = max(furthest, float(apart.max()))
    return f"{wrong * 1e6 / count:.1f} numbers in a million, by {furthest:.0e} at most"


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a model, in the order of their names."""
    from safetensors.torch import load_file

    for path in sorted(folder.glob("*.safetensors")):
        yield from sorted(load_file(path).items())


# ---- extracting --------------------------------------------------------------------------------------------


def extractions(tools: Tools, home: Path, hidden: int, rank: int, repeats: int) -> Iterator[tuple[str, ...]]:
    """An adapter out of a fine-tune by both tools, with factors in bf16 as mergekit's."""
    heads = hidden // 128
    shape = LlamaShape(hidden, hidden * 43 // 16, 1, heads, heads, 1024, tied=False)
    base = write_set(home / "extract", shape, models=0).base
    tuned = home / "tuned"
    best_errors = write_tuned(base, tuned, rank)
    ours, theirs = home / "ours-adapter", home / "theirs-adapter"
    options = ["--rank", str(rank), "--dtype", "bfloat16", "--embeddings", "save"]
    models = ["--model", str(tuned), "--base-model", str(base), "--out-path", str(theirs)]
    commands = {
        "mergecore": (tools.ours("extract-lora", str(tuned), str(base), str(ours), *options), ours),
        "mergekit": (tools.theirs("mergekit-extract-lora", *models, "--max-rank", str(rank)), theirs),
    }
    what = f"extract rank {rank} of a layer of width {hidden}"
    for tool, (command, out) in commands.items():
        used, left = best(command, [out], repeats)
        yield _row(what, tool, used, left, extraction_error(base, tuned, out, best_errors))


def write_tuned(base: Path, tuned: Path, rank: int) -> dict[str, float]:
    """A fine-tune whose changes have slowly falling singular values; the smallest error at `rank` of each matrix."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    tensors, errors = load_file(base / "model.safetensors"), {}
    drawn = torch.Generator().manual_seed(7)
    for name in (name for name in tensors if name.endswith("_proj.weight")):
        out, into = tensors[name].shape
        left = torch.randn(out, SPECTRUM, generator=drawn) * torch.arange(1, SPECTRUM + 1) ** -0.7
        change = left @ torch.randn(SPECTRUM, into, generator=drawn) + 0.3 * torch.randn(
            out, into, generator=drawn
        )
        after = (tensors[name].float() + 7e-4 * change).bfloat16()
        exact = after.double() - tensors[name].double()
        short = exact if out <= into else exact.T
        values = torch.linalg.eigvalsh(short @ short.T)
        errors[name] = float(values[:-rank].clamp(min=0).sum().sqrt() / values.clamp(min=0).sum().sqrt())
        tensors[name] = after
    shutil.copytree(base, tuned)
    save_file(tensors, tuned / "model.safetensors", {"format": "pt"})
    return errors


def extraction_error(base: Path, tuned: Path, out: Path, smallest: dict[str, float]) -> str:
    """The largest error of a matrix, relative to the smallest that any adapter of that rank can have."""
    from safetensors.torch import load_file

    before, after = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    held = load_file(out / "adapter_model.safetensors")
    worst = 0.0
    for name, least in smallest.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        change = after[name].double() - before[name].double()
        product = held[f"{module}.lora_B.weight"].double() @ held[f"{module}.lora_A.weight"].double()
        worst = max(worst, float((change - product).norm() / change.norm()) / least)
    return f"{worst:.4f} times the smallest"


if __name__ == "__main__":
    main()
