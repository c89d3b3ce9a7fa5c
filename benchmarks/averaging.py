"""Is the average of the last checkpoints better than the last one, and as good as a decay of the learning rate?

`make averaging` trains a small model that reads digits, at a constant rate, and averages its last checkpoints as
`mergecore average` does.  From the first of them it also trains on with a rate that falls, on the same batches.
Read `main`, then `run_seed`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import click
import torch
from torch.nn.functional import cross_entropy
from transformers import ViTForImageClassification
from transformers.utils.logging import disable_progress_bar

from mergecore.compute import one_thread_each

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.pages import table, with_tables

import mergecore
from mergecore_plugins.averaging.choosing import Window, chosen, config_of
from mergecore_plugins.averaging.runs import read_run
from mergecore_plugins.commands.demo.digits import TRANSFORMS, Digits, load_split
from mergecore_plugins.commands.demo.scoring import load
from mergecore_plugins.commands.demo.train import new_model
from mergecore_plugins.methods.common import DECAYS, Schedule

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/explanation/averaging.md"
LAST = "the last checkpoint"
AVERAGES: Mapping[str, tuple[Schedule, float]] = {
    "average, uniform": ("uniform", 0.5),
    "average, ema, decay 0.5": ("ema", 0.5),
    "average, ema, decay 0.8": ("ema", 0.8),
    "average, minus-sqrt": ("minus-sqrt", 0.5),
}
RATES = {"rate falls linearly": DECAYS["linear"], "rate falls as 1 - √x": DECAYS["minus-sqrt"]}


@dataclass(frozen=True)
class Run:
    """How the model is trained."""

    steps: int
    window: int = 240
    """Steps from the first checkpoint that is averaged to the last."""
    every: int = 40
    rate: float = 1e-3
    batch: int = 64

    @property
    def checkpoints(self) -> int:
        """How many are averaged."""
        return self.window // self.every + 1


RUNS = (Run(600), Run(1500))
"""While the model still learns fast, and when it is nearly done."""


@dataclass(frozen=True)
class Score:
    """On the test images."""

    accuracy: float
    loss: float


@click.command()
@click.option("--seeds", default=5, show_default=True, help="How many times to train.")
@click.option("--write-docs", is_flag=True, help=f"Also put the tables into {PAGE.relative_to(ROOT)}.")
def main(seeds: int, write_docs: bool) -> None:
    """Train, average and score; print how the models do."""
    disable_progress_bar()
    tables = []
    with one_thread_each():
        for run in RUNS:
            found = [run_seed(seed, run) for seed in range(seeds)]
            tables.append(f"After {run.steps} steps:\n\n{report(found)}")
            click.echo(f"{tables[-1]}\n")
    text = "\n\n".join(tables)
    if write_docs:
        page = with_tables(PAGE.read_text(encoding="utf8"), "make averaging", text)
        PAGE.write_text(page, encoding="utf8")


def run_seed(seed: int, run: Run) -> dict[str, Score]:
    """The scores of all models that one seed gives."""
    split = load_split()
    train, test = all_ways(split.train), all_ways(split.test)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained(folder / "run", train, run, seed)
        first = run.steps - run.window
        rows = {LAST: score(load(folder / "run" / f"checkpoint-{run.steps}"), test)}
        for label, (schedule, decay) in AVERAGES.items():
            found = chosen(read_run(folder / "run"), Window(last=run.checkpoints))
            merged = mergecore.merge(config_of(found, schedule, decay), folder / label)
            rows[label] = score(load(merged), test)
        for label, factor in RATES.items():
            model = load(folder / "run" / f"checkpoint-{first}")
            optimizer = torch.optim.AdamW(model.parameters(), lr=run.rate)
            optimizer.load_state_dict(torch.load(folder / "run" / f"checkpoint-{first}" / "optimizer.pt"))
            for step in range(first, run.steps):
                rate = run.rate * factor((step - first) / (run.window + run.every))
                one_step(model, optimizer, train, run, (seed, step), rate)
            rows[label] = score(model, test)
    click.echo(f"{run.steps} steps: seed {seed} is done", err=True)
    return rows


def trained(folder: Path, train: Digits, run: Run, seed: int) -> None:
    """Train at a constant rate, and leave checkpoints as Trainer does."""
    model = new_model(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.rate)
    for step in range(run.steps):
        one_step(model, optimizer, train, run, (seed, step), run.rate)
        done = step + 1
        if done >= run.steps - run.window and (run.steps - done) % run.every == 0:
            saved = folder / f"checkpoint-{done}"
            model.save_pretrained(saved)
            torch.save(optimizer.state_dict(), saved / "optimizer.pt")
            (saved / "trainer_state.json").write_text(json.dumps({"global_step": done}))


def one_step(
    model: ViTForImageClassification,
    optimizer: torch.optim.Optimizer,
    train: Digits,
    run: Run,
    place: tuple[int, int],
    rate: float,
) -> None:
    """One step; which images are in its batch depends on seed and step only."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    chance = torch.Generator().manual_seed(place[0] * 1_000_003 + place[1])
    batch = train[torch.randint(len(train), (run.batch,), generator=chance)]
    model.train()
    loss = cross_entropy(model(pixel_values=batch.images.unsqueeze(1)).logits, batch.labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def score(model: ViTForImageClassification, digits: Digits) -> Score:
    """How well the model reads the digits."""
    logits = model.eval()(pixel_values=digits.images.unsqueeze(1)).logits
    right = (logits.argmax(dim=1) == digits.labels).float().mean()
    return Score(100 * float(right), float(cross_entropy(logits, digits.labels)))


def all_ways(digits: Digits) -> Digits:
    """The digits as every task of the evidence shows them."""
    seen = [digits.seen_as(task) for task in TRANSFORMS]
    return Digits(torch.cat([one.images for one in seen]), torch.cat([one.labels for one in seen]))


# ---- the table ---------------------------------------------------------------------------------------------


def report(found: Sequence[Mapping[str, Score]]) -> str:
    """A table of all models: mean and standard deviation over the seeds, and the differences to the last checkpoint."""
    head = [
        "model",
        "read correctly, %",
        "against the last",
        "loss",
        "against the last",
        "seeds with a lower loss",
    ]
    return table(head, [_row(name, found) for name in found[0]])


def _row(name: str, found: Sequence[Mapping[str, Score]]) -> list[str]:
    right = [seed[name].accuracy for seed in found]
    loss = [seed[name].loss for seed in found]
    if name == LAST:
        return [name, _mean(right, 1), "", _mean(loss, 3), "", ""]
    better = sum(seed[name].loss < seed[LAST].loss for seed in found)
    gained = [seed[name].accuracy - seed[LAST].accuracy for seed in found]
    lost = [seed[name].loss - seed[LAST].loss for seed in found]
    count = f"{better} of {len(found)}"
    return [name, _mean(right, 1), _mean(gained, 1, "+"), _mean(loss, 3), _mean(lost, 3, "+"), count]


def _mean(numbers: Sequence[float], digits: int, sign: str = "") -> str:
    spread = stdev(numbers) if len(numbers) > 1 else 0.0
    return f"{mean(numbers):{sign}.{digits}f} ± {spread:.{digits}f}"


if __name__ == "__main__":
    main()
