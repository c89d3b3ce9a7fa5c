"""Words of reports."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, word: str) -> str:
    """`1 tensor`, `2 tensors`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def joined(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else ""


def percent(share: float | None) -> str:
    """A share in percent; nothing where there is none."""
    return "" if share is None else f"{100 * share:.3g} %"
