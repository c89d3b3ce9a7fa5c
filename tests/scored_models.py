"""Scores of models by the built-in evaluators, and the models as transformers has them; read `scores`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from mergecore import Evaluator, Registry
from mergecore.types import EvaluatedModel, Score
from mergecore_plugins.commands.demo import ASSETS

TALK = ASSETS / "talk"
REGISTRY = Registry.discover()
TEXTS = ("the cat and the dog", "abc", "in the land of the man and the hand " * 4, "z", "thin and then")


def evaluator(name: str) -> Evaluator[Any]:
    found: Evaluator[Any] = REGISTRY.get(Evaluator, name)
    return found


def params(name: str, **given: Any) -> Any:
    return evaluator(name).params.model_validate(given)


def scores(name: str, model: EvaluatedModel, **given: Any) -> dict[str, Score]:
    made = params(name, **given)
    evaluator(name).check(made, (model,))
    return {one.name: one for one in evaluator(name).evaluate(model, made, lambda progress: None)}


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plain(folder: Path) -> tuple[Any, Any]:
    module: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    return module, AutoTokenizer.from_pretrained(folder)
