"""Checks of merge methods; read `check_method`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from mergecore.testing.findings import Property, hold
from mergecore.testing.methods.cases import MethodCase
from mergecore.testing.methods.influence import INFLUENCE
from mergecore.testing.methods.merging import MERGING
from mergecore.testing.methods.numbers import NUMBERS
from mergecore.testing.methods.promises import PROMISES
from mergecore.testing.methods.purity import PURITY
from mergecore.types import MergeMethod
from mergecore.types.params import Params

METHOD: Sequence[Property[MethodCase]] = (
    *PROMISES[:3],
    *NUMBERS,
    *PURITY,
    *INFLUENCE,
    *PROMISES[3:],
    *MERGING,
)
"""What every method keeps."""


def check_method(
    method: MergeMethod[Any],
    params: Params | None = None,
    n: int | None = None,
    *,
    without: Collection[str] = (),
) -> None:
    """Check on random tensors of many shapes and formats, and on edge cases, what every method must keep.

    The result has the shape of the inputs, is finite, and the same on every run, in every process, in every order of
    the blocks, with any number of threads and however tensors are cut into blocks; odd numbers may be refused with a
    `MergeError`.  Inputs are not written to, nothing is kept from tensor to tensor, float64 is computed in float64.
    Every model changes the result, and so does every parameter, which works in all of its range.  What the method
    says of itself is so: `models`, `result_by`, `keeps`, `needs_whole_tensors`, `extra_memory`, what it does and what
    its parameters mean.

    params: its parameters; None for the defaults, and plain values of those without one.
    n: the number of tensors beside the base; None for three, or as near to it as the method allows.
    without: names of properties that are not checked; `mergecore plugins test NAME` lists them.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    hold(f"merge method '{method.name}'", METHOD, MethodCase.of(method, params, n), without)
