"""Scores that are known already: of the same model, evaluator, parameters and data; read `Cache`."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mergecore import MergecoreError, Registry
from mergecore.files import read_json
from mergecore.types import EvaluatedModel, Evaluator, Score
from mergecore_plugins.evaluation.models import PlannedModel
from mergecore_plugins.evaluation.specs import Evaluation, paths_in

FORMAT = 1


def default_folder() -> Path:
    """Where scores are kept: below the folder of the user's caches."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mergecore" / "evaluations"


@dataclass(frozen=True)
class Cache:
    """A folder with a file for each evaluation of a model; what cannot be read or written counts as not there."""

    folder: Path

    def get(self, key: str) -> tuple[Score, ...] | None:
        """The scores under a key."""
        try:
            value: Any = read_json(self._file(key), code="E270")
            return tuple(_score(one) for one in value["scores"])
        except (MergecoreError, KeyError, TypeError, ValueError):
            return None

    def put(self, key: str, scores: Sequence[Score]) -> None:
        """Keep scores; complete or not at all, whoever else writes them."""
        file = self._file(key)
        part = file.with_name(f"{file.name}.{os.getpid()}")
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"scores": [asdict(one) for one in scores]}), encoding="utf8")
            part.replace(file)

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def _score(value: dict[str, Any]) -> Score:
    pairs: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}
    return Score(**pairs)


def key_of(model: EvaluatedModel, evaluation: Evaluation, registry: Registry) -> str:
    """A digest of all that decides the scores."""
    evaluator, params = evaluation.evaluator, evaluation.params
    plugin = registry.provider(Evaluator, evaluator.name)
    values = params.model_dump(mode="json")
    values |= {name: [_digest(path) for path in paths] for name, paths in paths_in(params)}
    facts = {
        "format": FORMAT,
        "model": model.identity,
        "runs": [model.place.device, model.place.dtype] if isinstance(model, PlannedModel) else [],
        "evaluator": [evaluator.name, plugin.distribution, plugin.version, _source(evaluator)],
        "libraries": [version("torch"), version("transformers")],
        "params": values,
        "files": [_digest(path) for path in evaluation.files],
        "compared": [one.identity for one in evaluator.compared(model, params)],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return f"not there: {path}"


def _source(evaluator: Evaluator[Any]) -> str:
    """A digest of the modules beside that of an evaluator, which a developer changes without a new version."""
    try:
        file = Path(inspect.getfile(inspect.unwrap(evaluator.evaluate)))
    except (TypeError, OSError):
        return ""
    return _of_folder(file.parent) if (file.parent / "__init__.py").exists() else _digest(file)


@lru_cache
def _of_folder(folder: Path) -> str:
    files = sorted(folder.glob("*.py"))
    return hashlib.sha256("".join(_digest(file) for file in files).encode()).hexdigest()
