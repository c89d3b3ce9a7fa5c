"""Texts by the cells that they take on a screen, of which a letter of Chinese or a picture takes two."""

from __future__ import annotations

WIDTH = 80
"""Cells of a line at most."""


def cells(text: str) -> int:
    """How many cells a text takes."""
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)


def filled(text: str, width: int) -> str:
    """A text with blanks behind it, up to so many cells."""
    return text + " " * (width - cells(text))


def ending(text: str, width: int) -> str:
    """A text of so many cells at most: its end, where it takes more."""
    if cells(text) <= width:
        return text
    end = text[-width:]
    while end and (cells(end) > width - 1 or not cells(end[0])):  # a mark belongs to the letter before it
        end = end[1:]
    return f"…{end}"
