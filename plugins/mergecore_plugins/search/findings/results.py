"""What a search leaves in its folder: best.yml, front, importance, search.json; read `Findings`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mergecore import Document
from mergecore.types import Dimension, Json, Options, Score
from mergecore_plugins.search.findings.deciding import Difference, Verdict, difference, front, stronger_than
from mergecore_plugins.search.journal import FORMAT, Trial
from mergecore_plugins.search.space.ranges import Space
from mergecore_plugins.search.space.section import Objective, SearchSection

if TYPE_CHECKING:
    import numpy as np

LINEAGE = "x-search"
"""The key of a config under which it says how it was found: mergecore keeps it and does nothing else with it."""


@dataclass(frozen=True)
class Row:
    """A model in the final table, and how much better the best point is than it."""

    trial: Trial
    gains: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What a search has found.

    trials: all of them, those that points are measured by first.  rows: the final table, on the data held out where
    there is some.  notes: what the user should know.
    """

    config: str
    space: Space
    section: SearchSection
    trials: Sequence[Trial]
    best: Trial | None
    verdict: Verdict | None
    rows: Sequence[Row]
    held_out: bool
    notes: Sequence[str] = ()

    @property
    def points(self) -> list[Trial]:
        """The trials of points."""
        return [one for one in self.trials if one.kind == "point"]

    @property
    def recommended(self) -> str:
        """What to use: the best point, the average, or a parent or base that is better than that."""
        return self.stronger.kind if self.stronger else self._chosen

    @property
    def _chosen(self) -> str:
        """What to use of what a search makes."""
        return "best" if self.verdict is None or self.verdict.beats else "average"

    @property
    def stronger(self) -> Trial | None:
        """The parent or base that is clearly better than what a search makes, if any; of several, the best."""
        kind = "point" if self._chosen == "best" else "average"
        ours = next((one.trial for one in self.rows if one.trial.kind == kind), None)
        others = [one.trial for one in self.rows if one.trial.kind in ("parent", "base")]
        return stronger_than(ours, others, self.section.objectives) if ours is not None else None

    def as_json(self) -> dict[str, Json]:
        """Everything, for programs and reports."""
        best: Json = None
        if self.best is not None:
            best = {"number": self.best.number, "point": self.space.shown(self.best.point)}
        return {
            "format": FORMAT,
            "config": self.config,
            "search": said(self.section),
            "dimensions": [_dimension(one, self.space.labels) for one in self.space.dimensions],
            "objectives": [_objective(one, self.trials, i) for i, one in enumerate(self.section.objectives)],
            "trials": [_trial(one, self.space) for one in self.trials],
            "best": best,
            "front": [one.number for one in front(self.points)],
            "importance": cast("Json", importance(self.space.dimensions, self.points)),
            "table": [_row(one) for one in self.rows],
            "held_out": self.held_out,
            "verdict": self.verdict.as_json() if self.verdict else None,
            "recommended": self.recommended,
            "stronger": self.stronger.name if self.stronger else None,
            "notes": list(self.notes),
        }

    def write(self, folder: Path) -> None:
        """search.json, best.yml, and the front where there are several numbers."""
        (folder / "search.json").write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf8")
        if self.best is None:
            return
        (folder / "best.yml").write_text(self.config_of(self.best), encoding="utf8")
        if self.section.count > 1:
            (folder / "front").mkdir(exist_ok=True)
            for one in front(self.points):
                (folder / "front" / f"{one.number}.yml").write_text(self.config_of(one), encoding="utf8")

    def documents_of(self, trial: Trial) -> list[Document]:
        """The config of a point, which says how it was found."""
        documents = list(self.space.documents_at(trial.point))
        last = documents[-1]
        if "merge_method" in last.data:
            lineage = self.lineage(trial)
            documents[-1] = replace(last, data={LINEAGE: lineage, **last.data})
        return documents

    def lineage(self, trial: Trial | None) -> dict[str, Json]:
        """How a point was found, in a few words; without one, what the search was."""
        found: dict[str, Json] = {
            "of": len(self.points),
            "sampler": self.section.sampler.name,
            "seed": self.section.seed,
            "objectives": [one.name or one.evaluator for one in self.section.objectives],
        }
        if trial is not None:
            found = {"point": trial.number, **found, "values": self.space.shown(trial.point)}
            found["scores"] = [
                {"name": one.name, "value": one.value, "samples": one.samples} for one in trial.scores
            ]
        if self.verdict is not None:
            found |= {"beats_average": self.verdict.beats, "why": self.verdict.why}
        if self.stronger is not None:
            found["not_as_good_as"] = self.stronger.name
        return found

    def config_of(self, trial: Trial) -> str:
        """The text of its config."""
        import yaml

        return "---\n".join(
            yaml.safe_dump(
                dict(one.data), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
            )
            for one in self.documents_of(trial)
        )


def said(section: SearchSection) -> dict[str, Json]:
    """The section as JSON."""
    return cast("dict[str, Json]", section.model_dump(mode="json"))


def _dimension(one: Dimension, labels: Mapping[str, Sequence[str]]) -> Json:
    if isinstance(one, Options):
        return {"name": one.name, "options": list(labels[one.name])}
    return {
        "name": one.name,
        "low": one.low,
        "high": one.high,
        "log": one.log,
        "step": one.step,
        "int": one.whole,
    }


def _objective(one: Objective, trials: Sequence[Trial], index: int) -> Json:
    found: Score | None = next((each.scores[index] for each in trials if each.complete), None)
    return {
        "evaluator": one.evaluator,
        "name": one.name or one.evaluator,
        "score": found.name if found else one.score,
        "goal": one.goal or (found.goal if found else None),
        "weight": one.weight,
    }


def _trial(one: Trial, space: Space) -> Json:
    return {
        "number": one.number,
        "kind": one.kind,
        "name": one.name,
        "state": one.state,
        "point": space.shown(one.point),
        "values": list(one.values),
        "scores": [_score(each) for each in one.scores],
        "error": one.error,
        "seconds": one.seconds,
        "merging": one.merging,
        "changed": one.changed,
    }


def _score(one: Score) -> Json:
    return {
        "name": one.name,
        "value": one.value,
        "goal": one.goal,
        "samples": one.samples,
        "truncated": one.truncated,
        "empty": one.empty,
    }


def _row(row: Row) -> Json:
    gains: list[Json] = [
        {"mean": one.mean, "low": one.low, "high": one.high, "words": one.in_words} for one in row.gains
    ]
    return {
        "kind": row.trial.kind,
        "name": row.trial.name,
        "scores": [_score(one) for one in row.trial.scores],
        "best_is_better_by": gains,
    }


def rows_of(trials: Sequence[Trial], best: Trial, objectives: Sequence[Objective]) -> list[Row]:
    """The final table: the best point first, then what it is measured by."""
    others = [one for one in trials if one.kind != "point" and one.complete]
    return [Row(best), *(Row(one, tuple(difference(best, one, objectives))) for one in others)]


# ---- importance --------------------------------------------------------------------------------------------


def importance(dimensions: Sequence[Dimension], points: Sequence[Trial]) -> dict[str, float | None]:
    """Of the first number, how much of what points differ by each dimension explains alone, from 0 to 1.

    A parabola over the ranks of the values, or a level for each option; adjusted for the number of points.  None where
    there are too few.
    """
    whole = [one for one in points if one.complete]
    return {one.name: _explained(one, whole) for one in dimensions}


def _explained(dimension: Dimension, points: Sequence[Trial]) -> float | None:
    import numpy as np

    values = np.array([one.point[dimension.name] for one in points])
    scores = _ranks(np.array([one.values[0] for one in points]))
    if isinstance(dimension, Options):
        columns = [(values == option).astype(float) for option in range(dimension.count)]
        columns = [one for one in columns if one.any()]
        free = len(columns) - 1
    else:
        ranks = _ranks(values)
        columns, free = [np.ones(len(values)), ranks, ranks**2], 2
    left = len(points) - free - 1
    if left < 3 or not scores.std():
        return None
    design = np.stack(columns, axis=1)
    fitted = design @ np.linalg.lstsq(design, scores, rcond=None)[0]
    share = 1 - float(((scores - fitted) ** 2).sum() / ((scores - scores.mean()) ** 2).sum())
    return round(max(0.0, 1 - (1 - share) * (len(points) - 1) / left), 4)


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Ranks from 0 to 1; equal values share theirs."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle = ends - (counts + 1) / 2
    return np.asarray(middle[inverse] / max(1, len(values) - 1))
