"""Training of the demo's checkpoints: `python -m mergecore_plugins.commands.demo.train OUT`.

`train` is the whole experiment; the numbers it depends on are in `Schedule`.  A minute on one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch.nn.functional import cross_entropy
from transformers import ViTConfig, ViTForImageClassification

from mergecore.compute import one_thread_each
from mergecore_plugins.commands.demo.digits import TASKS, Digits, Split, load_split
from mergecore_plugins.commands.demo.scoring import accuracies, load, table


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train."""

    base_steps: int = 500
    base_rate: float = 1e-3
    base_images: int = 8  # per class and task: the base has seen every task, but little of it
    tune_steps: int = 300
    tune_rate: float = 1e-4  # small, so that the fine-tunes stay near the base and can be averaged
    batch: int = 64
    seed: int = 0


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def main(out: Path) -> None:
    """Train the base and the fine-tunes, write them into OUT and score them on the validation images."""
    split = load_split()
    with one_thread_each():
        train(out, split, Schedule())
        rows = {name: accuracies(load(out / name), split.validation) for name in ("base", *TASKS)}
    click.echo(table(rows))


def train(out: Path, split: Split, schedule: Schedule, tasks: Sequence[str] = TASKS) -> None:
    """Write `out/base`, trained on a few digits of every task, and `out/<task>`, tuned on one task each."""
    seen_by_base = _joined([split.train.few(schedule.base_images).seen_as(task) for task in tasks])
    base = _fit(new_model(schedule.seed), seen_by_base, schedule.base_steps, schedule.base_rate, schedule)
    _save(base, out / "base")
    for task in tasks:
        digits = split.train.seen_as(task)
        tuned = _fit(load(out / "base"), digits, schedule.tune_steps, schedule.tune_rate, schedule)
        _save(tuned, out / task)


def new_model(seed: int) -> ViTForImageClassification:
    """A model that has seen nothing; `seed` decides its weights."""
    torch.manual_seed(seed)
    return ViTForImageClassification(
        ViTConfig(
            image_size=8,
            patch_size=(1, 8),  # a token is one row of the image
            num_channels=1,
            hidden_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=256,
            id2label={digit: str(digit) for digit in range(10)},
            label2id={str(digit): digit for digit in range(10)},
        )
    )


def _fit(
    model: ViTForImageClassification, digits: Digits, steps: int, rate: float, schedule: Schedule
) -> ViTForImageClassification:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    chance = torch.Generator().manual_seed(schedule.seed)
    model.train()
    for _ in range(steps):
        batch = digits[torch.randint(len(digits), (schedule.batch,), generator=chance)]
        loss = cross_entropy(model(pixel_values=batch.images.unsqueeze(1)).logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def _save(model: ViTForImageClassification, folder: Path) -> None:
    model.bfloat16().save_pretrained(folder)


def _joined(parts: list[Digits]) -> Digits:
    return Digits(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


if __name__ == "__main__":
    main()
