"""Inputs as products of two factors, and as matrices in a basis that they share; all numbers are float64.

An input is B A, with B (m, r) and A (r, n).  `stacked` adds such products without making one; `merge_parts` merges
what inputs are in a basis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from mergecore import Field, Params, PerModel
from mergecore_plugins.methods.common.coefficients import task_weights
from mergecore_plugins.methods.common.combine import elect_and_sum_, weighted_sum_
from mergecore_plugins.methods.common.parameters import Fraction

if TYPE_CHECKING:
    from torch import Tensor

Uniform: TypeAlias = "Callable[[int, str], Tensor]"
Rule: TypeAlias = Literal["ties", "dare_ties", "dare_linear"]
NOISE = 1e-12
"""The share of the largest singular value below which one is nothing but rounding."""
LARGE = 1024
"""Rows from which on singular values are found by their squares, which is far cheaper."""
NOISE_OF_SQUARES = 1e-7
"""The same where singular values are found by their squares."""


class AlignedParams(Params):
    """What methods have in common that merge in a basis of their own."""

    weight: PerModel[float] = Field(description="factor of the model's task vector")
    density: PerModel[Fraction] = Field((1.0,), description="fraction of entries kept in the shared basis")
    normalize: bool | None = Field(
        None,
        description="divide by the weights: of the models that agree, or of all; by default ties only does",
    )
    scale: float = Field(1.0, alias="lambda", description="factor of the merged task vector")


def stacked(factors: Sequence[tuple[Tensor, Tensor]], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The factors of the sum of w_i B_i A_i, side by side; those of weight 0 are left out."""
    import torch

    kept = [(b * w, a) for (b, a), w in zip(factors, weights, strict=True) if w] or [
        (b[:, :0], a[:0]) for b, a in factors[:1]
    ]
    return torch.cat([b for b, _ in kept], dim=1), torch.cat([a for _, a in kept])


def left_basis(parts: Sequence[Tensor]) -> Tensor:
    """An orthonormal basis (m, k) of the columns of all `parts` (m, n_i): their left singular vectors."""
    import torch

    wide = torch.cat(list(parts), dim=1)
    if wide.shape[1] > wide.shape[0] > LARGE:
        squares, u = torch.linalg.eigh(wide @ wide.T)
        s, u = squares.clamp(min=0).sqrt().flip(0), u.flip(1)
        return _first(u, rank_of(s, NOISE_OF_SQUARES))
    if wide.shape[1] > wide.shape[0]:
        wide = torch.linalg.qr(wide.T, "r").R.T  # (m, m)
    u, s, _ = torch.linalg.svd(wide, full_matrices=False)
    return _first(u, rank_of(s))


def _first(u: Tensor, count: int) -> Tensor:
    return u[:, :count]


def rank_of(s: Tensor, noise: float = NOISE) -> int:
    """How many of the singular values `s`, the largest first, are more than rounding."""
    return int((s > noise * s[0]).sum()) if len(s) else 0


def merge_parts(parts: Tensor, rule: str, params: AlignedParams, uniform: Uniform) -> Tensor:
    """What a rule makes of `parts` (n, *shape), which it overwrites: trimmed or dropped, then added up."""
    x = parts.reshape(len(parts), -1)
    for i, (row, density) in enumerate(zip(x, params.density, strict=True)):
        if density < 1:
            if rule == "ties":
                trim_(row, density)
            else:
                drop_(row, density, uniform(len(row), f"mask of input {i}"))
    if rule.endswith("ties"):
        normalize = rule == "ties" if params.normalize is None else params.normalize
        merged = elect_and_sum_(x, params.weight, normalize).mul_(params.scale)
    else:
        merged = weighted_sum_(x, task_weights(params.weight, bool(params.normalize), params.scale))
    return merged.view(parts.shape[1:])


def trim_(x: Tensor, density: float) -> Tensor:
    """`x` (m,) with nothing but its largest magnitudes; of equal ones those that come first."""
    from mergecore.compute import kept_count

    order = x.abs().sort(descending=True, stable=True).indices
    x[order[kept_count(density, len(x)) :]] = 0
    return x


def drop_(x: Tensor, density: float, uniform: Tensor) -> Tensor:
    """`x` (m,) with every entry kept with the probability `density`, and then divided by it."""
    x[uniform >= density] = 0
    return x.div_(density) if density else x
