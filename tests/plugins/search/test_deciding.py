"""Whether a search says rightly that something beats the average, though it looked at many points."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mergecore.types import Interval, Options, Score
from mergecore_plugins.reports import search_report
from mergecore_plugins.search.findings.deciding import (
    best_of,
    difference,
    front,
    looked_at,
    stronger_than,
    verdict,
)
from mergecore_plugins.search.findings.results import Findings, importance, rows_of
from mergecore_plugins.search.findings.showing import table
from mergecore_plugins.search.journal import Trial
from mergecore_plugins.search.judging.scoring import is_hopeless, values_of
from mergecore_plugins.search.space.ranges import Space
from mergecore_plugins.search.space.section import Objective, SearchSection

ONE = (Objective(evaluator="e"),)


def score(values: object, goal: Any = "max", scale: Any = "mean", weights: tuple[float, ...] = ()) -> Score:
    numbers = tuple(float(one) for one in np.asarray(values))
    mean = float(np.average(numbers, weights=weights or None))
    value = math.exp(mean) if scale == "exp" else mean
    return Score(
        name="s",
        value=value,
        goal=goal,
        samples=len(numbers),
        per_sample=numbers,
        weights=weights,
        scale=scale,
    )


def trial(number: int, *scores: Score, kind: Any = "point", **point: float) -> Trial:
    values = tuple(one.value if one.goal == "max" else -one.value for one in scores)
    return Trial(
        number=number,
        kind=kind,
        name=str(number),
        state="complete",
        values=values,
        scores=scores,
        point=point,
    )


def test_a_difference_has_the_interval_of_a_paired_bootstrap() -> None:
    """For many samples, that of a normal distribution: mean ± 1.96 standard errors of the differences."""
    generator = np.random.default_rng(0)
    common = generator.normal(0, 5, 400)  # the same for both, so it does not count
    gain = generator.normal(0.1, 0.5, 400)
    (found,) = difference(trial(0, score(common + gain)), trial(1, score(common)), ONE)
    error = gain.std(ddof=1) / math.sqrt(400)
    assert found.mean == pytest.approx(gain.mean())
    assert found.low == pytest.approx(gain.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(gain.mean() + 1.96 * error, abs=0.15 * error)
    assert found.in_words == "better"
    (turned,) = difference(trial(0, score(common)), trial(1, score(common + gain)), ONE)
    assert turned.in_words == "worse"
    (same,) = difference(trial(0, score(common)), trial(1, score(common)), ONE)
    assert (same.low, same.high, same.in_words) == (0, 0, "within noise")


def test_perplexities_are_compared_by_tokens_and_less_is_better() -> None:
    generator = np.random.default_rng(1)
    weights = tuple(generator.integers(1, 50, 300).astype(float))
    theirs = generator.normal(2, 0.3, 300)
    ours = theirs - 0.05
    a, b = (score(x, "min", "exp", weights) for x in (ours, theirs))
    (found,) = difference(trial(0, a), trial(1, b), ONE)
    wanted = math.exp(np.average(theirs, weights=weights)) * (1 - math.exp(-0.05))
    assert found.mean == pytest.approx(wanted)
    assert found.low > 0


def noise(seed: int, points: int, samples: int) -> tuple[list[Trial], Trial, tuple[Trial, Trial]]:
    """Scores without a signal: every model answers at random, also on the data held out."""
    generator = np.random.default_rng(seed)
    common = generator.normal(0, 1, samples)

    def model(number: int, kind: str = "point") -> Trial:
        return trial(number, score(common + generator.normal(0, 1, samples)), kind=kind)

    found = [model(i) for i in range(points)]
    return found, model(0, "average"), (model(0), model(0, "average"))


@pytest.mark.parametrize("held_out", [False, True])
def test_without_a_signal_nothing_beats_the_average(held_out: bool) -> None:
    """In 19 of 20 searches at least, however many points were looked at."""
    wrong = 0
    for seed in range(60):
        points, average, pair = noise(seed, 40, 100)
        best = best_of(points, average)
        assert best is not None
        wrong += verdict(best, average, points, ONE, pair if held_out else None).beats
    assert wrong <= 6  # 3 are expected of 60 at most; more than 6 happen by chance in 1 of 30


def test_without_a_signal_parents_are_not_better_either() -> None:
    wrong = 0
    for seed in range(60):
        parents, average, _ = noise(seed, 5, 100)
        wrong += stronger_than(average, parents, ONE) is not None
    assert wrong <= 6  # as above


def test_the_best_of_many_looks_better_than_it_is() -> None:
    """Without the correction, far more searches than 1 of 40 would claim a finding."""
    claims = 0
    for seed in range(40):
        points, average, _ = noise(seed, 40, 100)
        best = best_of(points, average)
        assert best is not None
        claims += difference(best, average, ONE)[0].low > 0
    assert claims >= 4  # 1 would be, were there no choice among many


def test_a_real_gain_is_found() -> None:
    found = 0
    for seed in range(20):
        points, average, pair = noise(seed, 40, 100)
        good = trial(
            40,
            score(np.array(average.scores[0].per_sample) + np.random.default_rng(seed).normal(0.6, 1, 100)),
        )
        best = best_of([*points, good], average)
        assert best is not None
        found += verdict(best, average, [*points, good], ONE, None).beats
        del pair
    assert found >= 16


def test_what_a_search_comes_to_is_said_in_words() -> None:
    points, average, pair = noise(0, 5, 50)
    worse = [trial(0, score(np.array(average.scores[0].per_sample) - 1))]
    assert verdict(worse[0], average, worse, ONE, None).why == (
        "no point of 1 is better than the average on the data of the search"
    )
    better = trial(0, score(np.array(average.scores[0].per_sample) + np.linspace(1, 1.1, 50)))
    said = verdict(better, average, [better], ONE, None)
    assert said.beats
    assert said.why == "looking at 1 point, chance alone does as well in less than 0.1 % of cases"
    held = verdict(better, average, [better], ONE, (better, average))
    assert held.why.startswith("on the data held out, the best point is better than the average by 1.05 [1.0")
    slip = verdict(better, average, [better], ONE, (average, better))
    assert not slip.beats
    assert slip.why.startswith("on the data held out, the best point is worse than the average by 1.05 [1.0")
    few = [
        trial(one.number, replace(one.scores[0], per_sample=one.scores[0].per_sample[:5], samples=5))
        for one in (better, average)
    ]
    unsure = verdict(better, average, [better], ONE, (few[0], few[1]))
    assert not unsure.beats
    assert unsure.why == "on the data held out, 5 samples are too few to tell a gain from noise"
    bare = trial(0, Score(name="s", value=1e9, goal="max", samples=9))
    unknown = verdict(bare, average, [bare], ONE, None)
    assert not unknown.beats
    assert (
        unknown.why == "the evaluator gives no values for each sample, so nobody can tell a gain from noise"
    )
    assert verdict(better, average, [better], ONE, (bare, average)).why == unknown.why
    assert looked_at([bare], average, ONE) is None
    del points, pair


@pytest.mark.parametrize(
    ("best", "average", "parent", "base", "recommended"),
    [
        (1.0, 0.0, 0.5, 0.2, "best"),
        (1.0, 0.0, 2.0, 0.2, "parent"),
        (1.0, 0.0, 0.5, 3.0, "base"),
        (-1.0, 0.0, -0.5, 0.0, "average"),
        (-1.0, 0.0, 0.5, 0.2, "parent"),
    ],
)
def test_a_parent_that_is_better_than_what_was_found_is_what_to_use(
    best: float, average: float, parent: float, base: float, recommended: str
) -> None:
    """Each has the noise of the samples in common, and a little of its own; samples say what is better."""
    generator = np.random.default_rng(0)
    common = generator.normal(0, 5, 60)
    models = {"point": best, "average": average, "parent": parent, "base": base}
    trials = {
        kind: replace(trial(n, score(common + gain + generator.normal(0, 0.1, 60)), kind=kind), name=kind)
        for n, (kind, gain) in enumerate(models.items())
    }
    judged = verdict(trials["point"], trials["average"], [trials["point"]], ONE, None)
    section = SearchSection(objectives=ONE, trials=1)
    found = Findings(
        "c.yml",
        Space((), (), {}),
        section,
        [*trials.values()],
        trials["point"],
        judged,
        rows_of([*trials.values()], trials["point"], ONE),
        held_out=False,
    )
    assert found.recommended == recommended
    said = table(found, Path("out"))
    assert ("use it (" in said) == (recommended == "average")
    ours = "the best point" if judged.beats else "the average"
    better = f"but {recommended} ({recommended}) is better than {ours}: use {recommended} as it is"
    assert (better in said) == (recommended in ("parent", "base"))
    page = search_report(found.as_json())
    wanted = {"best": "the best point", "average": "the average of the models"}.get(recommended, recommended)
    assert f"Recommended: {wanted}." in page


def test_several_numbers_have_a_front_and_one_of_it_is_best() -> None:
    def two(number: int, a: float, b: float) -> Trial:
        return trial(number, score([a, a]), score([b, b]))

    points = [two(0, 1, 5), two(1, 3, 3), two(2, 5, 1), two(3, 2, 2)]
    assert [one.number for one in front(points)] == [0, 1, 2]
    best = best_of(points, two(0, 0, 0))
    assert best is not None
    assert best.number == 1


def test_weights_make_one_number_of_several() -> None:
    objectives = (Objective(evaluator="a", weight=2), Objective(evaluator="b", weight=1, goal="min"))
    assert values_of(objectives, [score([3, 3]), score([4, 4])]) == (2 * 3 - 4,)


def test_an_evaluation_is_hopeless_once_samples_say_so() -> None:
    best = score(np.arange(40) % 2)
    bad, close = score(np.zeros(20)), score(np.arange(20) % 2)
    assert is_hopeless(bad, best, 1)  # 10 of 20 lost, none won: 0.5 ± 0.11
    assert not is_hopeless(bad, best, -1)
    assert not is_hopeless(close, best, 1)
    assert not is_hopeless(score(np.zeros(19)), best, 1)  # too few to say
    assert not is_hopeless(score(np.zeros(41)), best, 1)  # not the same samples


def test_importance_is_what_a_dimension_explains_alone() -> None:
    generator = np.random.default_rng(0)
    dimensions = (
        Interval(name="a", low=0, high=1),
        Interval(name="b", low=0, high=1),
        Options(name="c", count=2),
    )
    points = []
    for number in range(80):
        a, b = generator.uniform(0, 1, 2)
        points.append(trial(number, score([-((a - 0.4) ** 2)] * 2), a=a, b=b, c=number % 2))
    found = importance(dimensions, points)
    assert (found["a"] or 0) > 0.8
    assert (found["b"] or 0) < 0.1
    assert (found["c"] or 0) < 0.1
    assert importance(dimensions, points[:3]) == {"a": None, "b": None, "c": None}
