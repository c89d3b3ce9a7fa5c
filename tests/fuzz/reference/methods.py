"""The table of methods: their formula, how many models they take, and their parameters with the ranges to draw from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fuzz.reference import others, shared_bases, spheres, task_vectors
from fuzz.reference.arrays import Method

Base = Literal["primary", "first", "delta", "perhaps"]
"""What base_model is: nothing to the arithmetic, the first input, what differences are taken from, or that if given."""


@dataclass(frozen=True)
class Parameter:
    """A parameter: whether each model has its own value, its default, and what to draw."""

    kind: Literal["number", "flag", "choice", "whole"]
    per_model: bool = False
    default: Any = None
    low: float = 0.0
    high: float = 1.0
    choices: tuple[Any, ...] = ()
    required: bool = False


@dataclass(frozen=True)
class Known:
    """A method of the reference."""

    compute: Method
    base: Base
    fewest: int
    most: int
    parameters: dict[str, Parameter] = field(default_factory=dict)


WEIGHT = Parameter("number", per_model=True, low=-0.4, high=1.2, required=True)
SHARE = Parameter("number", per_model=True, low=0.05, high=1.5, required=True)
DENSITY = Parameter("number", per_model=True, default=1.0)
EPSILON = Parameter("number", default=1e-5, low=0.0, high=0.02)


def _rescale(default: bool) -> Parameter:
    return Parameter("choice", default=default, choices=(True, False, "l1"))


def _task(normalize: bool, **more: Parameter) -> dict[str, Parameter]:
    return {
        "weight": WEIGHT,
        "normalize": Parameter("flag", default=normalize),
        "lambda": Parameter("number", default=1.0, low=-0.5, high=1.5),
        "int8_mask": Parameter("flag", default=False),
        **more,
    }


def _pruned(normalize: bool, rescale: bool, **more: Parameter) -> dict[str, Parameter]:
    return _task(normalize, density=DENSITY, rescale=_rescale(rescale), **more)


SCOPE = Parameter("choice", default="tensor", choices=("tensor",))
"""`scope: model` is drawn apart, since it needs one density for all tensors."""
GAMMA = Parameter("number", per_model=True, default=0.01, high=0.3)
RANKED = Parameter("number", per_model=True, default=0.15, low=0.0, high=0.2)
STRICT = Parameter("number", per_model=True, default=1.0, low=0.1, high=1.5)
FEWEST = Parameter("whole", default=1, high=3)

SUMMED = {
    "weight": WEIGHT,
    "normalize": Parameter("flag", default=False),
    "lambda": Parameter("number", default=1.0, low=-0.5, high=1.5),
    "rule": Parameter("choice", choices=("dare_linear",), required=True),
}
"""What has a result that depends on no basis; the other rules have tests of their own."""

METHODS: dict[str, Known] = {
    "linear": Known(
        others.linear, "primary", 1, 4, {"weight": SHARE, "normalize": Parameter("flag", default=True)}
    ),
    "average": Known(
        others.average,
        "primary",
        1,
        4,
        {
            "schedule": Parameter(
                "choice", default="uniform", choices=("uniform", "ema", "linear", "minus-sqrt")
            ),
            "decay": Parameter("number", default=0.5, high=0.95),
        },
    ),
    "passthrough": Known(
        others.passthrough, "primary", 1, 1, {"scale": Parameter("number", per_model=True, low=-1, high=2)}
    ),
    "slerp": Known(spheres.slerp, "first", 1, 1, {"t": Parameter("number", required=True)}),
    "nuslerp": Known(
        spheres.nuslerp,
        "perhaps",
        2,
        2,
        {
            "weight": SHARE,
            "nuslerp_flatten": Parameter("flag", default=True),
            "nuslerp_row_wise": Parameter("flag", default=False),
        },
    ),
    "multislerp": Known(
        spheres.multislerp,
        "perhaps",
        1,
        4,
        {
            "weight": SHARE,
            "normalize_weights": Parameter("flag", default=True),
            "eps": Parameter("number", default=1e-8, high=1e-6),
        },
    ),
    "karcher": Known(
        spheres.karcher,
        "primary",
        1,
        4,
        {
            "max_iter": Parameter("whole", default=10, high=20),
            "tol": Parameter("number", default=1e-5, low=1e-9, high=1e-4),
        },
    ),
    "task_arithmetic": Known(task_vectors.task_arithmetic, "delta", 1, 4, _task(False)),
    "ties": Known(task_vectors.ties, "delta", 1, 4, _pruned(True, False, scope=SCOPE)),
    "dare_linear": Known(task_vectors.dare_linear, "delta", 1, 4, _pruned(False, True)),
    "dare_ties": Known(task_vectors.dare_ties, "delta", 1, 4, _pruned(False, True)),
    "breadcrumbs": Known(
        task_vectors.breadcrumbs, "delta", 1, 4, _pruned(False, False, gamma=GAMMA, scope=SCOPE)
    ),
    "breadcrumbs_ties": Known(
        task_vectors.breadcrumbs_ties, "delta", 1, 4, _pruned(False, False, gamma=GAMMA, scope=SCOPE)
    ),
    "della": Known(task_vectors.della, "delta", 1, 4, _pruned(True, True, epsilon=RANKED)),
    "della_linear": Known(task_vectors.della_linear, "delta", 1, 4, _pruned(False, True, epsilon=RANKED)),
    "consensus_ta": Known(
        task_vectors.consensus_ta, "delta", 1, 4, _task(False) | {"k": FEWEST, "lambda": STRICT}
    ),
    "consensus_ties": Known(
        task_vectors.consensus_ties, "delta", 1, 4, _pruned(True, False) | {"k": FEWEST, "lambda": STRICT}
    ),
    "model_stock": Known(
        others.model_stock, "delta", 2, 4, {"filter_wise": Parameter("flag", default=False)}
    ),
    "sce": Known(
        others.sce,
        "delta",
        1,
        4,
        {"select_topk": Parameter("number", default=1.0), "int8_mask": Parameter("flag", default=False)},
    ),
    "ram": Known(others.ram, "delta", 1, 4, {"epsilon": EPSILON}),
    "ramplus_tl": Known(
        others.ramplus_tl,
        "delta",
        1,
        4,
        {
            "epsilon": EPSILON,
            "r": Parameter("number", default=0.1, low=-0.5, high=1),
            "alpha": Parameter("number", default=0.2),
        },
    ),
    "knots": Known(shared_bases.summed, "delta", 1, 4, SUMMED),
    "core_space": Known(shared_bases.summed, "delta", 1, 4, SUMMED),
    "nearswap": Known(
        others.nearswap, "delta", 1, 1, {"t": Parameter("number", low=1e-4, high=0.1, required=True)}
    ),
    "arcee_fusion": Known(others.arcee_fusion, "delta", 1, 1, {}),
}
