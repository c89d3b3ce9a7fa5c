"""Names that go away: they still work, and say once at each place that uses them what to write instead."""

from __future__ import annotations

import warnings
from dataclasses import dataclass


@dataclass(frozen=True)
class Deprecated:
    """A name that is still there: what to use in its place, since which version, and in which it goes away."""

    instead: str
    since: str
    removed_in: str


def warn_deprecated(name: str, what: Deprecated, *, stacklevel: int = 3) -> None:
    """Say that `name`, such as `mergecore.old` or `merge(..., old=…)`, goes away.

    stacklevel: that of `warnings.warn`, seen from here; 3 is the caller of the function that calls this one.
    """
    text = (
        f"{name} is deprecated since mergecore {what.since} and goes away in {what.removed_in}; "
        f"use {what.instead}"
    )
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel)
