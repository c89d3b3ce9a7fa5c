"""Pictures of what a method does to a small tensor: the inputs and the result, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import mergecore
from mergecore.types import MergeMethod

A = (0.9, -0.2, 0.5, 0.1, -0.7, 0.3, -0.1, 0.6, 0.05, -0.4, 0.2, 0.8)
B = (0.7, 0.4, -0.6, 0.1, -0.5, -0.3, 0.2, 0.1, -0.8, -0.3, 0.05, 0.6)
C = (0.8, 0.1, 0.2, 0.5, -0.6, 0.1, -0.2, 0.4, -0.1, -0.5, 0.3, 0.5)
SHAPE = (3, 4)  # for what decomposes matrices

# Parameters that show what a method is about; each model has the same.
PARAMETERS: dict[str, dict[str, Any]] = {
    "arcee_fusion": {},
    "average": {"schedule": "minus-sqrt"},
    "breadcrumbs": {"weight": 0.5, "density": 0.5, "gamma": 0.2},
    "breadcrumbs_ties": {"weight": 0.5, "density": 0.5, "gamma": 0.2},
    "consensus_ta": {"weight": 0.5},
    "consensus_ties": {"weight": 0.5},
    "core_space": {"weight": 0.5},
    "dare_linear": {"weight": 0.5, "density": 0.5},
    "dare_ties": {"weight": 0.5, "density": 0.5},
    "della": {"weight": 0.5, "density": 0.5, "epsilon": 0.2},
    "della_linear": {"weight": 0.5, "density": 0.5, "epsilon": 0.2},
    "karcher": {},
    "knots": {"weight": 0.5},
    "linear": {"weight": 0.5},
    "model_stock": {},
    "multislerp": {"weight": 0.5},
    "nearswap": {"t": 0.3},
    "nuslerp": {"weight": 0.5},
    "passthrough": {"scale": 0.5},
    "ram": {"epsilon": 0.15},
    "ramplus_tl": {"epsilon": 0.15},
    "sce": {"select_topk": 0.5},
    "slerp": {"t": 0.5},
    "task_arithmetic": {"weight": 0.5},
    "ties": {"weight": 0.5, "density": 0.5},
}
WIDTH, LABEL, BAR, HEIGHT = 420, 64, 20, 76


def picture(method: MergeMethod[Any]) -> str:
    """The picture of a method, and a line about its parameters; empty for one without parameters to show."""
    if method.name not in PARAMETERS:
        return ""
    most = method.models[1]
    inputs = [A, B, C][: 3 if method.name == "average" else min(most or 2, 2)]
    base_is_model = method.base == "required" and method.space == "weight" and most == 1
    rows: dict[str, Sequence[float]] = {f"model {'abc'[i]}": one for i, one in enumerate(inputs)}
    given = PARAMETERS[method.name]
    if base_is_model:
        rows = {"base": A, "model a": B}
    tensors = [matrix(one) for label, one in rows.items() if label != "base"]
    has_base = method.base == "required"
    base = matrix(A) if base_is_model else np.zeros(SHAPE, np.float32) if has_base else None
    merged = mergecore.merge_tensors(method.name, tensors, base=base, dtype=torch.float32, **given)
    rows["result"] = [float(one) for one in merged.flatten()]
    what = (
        "The base is 0 here, so the bars of a model are its task vector. "
        if has_base and not base_is_model
        else ""
    )
    values = ", ".join(f"`{name}: {value}`" for name, value in given.items())
    settings = f"Parameters: {values}." if values else "No parameters are set."
    return f"```{{raw}} html\n{svg(rows, method.name)}\n```\n\n{what}{settings}\n"


def matrix(numbers: Sequence[float]) -> NDArray[np.float32]:
    return np.asarray(numbers, np.float32).reshape(SHAPE)


def svg(rows: Mapping[str, Sequence[float]], name: str) -> str:
    """The rows of numbers as bars above and below a line, the last of them apart."""
    largest = max(1.0, *(abs(number) for numbers in rows.values() for number in numbers))
    drawn = [row(label, numbers, place, largest) for place, (label, numbers) in enumerate(rows.items())]
    said = "; ".join(
        f"{label}: {' '.join(f'{one:.2g}' for one in numbers)}" for label, numbers in rows.items()
    )
    return (
        f'<svg class="picture" viewBox="0 0 {WIDTH} {len(rows) * HEIGHT}" role="img">'
        f"<title>{name}</title><desc>{said}</desc>{''.join(drawn)}</svg>"
    )


def row(label: str, numbers: Sequence[float], place: int, largest: float) -> str:
    middle = place * HEIGHT + HEIGHT // 2
    kind = "result" if label == "result" else "input"
    bars = "".join(bar(number / largest, column, middle) for column, number in enumerate(numbers))
    line = f'<line x1="{LABEL}" y1="{middle}" x2="{WIDTH}" y2="{middle}"/>'
    return f'<g class="{kind}"><text x="0" y="{middle + 5}">{label}</text>{bars}{line}</g>'


def bar(share: float, column: int, middle: int) -> str:
    height = abs(share) * (HEIGHT / 2 - 4)
    left = LABEL + 6 + column * (WIDTH - LABEL) / len(A)
    top = middle - height if share > 0 else middle
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{BAR}" height="{height:.1f}"/>'
