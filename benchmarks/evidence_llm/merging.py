"""Merges of a family of experts, scored in memory; every score is written down, and taken from there by a later run.

Read `Bench.scored`, then `outcomes`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from benchmarks.evidence_llm import training
from benchmarks.evidence_llm.experts import Models
from benchmarks.evidence_llm.scoring import Encoded, Judged, scores
from benchmarks.methods import SETTINGS, Setting, setting_config
from torch import Tensor

from mergecore import Registry, RunOptions, plan, run

GRID = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""The scales that are tried, the same for every method."""

SLOW = ("tsv", "iso_c", "iso_cts", "core_space", "knots")
"""Methods on singular vectors, which take minutes."""
SAME = ("average",)
"""What gives the same as another row: `average` of equal weights is `linear`."""


@dataclass(frozen=True)
class Result:
    """How a model does with the samples of a part: for each task which answers are right, and the mean loss."""

    right: Mapping[str, Sequence[bool]]
    loss: Mapping[str, float]
    seconds: float = 0.0

    @property
    def accuracy(self) -> dict[str, float]:
        """Right answers in percent, by task."""
        return {task: 100 * mean(one) for task, one in self.right.items()}

    @property
    def rank(self) -> tuple[float, float]:
        """The higher, the better: by right answers, and of equals by the loss."""
        return mean(self.accuracy.values()), -mean(self.loss.values())


@dataclass(frozen=True)
class Outcome:
    """What a method reaches with one seed: as it is, and at the scale that was picked (None: it has none)."""

    default: Result
    tuned: Result
    scale: float | None
    validation: Mapping[float, Result]
    found: str = ""  # the point that a search found


@dataclass
class Bench:
    """What merges the experts of a family, and keeps a journal of scores."""

    models: Models
    seed: int
    parts: Mapping[str, Mapping[str, Sequence[Encoded]]]  # "validation" and "test": task to samples
    journal: Path
    registry: Registry = field(default_factory=Registry.discover)
    known: dict[str, Result] = field(default_factory=dict)
    _module: list[Any] = field(default_factory=list)
    _base: dict[str, Tensor] = field(default_factory=dict)
    _last: list[Any] = field(default_factory=list)  # the last setting that was scaled, and its merge

    def __post_init__(self) -> None:
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        for line in filter(str.strip, lines):
            one = json.loads(line)
            self.known[one["key"]] = _result(one["result"])

    @cached_property
    def stamp(self) -> str:
        """What tells experts from those of another recipe; scores are of these only."""
        made = (folder / "recipe.json" for folder in self.models.experts.values())
        return hashlib.sha256(b"".join(file.read_bytes() for file in made)).hexdigest()[:12]

    def of_folder(self, folder: Path, part: str) -> Result:
        """How a model that is not merged does."""
        what = f"folder {folder.parent.name}/{folder.name}"
        return self.kept(what, part, lambda: self._judged(training.load(folder), part))

    def scored(self, setting: Setting, scale: float | None, part: str) -> Result:
        """How the merge by a setting does at a scale; None is the setting as it is."""

        def made() -> Result:
            began = time.process_time()
            if setting.scale == "lambda":
                tensors = self._scaled(setting, 1.0 if scale is None else scale)
            else:
                tensors = self._merged(setting, scale, "bfloat16")
            seconds = time.process_time() - began
            found = self._judged(self._holding(tensors), part)
            return Result(found.right, found.loss, seconds)

        return self.kept(f"{setting.name} {scale}", part, made)

    def _merged(self, setting: Setting, scale: float | None, dtype: str) -> Mapping[str, Tensor]:
        config = setting_config(setting, self.models.base, list(self.models.experts.values()), scale)
        made = plan(config | {"seed": self.seed, "out_dtype": dtype}, registry=self.registry)
        return run(made, registry=self.registry, options=RunOptions(threads=1))

    def _scaled(self, setting: Setting, scale: float) -> Mapping[str, Tensor]:
        """A merge whose `lambda` is `scale`: the base, and so much of the change that it makes at 1.

        The methods on singular vectors take minutes for one merge, and `lambda` only scales what they find.
        """
        if not self._base:
            self._base.update(dict(training.load(self.models.base).named_parameters()))
        if self._last[:1] != [setting.name]:
            self._last[:] = [setting.name, self._merged(setting, 1.0, "float32")]
        found = self._last[1]
        return {
            name: torch.lerp(self._base[name].detach(), one, scale).to(torch.bfloat16)
            for name, one in found.items()
        }

    def _holding(self, tensors: Mapping[str, Tensor]) -> Any:
        """One module for all merges, with these tensors."""
        if not self._module:
            self._module.append(training.load(self.models.base))
        module = self._module[0]
        told = module.load_state_dict(dict(tensors), strict=False)
        tied = {"lm_head.weight"} if module.config.tie_word_embeddings else set()
        if told.unexpected_keys or set(told.missing_keys) - tied:
            raise RuntimeError(f"the merge has other tensors than the model: {told}")
        return module

    def _judged(self, module: Any, part: str) -> Result:
        found: Mapping[str, Judged] = scores(module, self.parts[part])
        return Result(
            {task: one.right for task, one in found.items()}, {task: one.loss for task, one in found.items()}
        )

    def _key(self, what: str, part: str) -> str:
        sizes = ",".join(f"{task} {len(one)}" for task, one in self.parts[part].items())
        return f"{self.stamp} | {what} | {part} {sizes}"

    def kept(self, what: str, part: str, make: Callable[[], Result]) -> Result:
        """What the journal says of these experts; else it is made, and written down."""
        key = self._key(what, part)
        if key not in self.known:
            self.known[key] = make()
            one = asdict(self.known[key])
            one["right"] = {
                task: "".join(str(int(hit)) for hit in hits) for task, hits in one["right"].items()
            }
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            with self.journal.open("a") as file:
                file.write(json.dumps({"key": key, "result": one}) + "\n")
        return self.known[key]


def settings(registry: Registry) -> list[Setting]:
    """The settings whose methods are installed; those that take long come last."""
    from mergecore import MergeMethod

    installed = {method.name for method in registry.all(MergeMethod)}
    found = [one for one in SETTINGS if one.method in installed and one.name not in SAME]
    return sorted(found, key=lambda one: one.method in SLOW)


def outcomes(
    bench: Bench, chosen: Sequence[Setting], grid: Sequence[float] = GRID
) -> Iterator[tuple[str, Outcome]]:
    """What each setting reaches: picks the scale on the validation samples, then looks at the test samples once."""
    for setting in chosen:
        validation = {
            scale: bench.scored(setting, scale, "validation") for scale in (grid if setting.scale else ())
        }
        default = bench.scored(setting, None, "test")
        best = max(validation, key=lambda scale: validation[scale].rank) if validation else None
        same = best is None or (best == 1.0 and setting.scale == "lambda")
        tuned = default if same else bench.scored(setting, best, "test")
        yield setting.name, Outcome(default, tuned, best, validation)


def _result(one: Mapping[str, Any]) -> Result:
    right = {task: [hit == "1" for hit in hits] for task, hits in one["right"].items()}
    return Result(right, one["loss"], one["seconds"])
