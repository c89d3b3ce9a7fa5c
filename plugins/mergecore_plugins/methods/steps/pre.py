"""The slot *pre*: task vectors are made sparse before they are combined.

Each function takes the passes it needs over the whole tensor and returns a `Sparse`, which is then called
with each block: it overwrites `block.x` and returns it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mergecore_plugins.methods.steps.parameters import Rescale

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.selection import Cut

Sparse: TypeAlias = "Callable[[Block], Tensor]"


def trimmed(cuts: Sequence[Cut]) -> Sparse:
    """Each x_i without the magnitudes that its cut leaves out."""

    def trim(block: Block) -> Tensor:
        for row, cut in zip(block.x, cuts, strict=True):
            cut.trim_(row, block.index)
        return block.x

    return trim


@dataclass(frozen=True)
class Band:
    """What lies between two cuts: kept by `outer`, but not by `inner`."""

    outer: Cut
    inner: Cut

    def keep_(self, x: Tensor, index: int) -> Tensor:
        """Zero what is outside of the band in `x` (m,), the numbers of flat block `index`; in place."""
        largest = self.inner.trim_(x.clone(), index)
        return self.outer.trim_(x, index).sub_(largest)


def band_counts(density: float, gamma: float, count: int) -> tuple[int, int]:
    """How many of `count` magnitudes the outer cut of a band keeps, and the inner one.

    The largest gamma · count are left out, and of the others the largest density · count kept, both truncated;
    where that is more than there are, fewer of the largest are left out.
    """
    kept = int(density * count)
    outer = min(count, kept + int(gamma * count))
    return outer, outer - kept


def banded(bands: Sequence[Band]) -> Sparse:
    """Each x_i with the magnitudes in its band only."""

    def keep(block: Block) -> Tensor:
        for row, band in zip(block.x, bands, strict=True):
            band.keep_(row, block.index)
        return block.x

    return keep


def bands_of(group: TensorGroup, densities: Sequence[float], gammas: Sequence[float]) -> list[Band]:
    """The band of each input of this tensor, all found in the same passes."""
    counts = [band_counts(*row, group.count) for row in zip(densities, gammas, strict=True)]
    return [Band(*cuts) for cuts in group.cuts_each(counts)]


def dropped(group: TensorGroup, densities: Sequence[float], rescale: Rescale) -> Sparse:
    """Each x_i with every entry kept with the probability of its density, at random.

    rescale: by 1/density, so that the expectation is x_i; "l1" to the norm that x_i had in this tensor.
    """

    def drop(block: Block) -> Tensor:
        for i, (row, density) in enumerate(zip(block.x, densities, strict=True)):
            if density < 1:
                row.mul_(block.mask(i, density))
                if rescale is True and density:
                    row.mul_(1 / density)
        return block.x

    return norm_matched(group, drop) if rescale == "l1" else drop


def dropped_by_rank(
    group: TensorGroup, densities: Sequence[float], epsilons: Sequence[float], rescale: Rescale
) -> Sparse:
    """Each x_i with every entry kept with a probability that rises with its rank, at random; blocks of rows.

    rescale: each entry by 1 / its probability, so that the expectation is x_i; "l1" as in `dropped`.
    """

    def drop(block: Block) -> Tensor:
        for i, (x, density, epsilon) in enumerate(zip(block.x, densities, epsilons, strict=True)):
            if density <= 0:
                x.zero_()
            elif density < 1:
                keep = keep_probabilities(x, density, epsilon)
                x.mul_(block.uniform(i).lt_(keep))
                if rescale is True:
                    x.div_(keep)
        return block.x

    return norm_matched(group, drop, rows=True) if rescale == "l1" else drop


def keep_probabilities(x: Tensor, density: float, epsilon: float) -> Tensor:
    """For each entry of `x` (rows, columns) the probability that DELLA keeps it, float32.

    In each row it rises in equal steps from density - epsilon for the smallest magnitude to density + epsilon
    for the largest; of equal ones the first is the smaller.  The entry of a row of one has the density.
    """
    import torch

    columns = x.shape[-1]
    if columns == 1:
        return torch.full(x.shape, density, device=x.device)
    ladder = torch.arange(columns, dtype=torch.float64, device=x.device)
    ladder = ladder.mul_(2 * epsilon / (columns - 1)).add_(density - epsilon).float()
    keep = torch.empty(x.shape, device=x.device)
    return keep.scatter_(-1, ascending(x), ladder.expand(x.shape))


def ascending(x: Tensor) -> Tensor:
    """Positions in each row of `x` from the smallest magnitude to the largest; equal ones as they stand.

    On the CPU magnitude and position are sorted as one integer, which is unique, so that numpy's fastest sort
    of values gives one order everywhere; it takes a third of the time of an `argsort`.
    """
    import numpy as np
    import torch

    if x.dtype != torch.float32 or x.device.type != "cpu":
        return x.abs().sort(dim=-1, stable=True).indices
    keys = (x.numpy().view(np.uint32) & np.uint32(0x7FFF_FFFF)).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(x.shape[-1], dtype=np.uint64)
    keys.sort(axis=-1)
    keys &= np.uint64(0xFFFF_FFFF)
    return torch.from_numpy(keys.view(np.int64))


def norm_matched(group: TensorGroup, sparse: Sparse, rows: bool = False) -> Sparse:
    """`sparse`, and then each x_i scaled to the L1 norm that it had in this tensor, in a pass of its own."""
    factors = norm_ratios(group, sparse, rows)

    def match(block: Block) -> Tensor:
        for row, factor in zip(sparse(block), factors, strict=True):
            if factor != 1:
                row.mul_(factor)
        return block.x

    return match


def norm_ratios(group: TensorGroup, sparse: Sparse, rows: bool = False) -> tuple[float, ...]:
    """For each input its L1 norm over what `sparse` leaves of that; 1 where it leaves nothing."""
    from torch import stack

    def norms(block: Block) -> Tensor:
        before = l1_norms(block.x)
        return stack([before, l1_norms(sparse(block))])  # (2, n)

    before, after = group.reduce(norms, rows).tolist()
    return tuple(whole / kept if kept else 1.0 for whole, kept in zip(before, after, strict=True))


def l1_norms(x: Tensor) -> Tensor:
    """The L1 norm of each x_i, float64 (n,)."""
    from torch import stack

    from mergecore.reduction import tree_sum

    return stack([tree_sum(row.reshape(-1).double().abs_()) for row in x])
