"""How well the models of a demo read digits: accuracy per task, in a table that compares them.

Read `score`; `load` and `accuracies` measure one model folder, `table` lays the results out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import cast

import click
import torch
from transformers import ViTForImageClassification
from transformers.utils.logging import disable_progress_bar

from mergecore import InputError, OutputError
from mergecore.compute import one_thread_each
from mergecore_plugins.commands.demo.digits import TASKS, Digits, load_split


def score(out: Path) -> None:
    """Print how well every model in `out` reads the test digits, merges made later included.

    Raises:
        InputError: E701 the demo has not been run there.
        OutputError: E508 a model does not load whole.
    """
    if not (out / "models").is_dir():
        raise InputError("E701", "no demo here", place=str(out), hint="make one with `mergecore demo OUT`")
    digits = load_split().test
    disable_progress_bar()
    with one_thread_each():
        rows = {name: accuracies(load(folder), digits) for name, folder in _models(out).items()}
    click.echo(_HEADING.format(count=len(digits)))
    click.echo(table(rows))


def load(folder: Path) -> ViTForImageClassification:
    """The model in `folder`, computing in float32; an error if a tensor is missing or left over."""
    model, report = cast(
        "tuple[ViTForImageClassification, Mapping[str, Collection[object]]]",
        ViTForImageClassification.from_pretrained(folder, output_loading_info=True),
    )
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[fault]:
            raise OutputError(
                "E508",
                f"transformers finds {fault.replace('_', ' ')}: {', '.join(sorted(map(str, report[fault])))}",
                place=str(folder),
                hint="the folder was changed or is damaged; run the demo again with --overwrite",
            )
    model.float().eval()
    return model


@torch.no_grad()
def accuracies(
    model: ViTForImageClassification, digits: Digits, tasks: Sequence[str] = TASKS
) -> dict[str, float]:
    """For every task, the share of `digits` that the model reads correctly, in percent."""
    return {task: _accuracy(model, digits.seen_as(task)) for task in tasks}


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """One line per model: its accuracy on every task, and their mean."""
    heading = f"{'':<26}" + "".join(f"{name:>10}" for name in (*TASKS, "mean"))
    lines = [
        f"{name:<26}" + "".join(f"{value:>10.1f}" for value in (*row.values(), mean(row.values())))
        for name, row in rows.items()
    ]
    return "\n".join([heading, *lines])


def _models(out: Path) -> Mapping[str, Path]:
    """The folders to score, under the names that the table shows."""
    merged = sorted(config.parent for config in out.glob("merged/*/config.json"))
    return {
        "base": out / "models/base",
        **{f"tuned on {task}": out / "models" / task for task in TASKS},
        **{f"merged/{folder.name}": folder for folder in merged},
    }


def _accuracy(model: ViTForImageClassification, digits: Digits) -> float:
    answers = model(pixel_values=digits.images.unsqueeze(1)).logits.argmax(dim=1)  # (n,)
    return 100 * float((answers == digits.labels).float().mean())


_HEADING = """
Digits read correctly, in percent, of {count} that no model was trained on:
"""
