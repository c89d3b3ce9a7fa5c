"""Steps on the sphere: from dot products of the inputs to the factors with which they are summed.

Factors are float64 and few; a method makes one pass for the dot products and one for the sum.  Between vectors that
are nearly opposite, factors may be large and cancel: there dot products and sums are made in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergecore_plugins.methods.common.combine import weighted_sum_

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import TensorGroup

UNSURE = 0.99
"""Above this magnitude, a cosine of products in float32 does not say how far two vectors are from opposite."""
NEARLY_OPPOSITE = -0.9995
"""Below this cosine there is no one arc worth the name: the point on it is some thirty times the sum of both."""
CANCELLING = 4.0
"""Factors beyond this cancel, as the result is no longer than the inputs: float32 would lose as many digits."""


def dot_products(group: TensorGroup) -> Tensor:
    """Dot products of the inputs with each other, float64 (n, n); exact enough to tell which are opposite."""
    from mergecore.compute import gram

    products = group.gram()
    if not nearly_opposite(products):
        return products
    return group.reduce(lambda block: gram(block.x.double()))


def nearly_opposite(products: Tensor) -> bool:
    """Whether any two vectors are, by their dot products (…, n, n) in float32, opposite or nearly so."""
    length = lengths(products)
    return bool((cosines(products, length.masked_fill(length == 0, 1)) < -UNSURE).any())


def lengths(gram: Tensor) -> Tensor:
    """Lengths (…, n) of vectors, from their dot products (…, n, n)."""
    return gram.diagonal(dim1=-2, dim2=-1).sqrt()


def cosines(gram: Tensor, divisors: Tensor) -> Tensor:
    """Cosines (…, n, n) of the angles between vectors, from their dot products and their lengths (…, n).

    What stands in for the length of a zero vector must not be 0; its cosines are 0.
    """
    return (gram / divisors.unsqueeze(-1) / divisors.unsqueeze(-2)).clamp(-1, 1)


def arc(cosine: Tensor, t: float, straight: float = 1.0) -> tuple[Tensor, Tensor]:
    """Factors of two vectors at `t` of the arc between them, for each cosine of their angle; of its shape.

    They are those of the straight line where the cosine is above `straight`, since there the arc is as flat, and
    where the vectors are nearly opposite.
    """
    angle = cosine.acos()
    sine = angle.sin()
    flat = (cosine > straight) | (cosine < NEARLY_OPPOSITE) | (sine == 0)
    first = ((1 - t) * angle).sin() / sine
    second = (t * angle).sin() / sine
    return first.masked_fill(flat, 1 - t), second.masked_fill(flat, t)


def sum_on_sphere_(x: Tensor, factors: Sequence[float]) -> Tensor:
    """The sum over i of f_i x_i (m,); in float64 where the factors cancel.  Overwrites `x` (n, m)."""
    if any(abs(factor) > CANCELLING for factor in factors):
        x = x.double()
    return weighted_sum_(x, factors)
