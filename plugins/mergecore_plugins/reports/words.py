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


def short_names(names: Sequence[str]) -> list[str]:
    """The same names, without the folders of local paths that do not tell them apart: a page may be sent to others."""
    tails = {name: _tails(name) for name in names if name.startswith(("/", "~", ".."))}
    longest = max((len(one) for one in tails.values()), default=0)
    for count in range(longest):
        found = [tails[name][min(count, len(tails[name]) - 1)] if name in tails else name for name in names]
        if len({*found}) == len({*names}):
            return found
    return [*names]


def _tails(path: str) -> list[str]:
    """The last folder of a path, the last two, and so on."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..", "~")] or [path]
    return ["/".join(parts[-count:]) for count in range(1, len(parts) + 1)]
