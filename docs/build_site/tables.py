"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def cell(text: str) -> str:
    """Text that neither ends the cell nor means anything to Markdown."""
    return " ".join(escaped(text).split())


def escaped(text: str) -> str:
    for sign in ("\\", "|", "*", "_", "<", "[", "`"):
        text = text.replace(sign, f"\\{sign}")
    return text


def prose(text: str) -> str:
    """The same for text in which code stands between backticks."""
    parts = " ".join(text.split()).split("`")
    return "".join(code(part) if place % 2 else escaped(part) for place, part in enumerate(parts))


def code(text: str) -> str:
    """Text as it is typed, in a cell."""
    return "`" + text.replace("|", "\\|") + "`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a line of names above it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
