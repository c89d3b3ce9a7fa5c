"""What evaluators say: a number about a model, and how far they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number about a model, and what it was computed from.

    name: one word, such as `perplexity`; an evaluator may yield several scores, each of a name of its own.
    goal: whether more of it is better, or less.
    samples: how many samples it was computed from.
    per_sample: a number for each sample, in the order of the data, so that models can be compared sample by sample;
        empty where there are none.
    weights: how much each of them counts in the mean, such as its tokens; empty where all count alike.
    scale: `value` is the weighted mean of `per_sample`, or `exp` of it.
    truncated: of answers that a model makes, the share that was cut off before its end; None where it makes none.
    empty: of the same answers, the share that says nothing.
    """

    name: str
    value: float
    goal: Literal["max", "min"]
    samples: int
    per_sample: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    scale: Literal["mean", "exp"] = "mean"
    truncated: float | None = None
    empty: float | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationProgress:
    """How far an evaluation is: `done` of `total` samples, and the `scores` of those that are done."""

    done: int
    total: int
    scores: tuple[Score, ...] = ()


Watch: TypeAlias = Callable[[EvaluationProgress], object]
"""Hears how far an evaluation is, in the thread that evaluates.  What it raises ends the evaluation."""
