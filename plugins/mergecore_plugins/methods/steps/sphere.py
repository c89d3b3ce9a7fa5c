"""Steps on the sphere: from dot products of the inputs to the factors with which they are summed.

Everything here is float64 and small; a method makes one pass for the dot products and one for the sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def lengths(gram: Tensor) -> Tensor:
    """Lengths (…, n) of vectors, from their dot products (…, n, n)."""
    return gram.diagonal(dim1=-2, dim2=-1).sqrt()


def cosines(gram: Tensor, divisors: Tensor) -> Tensor:
    """Cosines (…, n, n) of the angles between vectors, from their dot products and their lengths (…, n).

    What stands in for the length of a zero vector must not be 0; its cosines are 0.
    """
    return (gram / divisors.unsqueeze(-1) / divisors.unsqueeze(-2)).clamp(-1, 1)


def arc(cosine: Tensor, t: float, straight: float) -> tuple[Tensor, Tensor]:
    """Factors of two vectors at `t` of the arc between them, for each cosine of their angle; of its shape.

    Where its magnitude is above `straight`, they are those of the straight line: there the arc is as flat,
    or, between opposite vectors, there is no one arc.
    """
    angle = cosine.acos()
    sine = angle.sin()
    flat = cosine.abs() > straight
    first = ((1 - t) * angle).sin() / sine
    second = (t * angle).sin() / sine
    return first.masked_fill(flat, 1 - t), second.masked_fill(flat, t)
