"""Random shapes, numbers and parameter values, from a generator with a seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fuzz.reference.arrays import Array
from fuzz.reference.methods import METHODS, Known, Parameter

Random = np.random.Generator

FORMATS = ("F64", "F32", "BF16", "F16")
EDGE = 2**18
"""The number of elements in a block of the engine; sizes around it are tried."""


def pick(random: Random, options: Any) -> Any:
    """One of some."""
    return options[int(random.integers(len(options)))]


def shape(random: Random, large: bool = False) -> tuple[int, ...]:
    """A shape: of a scalar, one element, a column, a row, nothing, a matrix, a convolution, or about a block."""
    n = int(random.integers(1, 40))
    m = int(random.integers(1, 40))
    options = [
        (),
        (1,),
        (n,),
        (n, 1),
        (1, n),
        (0,),
        (0, m),
        (n, m),
        (4 * n, m + 30),  # some thousands, as sums take other ways there
        (4 * n, m + 30),
        (2, n, m),
        (3, 2, 3, 3),
        (1, 1, n),
    ]
    if large and random.random() < 0.5:
        about = EDGE + int(random.integers(-2, 3))
        options = [(about,), (about // 64 + 1, 64), (2, about // 2, 1), (7, EDGE // 7 + 3)]
    chosen: tuple[int, ...] = pick(random, options)
    return chosen


def origin(random: Random, like: tuple[int, ...]) -> Array:
    """Numbers of a base."""
    size = pick(random, (1.0, 0.05, 0.001))
    return np.asarray(random.standard_normal(like) * size)


def change(random: Random, like: tuple[int, ...], spread: float) -> Array:
    """What a model adds to its base: dense, sparse, of few sizes so that many tie, constant or nothing."""
    kind = pick(random, ("dense", "dense", "dense", "sparse", "steps", "constant", "none"))
    dense = np.asarray(random.standard_normal(like)) * spread
    if kind == "sparse":
        return dense * (random.random(like) < 0.3)
    if kind == "steps":
        return np.asarray(np.round(dense / spread * 2) * 2.0 ** round(math.log2(spread)))
    return dense if kind == "dense" else np.full(like, spread if kind == "constant" else 0.0)


def number(random: Random, parameter: Parameter) -> float:
    """A number of the range, sometimes one of its ends."""
    if random.random() < 0.15:
        return float(pick(random, (parameter.low, parameter.high)))
    drawn = float(f"{random.uniform(parameter.low, parameter.high):.{int(random.integers(1, 5))}g}")
    return min(max(drawn, parameter.low), parameter.high)


def value(random: Random, parameter: Parameter) -> Any:
    """One value."""
    if parameter.kind == "whole":
        return int(random.integers(int(parameter.low), int(parameter.high) + 1))
    if parameter.kind == "flag":
        return bool(random.integers(2))
    return pick(random, parameter.choices) if parameter.kind == "choice" else number(random, parameter)


def parameters(random: Random, known: Known, models: int) -> dict[str, Any]:
    """Values of all parameters of a method, its defaults where they are not drawn."""
    drawn: dict[str, Any] = {}
    for name, parameter in known.parameters.items():
        given = parameter.required or random.random() < 0.6
        one = [value(random, parameter) if given else parameter.default for _ in range(models)]
        drawn[name] = one if parameter.per_model else one[0]
    return settled(drawn)


def settled(drawn: dict[str, Any]) -> dict[str, Any]:
    """The values, made such that a plan accepts them: no weights that cancel, probabilities between 0 and 1."""
    if "epsilon" in drawn and isinstance(drawn["epsilon"], list):
        pairs = zip(drawn["epsilon"], drawn["density"], strict=True)
        drawn["epsilon"] = [min(e, max(0.0, min(d, 1 - d) - 0.001)) for e, d in pairs]
    if "weight" in drawn and abs(sum(drawn["weight"])) < 0.05:
        drawn["weight"] = [one + 0.1 for one in drawn["weight"]]
        return settled(drawn)
    return drawn


def known(name: str) -> Known:
    """The method of the reference."""
    return METHODS[name]
