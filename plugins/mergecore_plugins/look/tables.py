"""What was measured, joined by role and by layer, as rows of text; read `rows_by_role`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mergecore_plugins.evaluation.cells import WIDTH, cells, filled
from mergecore_plugins.look.comparing import Comparison, Measured
from mergecore_plugins.look.pairs import Pair

GROUPS = 12
"""Rows of the table of layers at most; several layers share one where there are more."""


@dataclass(frozen=True)
class Row:
    """Tensors that are looked at together."""

    label: str
    tensors: tuple[Measured, ...]

    @property
    def pairs(self) -> list[Pair]:
        """Their sums, `Measured.pairs`."""
        return [sum(each, Pair()) for each in zip(*(one.pairs for one in self.tensors), strict=True)]

    @property
    def between(self) -> Pair | None:
        """Those of the changes of both to the base."""
        found = [one.between for one in self.tensors if one.between]
        return sum(found, Pair()) if found else None

    @property
    def ranks(self) -> list[float]:
        """The mean effective rank of each change; empty where there are none."""
        found = [one.ranks for one in self.tensors if one.ranks]
        return [sum(each) / len(each) for each in zip(*found, strict=True)]


def rows_by_role(found: Comparison) -> list[Row]:
    """A row for each role, or suffix where that is not known, in the order of the first tensor; all of them last."""
    return [*_grouped(found.measured, role_of), Row("all", found.measured)]


def rows_by_layer(found: Comparison) -> list[Row]:
    """A row for each layer of each stack, or for several together."""
    inside = [one for one in found.measured if one.facts.layer is not None]
    inside.sort(key=lambda one: (one.facts.stack or "", one.facts.layer or 0))
    single = _grouped(inside, lambda one: f"{one.facts.stack}{one.facts.layer}")
    size = -(-len(single) // GROUPS)
    if size < 2:
        return single
    rows = [single[i : i + size] for i in range(0, len(single), size)]
    return [
        Row(_span(part[0].label, part[-1].label), tuple(one for row in part for one in row.tensors))
        for part in rows
    ]


def role_of(one: Measured) -> str:
    """What a tensor does, or its name where that is not known."""
    return one.facts.role or one.facts.suffix or one.name


def _grouped(tensors: Iterable[Measured], label: Callable[[Measured], str]) -> list[Row]:
    groups: dict[str, list[Measured]] = {}
    for one in tensors:
        groups.setdefault(label(one), []).append(one)
    return [Row(name, tuple(members)) for name, members in groups.items()]


def _span(first: str, last: str) -> str:
    if first == last:
        return first
    head, tail = first.rpartition(".")[0], last.rpartition(".")[0]
    return f"{first}-{last.rpartition('.')[2]}" if head == tail else f"{first} … {last}"


def table(rows: Sequence[Row], with_base: bool) -> list[list[str]]:
    """Cells, a heading first; nothing where no row has a tensor."""
    rows = [row for row in rows if row.tensors]
    if not rows:
        return []
    ranked = any(row.ranks for row in rows)
    heading = (
        ["", "tensors", "A moved", "B moved", "changed", "cosine", "same sign"]
        if with_base
        else ["", "tensors", "moved", "changed", "cosine", "same sign"]
    )
    return [[*heading, *(["rank"] if ranked else [])], *(_cells(row, ranked) for row in rows)]


def _cells(row: Row, ranked: bool) -> list[str]:
    pairs, changes = row.pairs, row.between
    moved = [number_text(one.relative) for one in pairs]
    changed = " / ".join(percent_text(one.share_changed) for one in pairs)
    last = changes or pairs[0]
    cells = [
        row.label,
        str(len(row.tensors)),
        *moved,
        changed,
        cosine_text(last.cosine),
        percent_text(last.same_sign),
    ]
    return [*cells, *([" / ".join(f"{one:.1f}" for one in row.ranks)] if ranked else [])]


def number_text(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"


def cosine_text(value: float | None) -> str:
    """Four digits, but near 1 what is missing to it."""
    if value is not None and 0 < 1 - value < 1e-3:
        return f"1-{1 - value:.0e}"
    return "-" if value is None else f"{round(value, 4) + 0.0:.4f}"


def percent_text(value: float | None) -> str:
    """A share in percent."""
    return "-" if value is None else f"{100 * value:.3g} %"


def fitting(table: Sequence[Sequence[str]], width: int = WIDTH) -> list[str]:
    """The lines of a table; of several below each other, all with the first column, where one would be too wide."""
    if not table:
        return []
    widths = [max(cells(row[i]) for row in table) + 2 for i in range(len(table[0]))]
    parts: list[list[int]] = [[0]]
    for column in range(1, len(widths)):
        if len(parts[-1]) > 1 and sum(widths[i] for i in parts[-1]) + widths[column] - 2 > width:
            parts.append([0])
        parts[-1].append(column)
    tables = [aligned([[row[i] for i in part] for row in table]) for part in parts]
    return [line for i, lines in enumerate(tables) for line in (*([""] if i else []), *lines)]


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines: the first column to the left, numbers to the right."""
    widths = [max(cells(row[i]) for row in table) for i in range(len(table[0]))] if table else []
    return [
        "  ".join(
            [
                filled(row[0], widths[0]),
                *(
                    " " * (width - cells(cell)) + cell
                    for cell, width in zip(row[1:], widths[1:], strict=True)
                ),
            ]
        ).rstrip()
        for row in table
    ]
