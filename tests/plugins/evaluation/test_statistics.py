"""Differences and their intervals: against an implementation of its own, by hand, and by how often they are right."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest

from mergecore.types import Score
from mergecore_plugins.evaluation.statistics import _student, interval, mcnemar, paired


def accuracy(*samples: float) -> Score:
    return Score(
        name="accuracy",
        value=statistics.fmean(samples),
        goal="max",
        samples=len(samples),
        per_sample=tuple(samples),
    )


def perplexity(losses: list[float], tokens: list[float]) -> Score:
    mean = sum(a * b for a, b in zip(losses, tokens, strict=True)) / sum(tokens)
    return Score(
        name="perplexity",
        value=math.exp(mean),
        goal="min",
        samples=len(losses),
        per_sample=tuple(losses),
        weights=tuple(tokens),
        scale="exp",
    )


def by_hand(a: Score, b: Score, draws: int = 20_000) -> tuple[float, float]:
    """The ends by plain loops, with random numbers of another kind and ends at 2.5 % of Student's t in their place."""
    chance, count = random.Random(5), a.samples
    found = []
    for _ in range(draws):
        chosen = [chance.randrange(count) for _ in range(count)]
        values = []
        for score in (a, b):
            weights = [score.weights[i] if score.weights else 1.0 for i in chosen]
            mean = sum(score.per_sample[i] * w for i, w in zip(chosen, weights, strict=True)) / sum(weights)
            values.append(math.exp(mean) if score.scale == "exp" else mean)
        found.append(values[0] - values[1])
    found.sort()
    # 2.0227 is the quantile of t of 39 degrees at 97.5 %; of a normal, 0.5 erfc(x / sqrt 2) lies beyond x
    tail = 0.5 * math.erfc(math.sqrt(count / (count - 1)) * 2.0227 / math.sqrt(2))
    return found[int(tail * draws)], found[int((1 - tail) * draws)]


@pytest.mark.parametrize("scale", ["mean", "exp"])
def test_ends_are_those_of_plain_loops(scale: str) -> None:
    chance = random.Random(1)
    losses = [chance.gauss(2, 0.5) for _ in range(40)]
    others = [one + chance.gauss(0.05, 0.2) for one in losses]
    tokens = [float(chance.randrange(5, 60)) for _ in range(40)]
    if scale == "exp":
        a, b = perplexity(losses, tokens), perplexity(others, tokens)
    else:
        a, b = accuracy(*losses), accuracy(*others)
    found = paired(a, b)
    low, high = by_hand(a, b)
    assert found.value == a.value - b.value
    assert found.low == pytest.approx(low, abs=0.05 * (high - low))
    assert found.high == pytest.approx(high, abs=0.05 * (high - low))


def test_intervals_of_95_percent_hold_in_about_95_of_100_cases() -> None:
    """The true difference is 0.1; 30 samples that are paired, heavy on one side."""
    draw = np.random.default_rng(3)
    rounds, held, noise = 400, 0, 0
    for _ in range(rounds):
        common = draw.exponential(1.0, 30)
        a = common + 0.1 + draw.normal(0, 0.3, 30)
        b = common + draw.normal(0, 0.3, 30)
        found = paired(accuracy(*a), accuracy(*b))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.1 <= found.high
        noise += bool(paired(accuracy(*(a - 0.1)), accuracy(*b)).within_noise)
    # 400 draws of 95 % lie within 95 % ± 2.2 % in 95 of 100 cases; 3.3 % for 99.7 of 100
    assert 0.917 <= held / rounds <= 0.983
    assert 0.917 <= noise / rounds <= 0.983


def test_accuracies_of_equal_models_differ_by_noise_in_95_of_100_cases_at_least() -> None:
    draw = np.random.default_rng(4)
    rounds = 300
    for count, share in ((10, 0.9), (50, 0.5)):
        noise = sum(
            paired(accuracy(*a.astype(float)), accuracy(*b.astype(float))).within_noise is not False
            for a, b in ((draw.random(count) < share, draw.random(count) < share) for _ in range(rounds))
        )
        assert noise / rounds >= 0.93


def test_one_seed_gives_one_interval() -> None:
    a, b = accuracy(*[1.0, 0.0] * 20), accuracy(*[1.0, 0.0, 0.0, 0.0] * 10)
    assert paired(a, b, seed=1) == paired(a, b, seed=1)
    assert paired(a, b) == paired(a, b, seed=0)
    assert interval(a, seed=2) == interval(a, seed=2)


def test_what_pairs_counts_and_not_how_samples_differ_from_each_other() -> None:
    """Each sample is 0.1 better, while samples lie between 0 and 10: noise of single models hides nothing."""
    losses = [float(i) for i in range(11)]
    found = paired(accuracy(*[one + 0.1 for one in losses]), accuracy(*losses))
    assert (found.within_noise, found.words) == (False, "better")
    assert found.low == pytest.approx(0.1)
    alone = interval(accuracy(*losses))
    assert alone is not None
    assert alone.high - alone.low > 3


@pytest.mark.parametrize(
    ("a", "b", "words", "noise"),
    [
        ((1.0,) * 8, (1.0,) * 8, "the same", True),
        ((1.0,) * 8, (0.0,) * 8, "better", False),
        ((0.0,) * 8, (1.0,) * 8, "worse", False),
        ((1.0, 1.0, 0.0), (0.0,) * 3, "within noise: 3 samples are too few", True),
        # one of eight: that is chance once in one time of one
        ((1.0,) * 8, (1.0,) * 7 + (0.0,), "within noise", True),
        # five of eight: the split is chance in 2 of 32 cases, more than 5 %, though no draw turns it round
        ((1.0,) * 8, (1.0,) * 3 + (0.0,) * 5, "within noise", True),
        ((1.0,) * 8, (1.0,) * 2 + (0.0,) * 6, "better", False),
    ],
)
def test_what_a_difference_is_called(
    a: tuple[float, ...], b: tuple[float, ...], words: str, noise: bool
) -> None:
    found = paired(accuracy(*a), accuracy(*b))
    assert (found.words, found.within_noise) == (words, noise)


def test_less_is_better_where_the_goal_says_so() -> None:
    few, many = [1.0] * 10, [2.0] * 10
    assert paired(perplexity(few, [3.0] * 10), perplexity(many, [3.0] * 10)).words == "better"


def test_nothing_is_said_without_samples_or_of_other_samples() -> None:
    bare = Score(name="norm", value=3.0, goal="max", samples=1)
    assert (paired(bare, bare).words, paired(bare, bare).low) == ("no interval: it has no samples", None)
    assert interval(bare) is None
    assert paired(accuracy(1, 0), accuracy(1, 0, 1)).words == "no interval: other samples"


def test_samples_without_a_token_change_no_interval() -> None:
    """A text of one token predicts nothing: the intervals are those of the texts that do."""
    chance = random.Random(2)
    losses = [chance.gauss(3, 1) for _ in range(8)]
    others = [one - 0.5 for one in losses]
    full, other = perplexity(losses, [5.0] * 8), perplexity(others, [5.0] * 8)
    empty = perplexity([*losses, *[0.0] * 40], [5.0] * 8 + [0.0] * 40)
    other_empty = perplexity([*others, *[0.0] * 40], [5.0] * 8 + [0.0] * 40)
    assert interval(empty) == interval(full)
    assert paired(empty, other_empty) == paired(full, other)
    few = perplexity([*losses[:3], 0.0, 0.0, 0.0], [5.0] * 3 + [0.0] * 3)
    less = perplexity([*others[:3], 0.0, 0.0, 0.0], [5.0] * 3 + [0.0] * 3)
    assert paired(few, less).words == "within noise: 3 samples are too few"
    one, least = perplexity([1.0, 0.0], [5.0, 0.0]), perplexity([2.0, 0.0], [5.0, 0.0])
    assert paired(one, least).words == "within noise: 1 sample is too few"


def test_draws_that_no_float_holds_give_ends_that_are_numbers() -> None:
    a = perplexity([700.0, 700.0, 720.0, 690.0, 650.0, 640.0, 600.0], [1.0] * 7)
    b = perplexity([700.0, 600.0, 725.0, 690.0, 650.0, 640.0, 601.0], [1.0] * 7)
    found, alone = paired(a, b), interval(a)
    assert alone is not None
    assert found.low is not None
    assert found.high is not None
    assert all(map(math.isfinite, (found.low, found.high, alone.low, alone.high)))


QUANTILES = [
    (1, 12.7062),
    (2, 4.30265),
    (3, 3.18245),
    (5, 2.57058),
    (10, 2.22814),
    (29, 2.04523),
    (1000, 1.96234),
]


@pytest.mark.parametrize(("freedom", "value"), QUANTILES)
def test_quantiles_of_t_are_those_of_tables(freedom: int, value: float) -> None:
    assert _student(0.975, freedom) == pytest.approx(value, rel=3e-3)


@pytest.mark.parametrize(
    ("wins", "losses", "p"), [(5, 0, 0.0625), (6, 0, 0.03125), (8, 2, 0.109375), (3, 3, 1.0)]
)
def test_the_test_of_mcnemar_is_exact(wins: int, losses: int, p: float) -> None:
    """8 of 10: 2 (45 + 10 + 1) / 1024 = 0.109375."""
    ours = [1.0] * wins + [0.0] * losses + [1.0]
    theirs = [0.0] * wins + [1.0] * losses + [1.0]
    assert mcnemar(ours, theirs) == p
