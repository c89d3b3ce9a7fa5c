"""The models of the experiment, each made once and kept in a folder; read `made`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.evidence_llm import training
from benchmarks.evidence_llm.scoring import Encoded, encoded
from benchmarks.evidence_llm.tasks import TASKS, samples
from benchmarks.evidence_llm.training import Schedule
from transformers import AutoTokenizer

FAMILIES = ("whole", "sparse")
"""Experts that changed everywhere, and those that changed in a few entries."""


@dataclass(frozen=True)
class Recipe:
    """How the experts are made; without arguments, those of the published tables."""

    whole: Mapping[str, Schedule] = field(
        default_factory=lambda: {
            "sums": Schedule(240),
            "json": Schedule(70, batch=4),
            "facts": Schedule(220),
        }
    )
    sparse: Mapping[str, Schedule] = field(
        default_factory=lambda: {
            "sums": Schedule(60, 1e-3),
            "json": Schedule(20, 1e-3, batch=4),
            "facts": Schedule(60, 1e-3),
        }
    )
    share: float = 0.03
    """Of the entries of each matrix, those that a sparse expert changes."""


@dataclass(frozen=True)
class Models:
    """The folders of a family of experts."""

    base: Path
    experts: Mapping[str, Path]


def made(
    family: str, base: Path, out: Path, recipe: Recipe, seed: int, tell: Callable[[str], None] = print
) -> Models:
    """A family of one seed in `out`; what is there and was made by this recipe stays."""
    if family == "sparse":
        made("whole", base, out, recipe, seed, tell)  # its experts are where the sparse ones start
    tokens = AutoTokenizer.from_pretrained(base)
    folders = {task: out / family / task for task in TASKS}
    for task, folder in folders.items():
        wanted = {"seed": seed, "task": task, "family": family, **_part(recipe, family, task)}
        if not _is(folder, wanted):
            learnt = encoded(tokens, samples(task).train)
            losses = _make(base, out / "whole" / task, folder, learnt, recipe, seed)
            _note(folder, wanted, losses)
            tell(f"{family}/{task}: loss {losses[0]:.2f} at the first step, {losses[-1]:.2f} at the last")
    return Models(base, folders)


def _make(
    base: Path, whole: Path, folder: Path, learnt: Sequence[Encoded], recipe: Recipe, seed: int
) -> Sequence[float]:
    """Writes an expert; a sparse one starts from the largest changes of its whole twin."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    task = folder.name
    if folder == whole:
        module = training.load(base)
        losses = training.tuned(module, learnt, recipe.whole[task], seed)
    else:
        module = training.load(whole)
        masks = training.thinned(module, dict(training.load(base).named_parameters()), recipe.share)
        losses = training.tuned(module, learnt, recipe.sparse[task], seed, masks)
    training.save(module, base, folder)
    return losses


def _part(recipe: Recipe, family: str, task: str) -> dict[str, Any]:
    """What of a recipe an expert depends on."""
    whole = {"whole": asdict(recipe.whole[task])}
    return (
        whole
        if family == "whole"
        else {**whole, "sparse": asdict(recipe.sparse[task]), "share": recipe.share}
    )


def _is(folder: Path, wanted: Mapping[str, Any]) -> bool:
    file = folder / "recipe.json"
    return file.exists() and json.loads(file.read_text())["made"] == json.loads(json.dumps(wanted))


def _note(folder: Path, wanted: Mapping[str, Any], losses: Sequence[float]) -> None:
    text = json.dumps({"made": wanted, "losses": [round(loss, 4) for loss in losses]}, indent=1)
    (folder / "recipe.json").write_text(text + "\n")
