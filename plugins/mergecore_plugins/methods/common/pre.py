"""The slot *pre*: task vectors are made sparse before they are combined, here at random.

Each function takes the passes it needs over the whole tensor and returns a `Sparse`, which is then called
with each block: it overwrites `block.x` and returns it.  Selection by magnitude is in `magnitude`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from mergecore_plugins.methods.common.parameters import Rescale

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup

Sparse: TypeAlias = "Callable[[Block], Tensor]"


def dropped(group: TensorGroup, densities: Sequence[float], rescale: Rescale) -> Sparse:
    """Each x_i with every entry kept with the probability of its density, at random.

    rescale: by 1/density, so that the expectation is x_i; "l1" to the norm that x_i had in this tensor.
    """

    def drop(block: Block) -> Tensor:
        for i, (row, density) in enumerate(zip(block.x, densities, strict=True)):
            if density < 1:
                keep_(row, block.mask(i, density))
                if rescale is True and density:
                    row.mul_(1 / density)
        return block.x

    return norm_matched(group, drop) if rescale == "l1" else drop


def keep_(x: Tensor, mask: Tensor) -> Tensor:
    """Zero `x` where `mask` is false; a third of the time that a product with bools takes."""
    import torch

    bits = x.view(torch.int64 if x.dtype == torch.float64 else torch.int32)
    bits.bitwise_and_(mask.view(torch.int8).to(bits.dtype).neg_())  # all ones or none
    return x


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
                x.mul_(block.uniform(i).lt_(keep.float()))
                if rescale is True:
                    x.div_(keep)
        return block.x

    return norm_matched(group, drop, rows=True) if rescale == "l1" else drop


def keep_probabilities(x: Tensor, density: float, epsilon: float) -> Tensor:
    """For each entry of `x` (rows, columns) the probability that DELLA keeps it, of the dtype of `x`.

    In each row it rises in equal steps from density - epsilon for the smallest magnitude to density + epsilon
    for the largest; of equal ones the first is the smaller.  The entry of a row of one has the density.
    """
    import torch

    columns = x.shape[-1]
    if columns == 1:
        return torch.full(x.shape, density, dtype=x.dtype, device=x.device)
    ladder = torch.arange(columns, dtype=torch.float64, device=x.device)
    ladder = ladder.mul_(2 * epsilon / (columns - 1)).add_(density - epsilon).to(x.dtype)
    keep = torch.empty(x.shape, dtype=x.dtype, device=x.device)
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
    return scaled(sparse, [norm_ratio(*both) for both in norm_sums(group, sparse, rows).T.tolist()])


def scaled(sparse: Sparse, factors: Sequence[float]) -> Sparse:
    """`sparse`, and then each x_i times its factor."""

    def scale(block: Block) -> Tensor:
        for row, factor in zip(sparse(block), factors, strict=True):
            if factor != 1:
                row.mul_(factor)
        return block.x

    return scale


def norm_sums(group: TensorGroup, sparse: Sparse, rows: bool = False) -> Tensor:
    """The L1 norm of each input in this tensor, and of what `sparse` leaves of it; float64 (2, n)."""
    from torch import stack

    def both(block: Block) -> Tensor:
        before = l1_norms(block.x)
        return stack([before, l1_norms(sparse(block))])

    return group.reduce(both, rows)


def norm_ratio(whole: float, kept: float) -> float:
    """What restores a norm; 1 where nothing is kept."""
    return whole / kept if kept else 1.0


def l1_norms(x: Tensor) -> Tensor:
    """The L1 norm of each x_i, float64 (n,)."""
    from torch import float64, stack

    from mergecore.compute import tree_sum

    return stack([tree_sum(row.reshape(-1).to(float64, copy=True).abs_()) for row in x])
