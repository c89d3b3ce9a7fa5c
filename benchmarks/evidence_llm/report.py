"""Tables of how merged language models do, from what `merging.py` scored; read `report`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
from benchmarks.evidence_llm.merging import Outcome, Result
from benchmarks.pages import table

AVERAGE = "linear"


@dataclass(frozen=True)
class Family:
    """What the experts of one family gave with one seed."""

    family: str
    seed: int
    base: Result
    experts: Mapping[str, Result]  # each at all tasks
    outcomes: Mapping[str, Outcome]

    @property
    def own(self) -> Mapping[str, float]:
        """How each expert does at its own task, in percent."""
        return {task: one.accuracy[task] for task, one in self.experts.items()}

    def normalised(self, result: Result) -> float:
        """The mean over tasks of the accuracy as a share of the expert's, in percent."""
        return 100 * mean(accuracy / self.own[task] for task, accuracy in result.accuracy.items())


@dataclass(frozen=True)
class Row:
    """A method over the seeds of a family that it was scored with."""

    name: str
    families: Sequence[Family]
    tuned: Sequence[float]
    default: Sequence[float]
    gain: float  # against averaging, and the interval of it
    low: float
    high: float
    picked: str

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.low <= 0 <= self.high:
            return "within noise"
        return "better" if self.low > 0 else "worse"


def rows(families: Sequence[Family]) -> list[Row]:
    """The methods, each over the seeds that it was scored with, the best first."""
    names = dict.fromkeys(name for one in families for name in one.outcomes)
    made = [_row(name, [one for one in families if name in one.outcomes]) for name in names]
    return sorted(made, key=lambda row: -mean(row.tuned))


def report(found: Mapping[str, Sequence[Family]]) -> str:
    """For each family, how the experts learnt, the table of methods, and the scores at every scale."""
    parts: list[str] = []
    for family, seeds in found.items():
        parts += [f"### {TITLES[family]}", _learnt(seeds), _methods(seeds), _curves(seeds)]
    return "\n\n".join(part for part in parts if part)


TITLES = {
    "whole": "Experts that changed everywhere",
    "sparse": "Experts that changed in few places",
}


def interval(
    families: Sequence[Family],
    one: Callable[[Family], Result],
    other: Callable[[Family], Result],
    draws: int = 2000,
) -> tuple[float, float]:
    """The middle 95 % of the difference of normalised accuracies, samples drawn again in pairs, task by task."""
    random = np.random.default_rng(0)
    totals = np.zeros(draws)
    for family in families:
        for task, own in family.own.items():
            difference = np.subtract(one(family).right[task], other(family).right[task], dtype=float)
            drawn = random.integers(0, len(difference), (draws, len(difference)))
            totals += 1e4 * difference[drawn].mean(axis=1) / own / len(family.own) / len(families)
    low, high = np.quantile(totals, (0.025, 0.975))
    return float(low), float(high)


def _row(name: str, families: Sequence[Family]) -> Row:
    def tuned(family: Family) -> Result:
        return family.outcomes[name].tuned

    def average(family: Family) -> Result:
        return family.outcomes[AVERAGE].tuned

    low, high = interval(families, tuned, average)
    return Row(
        name,
        families,
        [one.normalised(tuned(one)) for one in families],
        [one.normalised(one.outcomes[name].default) for one in families],
        mean(one.normalised(tuned(one)) - one.normalised(average(one)) for one in families),
        low,
        high,
        _picked([one.outcomes[name] for one in families]),
    )


def _learnt(families: Sequence[Family]) -> str:
    tasks = list(families[0].own)
    head = ("model", *(f"{task}, %" for task in tasks))
    lines = [("base", *(_spread([one.base.accuracy[task] for one in families]) for task in tasks))]
    for expert in tasks:
        cells = (_spread([one.experts[expert].accuracy[task] for one in families]) for task in tasks)
        lines.append((f"expert of {expert}", *cells))
    return table(head, lines)


def _methods(families: Sequence[Family]) -> str:
    tasks = list(families[0].own)
    head = (
        "method",
        "normalised accuracy, %",
        "against averaging",
        "",
        "picked",
        "at defaults, %",
        *tasks,
        "seeds",
    )
    lines = []
    for row in rows(families):
        averaging = row.name == AVERAGE
        lines.append(
            (
                "**averaging** (linear)" if averaging else row.name,
                _spread(row.tuned),
                "" if averaging else f"{row.gain:+.1f} ({row.low:+.1f} to {row.high:+.1f})",
                "" if averaging else row.verdict,
                row.picked,
                _spread(row.default),
                *(
                    _spread([one.outcomes[row.name].tuned.accuracy[task] for one in row.families])
                    for task in tasks
                ),
                f"{len(row.families)}",
            )
        )
    base = [one.normalised(one.base) for one in families]
    alone = [mean(one.normalised(expert) for expert in one.experts.values()) for one in families]
    lines.append(("*one expert at all tasks, mean of all experts*", _spread(alone), "", "", "", ""))
    lines.append(("*the base*", _spread(base), "", "", "", ""))
    return table(head, [(*line, *[""] * (len(head) - len(line))) for line in lines])


def _curves(families: Sequence[Family]) -> str:
    curves = {row.name: [one.outcomes[row.name].validation for one in row.families] for row in rows(families)}
    scaled = {name: those for name, those in curves.items() if those[0]}
    if not scaled:
        return ""
    grid = list(next(iter(scaled.values()))[0])
    lines = [
        (name, *(f"{mean(mean(one[scale].accuracy.values()) for one in those):.0f}" for scale in grid))
        for name, those in scaled.items()
    ]
    said = "Right answers on the validation samples at every scale, in percent, mean over tasks and seeds:"
    return f"{said}\n\n{table(('method', *(f'{scale:g}' for scale in grid)), lines)}"


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _picked(outcomes: Sequence[Outcome]) -> str:
    """What was picked: every point that searches found, or the least and the largest scale."""
    if any(one.found for one in outcomes):
        return "; ".join(dict.fromkeys(one.found for one in outcomes))
    scales = [one.scale for one in outcomes if one.scale is not None]
    if not scales:
        return "none to pick"
    low, high = min(scales), max(scales)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
