"""The scores of merged models and the tables of them, from what `evidence.py` measured.

Read `fitness` for the score, `report` for the tables.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from benchmarks.pages import table


@dataclass(frozen=True)
class Fitness:
    """How a model does, in percent: at each task, and beside the experts."""

    accuracy: Mapping[str, float]
    normalised: float


def fitness(accuracy: Mapping[str, float], experts: Mapping[str, float]) -> Fitness:
    """The score of a model: over all tasks, the mean of its accuracy as a share of the expert's."""
    return Fitness(accuracy, 100 * mean(accuracy[task] / experts[task] for task in experts))


def best_scale(scores: Mapping[float, float]) -> float:
    """The scale with the highest score; of several the smallest."""
    return max(sorted(scores), key=lambda scale: scores[scale])


@dataclass(frozen=True)
class Outcome:
    """What a method reaches with one seed: as it is, and at the scale that was picked (None: it has none)."""

    default: Fitness
    tuned: Fitness
    scale: float | None
    validation: Mapping[float, float]


@dataclass(frozen=True)
class Seed:
    """Everything that one seed gave."""

    seed: int
    training_cpu: float  # seconds
    merging_cpu: float
    base: Fitness
    experts: Fitness  # each at its own task
    expert: Fitness  # the mean of the experts, each at all tasks
    outcomes: Mapping[str, Outcome]


def report(seeds: Sequence[Seed], grid: Sequence[float], left_out: Mapping[str, str]) -> str:
    """The table of results, the methods that are not in it, and the table of validation scores."""
    names = sorted(seeds[0].outcomes, key=lambda name: -mean(tuned(seeds, name)))
    scaled = [name for name in names if seeds[0].outcomes[name].scale is not None]
    return "\n\n".join(
        [
            table(_HEAD, _results(seeds, names)),
            _absent(left_out),
            "Normalised accuracy on the validation images at every scale, mean over seeds:",
            table(("method", *(f"{scale:g}" for scale in grid)), [_curve(seeds, name) for name in scaled]),
        ]
    )


def tuned(seeds: Sequence[Seed], name: str) -> list[float]:
    """The score of a method with every seed."""
    return [seed.outcomes[name].tuned.normalised for seed in seeds]


def gains(seeds: Sequence[Seed], name: str, beside: str = "linear") -> list[float]:
    """How much better a method does than averaging, seed by seed."""
    return [ours - theirs for ours, theirs in zip(tuned(seeds, name), tuned(seeds, beside), strict=True)]


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean ± standard deviation."""
    deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):{sign}.1f}{deviation}"


_HEAD = (
    "model",
    "normalised accuracy, %",
    "against averaging",
    "seeds above",
    "scale picked",
    "no scale set, %",
)


def _results(seeds: Sequence[Seed], names: Sequence[str]) -> list[list[str]]:
    return [
        _unmerged("*the experts, each at its own task*", seeds, lambda seed: seed.experts),
        *(_row(seeds, name) for name in names),
        _unmerged("*the base*", seeds, lambda seed: seed.base),
        _unmerged("*one expert at all tasks, mean of all experts*", seeds, lambda seed: seed.expert),
    ]


def _unmerged(name: str, seeds: Sequence[Seed], which: Callable[[Seed], Fitness]) -> list[str]:
    right = spread([mean(which(seed).accuracy.values()) for seed in seeds])
    return [
        f"{name}: {right} % read correctly",
        spread([which(seed).normalised for seed in seeds]),
        "",
        "",
        "",
        "",
    ]


def _row(seeds: Sequence[Seed], name: str) -> list[str]:
    gained = gains(seeds, name)
    outcomes = [seed.outcomes[name] for seed in seeds]
    scales = [outcome.scale for outcome in outcomes if outcome.scale is not None]
    averaging = name == "linear"
    return [
        f"**averaging** ({name})" if averaging else name,
        spread([outcome.tuned.normalised for outcome in outcomes]),
        "" if averaging else spread(gained, "+"),
        "" if averaging else f"{sum(gain > 0 for gain in gained)} of {len(seeds)}",
        _range(scales) if scales else "none to pick",
        spread([outcome.default.normalised for outcome in outcomes]),
    ]


def _absent(left_out: Mapping[str, str]) -> str:
    reasons = dict.fromkeys(left_out.values())
    names = [", ".join(name for name, why in left_out.items() if why == reason) for reason in reasons]
    return f"Not in the table: {'; '.join(f'{those} ({why})' for those, why in zip(names, reasons, strict=True))}."


def _range(scales: Sequence[float]) -> str:
    low, high = min(scales), max(scales)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _curve(seeds: Sequence[Seed], name: str) -> list[str]:
    curves = [seed.outcomes[name].validation for seed in seeds]
    return [name, *(f"{mean(curve[scale] for curve in curves):.0f}" for scale in curves[0])]
