"""Sums over the numbers of a merged tensor and of what it was made of; read `Sums.add`, then `Sums.apart`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergecore_plugins.look.pairs import Pair, coarser

if TYPE_CHECKING:
    from torch import Tensor

EXACT = 1e-14
"""A square that is smaller than this part of those it is the difference of is zero, but for rounding."""


class Sums:
    """Dot products and counts over the entries that were added, in their order.

    All follow from the dot products of a few rows with one another: one that the others are seen from, the base or else
    the result, and the differences of the others from it.  These are small, so nothing is lost by cancellation.
    """

    def __init__(self, dtypes: Sequence[str], with_base: bool) -> None:
        """`dtypes`: the formats of the parents, of the base where there is one, and of the result."""
        import torch

        self.count = 0
        self.parents = len(dtypes) - 1 - with_base
        self.with_base = with_base
        rows = self.parents + 1 + with_base
        self._gram = torch.zeros((rows, rows), dtype=torch.float64)
        others = [*dtypes[: self.parents], dtypes[-1]] if with_base else []
        self._rounding = [coarser(one, dtypes[self.parents]) for one in others]
        self.changed = [0] * (self.parents + 1)
        """Entries of each parent, and of the result, that differ from the base in the coarser format of the two."""
        self.changed_by_any = self.shared = self.opposed = 0
        self.signed = [0] * self.parents
        self.agreeing = [0] * self.parents

    def add(self, each: Sequence[Tensor]) -> None:
        """Add the same entries of the parents, of the base if there is one, and of the result; float64."""
        import torch

        flat = [one.reshape(-1) for one in each]
        self.count += flat[0].numel()
        middle = flat[self.parents] if self.with_base else flat[-1]
        others = [*flat[: self.parents], *([flat[-1]] if self.with_base else [])]
        rows = torch.empty((len(others) + 1, middle.numel()), dtype=torch.float64)
        rows[0] = middle
        for row, one in zip(rows[1:], others, strict=True):
            torch.sub(one, middle, out=row)
        self._gram += rows @ rows.T
        if self.with_base:
            self._count(rows, flat)

    def _count(self, rows: Tensor, flat: Sequence[Tensor]) -> None:
        import torch

        signs = torch.sign(rows[1:]).to(torch.int8)
        base = flat[self.parents]
        anywhere = torch.zeros(base.shape, dtype=torch.bool)
        for i, one in enumerate([*flat[: self.parents], flat[-1]]):
            rounded = self._rounding[i]
            differ = signs[i] != 0 if rounded is None else one.to(rounded) != base.to(rounded)
            self.changed[i] += int(torch.count_nonzero(differ))
            if i < self.parents:
                anywhere |= differ
        self.changed_by_any += int(torch.count_nonzero(anywhere))
        self._count_signs(signs)

    def _count_signs(self, signs: Tensor) -> None:
        """`signs` (parents + 1, n): those of the changes, the last one that of the result."""
        import torch

        parents, result = signs[:-1], signs[-1]
        products = parents * result
        self.signed = _plus(self.signed, torch.count_nonzero(products, dim=1))
        self.agreeing = _plus(self.agreeing, torch.count_nonzero(products > 0, dim=1))
        up = torch.count_nonzero(parents > 0, dim=0)
        changed = torch.count_nonzero(parents, dim=0)
        self.shared += int(torch.count_nonzero(changed > 1))
        self.opposed += int(torch.count_nonzero((up > 0) & (up < changed)))

    # ---- what follows ----

    def apart(self, parent: int) -> Pair:
        """A parent, and the result."""
        middle, one = self._at(0, 0), parent + 1
        a, first = self._at(0, one), self._at(one, one)
        if not self.with_base:
            return Pair(self.count, middle + 2 * a + first, middle, middle + a, first)
        other = self.parents + 1
        b, second, dot = self._at(0, other), self._at(other, other), self._at(one, other)
        delta = _difference(first + second, 2 * dot)
        return Pair(self.count, middle + 2 * a + first, middle + 2 * b + second, middle + a + b + dot, delta)

    def moved(self) -> Pair:
        """The base, and the result."""
        return self._of_base(self.parents)

    def parent_moved(self, parent: int) -> Pair:
        """The base, and a parent."""
        return self._of_base(parent)

    def change(self, parent: int) -> Pair:
        """The change that a parent made to the base, and that of the result."""
        one, other = parent + 1, self.parents + 1
        first, second, dot = self._at(one, one), self._at(other, other), self._at(one, other)
        delta = _difference(first + second, 2 * dot)
        return Pair(
            self.count, first, second, dot, delta, signed=self.signed[parent], agreeing=self.agreeing[parent]
        )

    def _at(self, row: int, column: int) -> float:
        return float(self._gram[row, column])

    def _of_base(self, which: int) -> Pair:
        base, delta, dot = self._at(0, 0), self._at(which + 1, which + 1), self._at(0, which + 1)
        second = base + 2 * dot + delta
        return Pair(self.count, base, second, base + dot, delta, changed=self.changed[which])


def _plus(counts: Sequence[int], more: Tensor) -> list[int]:
    return [one + int(other) for one, other in zip(counts, more, strict=True)]


def _difference(whole: float, part: float) -> float:
    """A sum of squares as a difference, which is not negative, and zero where it is no more than rounding."""
    found = whole - part
    return 0.0 if found <= EXACT * whole else found
