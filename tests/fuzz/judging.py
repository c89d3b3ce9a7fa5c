"""Whether a merged tensor is what the reference says, to one rounding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fuzz.reference.arrays import Array, Result, length, tolerance


@dataclass(frozen=True)
class Verdict:
    """How far a tensor is from the reference."""

    worst: float
    """The largest error in units of what is allowed; up to 1 is well."""
    checked: int
    unchecked: int
    """Entries that hang on rounding errors."""
    text: str = ""
    """What is wrong, if anything."""


def judge(merged: Array, result: Result, dtype: str, eps: float, base: Array | None = None) -> Verdict:
    """Compare a merged tensor with the exact result."""
    if merged.shape != result.value.shape:
        return Verdict(np.inf, 0, 0, f"shape {merged.shape} where {result.value.shape} is right")
    allowed = tolerance(result, dtype, eps)
    error = np.abs(merged - result.value)
    if result.other is not None:
        error = np.minimum(error, np.abs(merged - result.other))
    error = np.where(np.isfinite(merged), error, np.inf)
    sure = np.ones(merged.shape, bool) if result.unsure is None else ~result.unsure
    ratio = np.where(sure, error / allowed, 0.0)
    worst = float(ratio.max(initial=0.0))
    text = _told(merged, result, ratio, allowed) if worst > 1 else _too_long(merged, result, dtype, base)
    return Verdict(worst, int(sure.sum()), int((~sure).sum()), text)


def _told(merged: Array, result: Result, ratio: Array, allowed: Array) -> str:
    """The worst entry and how many are wrong."""
    at = np.unravel_index(int(ratio.argmax()), ratio.shape)
    where = tuple(int(i) for i in at)
    other = "" if result.other is None else f" or {result.other[at]!r}"
    return (
        f"{int((ratio > 1).sum())} of {ratio.size} entries are wrong; the worst at {where}: {merged[at]!r} "
        f"where {result.value[at]!r}{other} ± {allowed[at]:.3g} is right"
    )


def _too_long(merged: Array, result: Result, dtype: str, base: Array | None) -> str:
    """What is wrong with the length where nothing else is known."""
    if result.longest is None or result.unsure is None or not result.unsure.any():
        return ""
    found = length((merged if base is None else merged - base) * result.unsure)
    rounding = 2.0**-7 * (length(merged) + (0.0 if base is None else length(base)))
    if (
        found
        <= result.longest * 1.001 + rounding * (dtype in ("BF16", "F16")) + 1e-6 * length(merged) + 1e-30
    ):
        return ""
    return f"the length is {found} where at most {result.longest} is right"
