"""What a method reads beside the inputs of a step: tensors of any shape, row by row or whole.

Read `ExtraRows`; a step says which matrices, and which of their rows, by `Step.matrices`.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mergecore.files.dtypes import torch_dtype
from mergecore.types import MovedRows, TensorInput
from mergecore.types.steps import BLOCK

if TYPE_CHECKING:
    import numpy.typing as npt

    from mergecore.compute.streams import Inputs


class ExtraRows:
    """The rows of one tensor, along its first axis, in the order that the step asks for."""

    def __init__(self, one: TensorInput, inputs: Inputs) -> None:
        self.shape: tuple[int, ...] = one.shape
        self.dtype = torch_dtype(one.tensor.dtype)
        """That of its numbers."""
        self._data = one.tensor.data
        self._inputs = inputs

    @cached_property
    def known(self) -> npt.NDArray[np.bool_]:
        """For each row, whether any is stored for it; the others are zero, or padding."""
        known = np.ones(self.rows, dtype=np.bool_)
        return self._data.known if isinstance(self._data, MovedRows) else known

    @property
    def rows(self) -> int:
        """How many there are; a single number is one row."""
        return self.shape[0] if self.shape else 1

    def read(self, first: int, stop: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The rows from `first` up to `stop`, (stop - first, *shape[1:])."""
        columns = math.prod(self.shape[1:])
        rows = torch.empty((stop - first, *self.shape[1:]), dtype=dtype)
        step = max(1, BLOCK // max(1, columns))
        for begin in range(first, stop, step):
            end = min(begin + step, stop)
            flat = rows[begin - first : end - first].view(-1)
            self._inputs.load(begin * columns, end * columns, [flat])
        return rows

    def whole(self) -> Tensor:
        """All rows in the dtype that is stored, which the memory has to hold."""
        rows = self.read(0, self.rows, self.dtype)
        self.raise_faults()
        return rows.view(self.shape)

    def raise_faults(self) -> None:
        """Raise E234 for numbers that are not finite among those read so far."""
        self._inputs.raise_faults()
