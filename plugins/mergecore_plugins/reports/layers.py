"""Numbers by layer and role, the picture that most reports have; read `layer_map`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mergecore.types import TensorFacts
from mergecore_plugins.reports.cells import HeatMap, heat_map
from mergecore_plugins.reports.html import figures, paragraph

OUTSIDE = "outside"
"""The row of tensors that belong to no layer."""


MOST_CELLS = 7_000
"""Cells of all pictures of a page at most; what further ones would show is told in a sentence."""


@dataclass(frozen=True, order=True)
class Spot:
    """A cell of the picture: a layer of a stack, and what its tensors do."""

    stack: str
    layer: int
    role: str

    @property
    def row(self) -> str:
        """The layer in words."""
        return OUTSIDE if self.layer < 0 else f"{self.stack}{self.layer}"


def spot(facts: TensorFacts, name: str) -> Spot:
    """Where a tensor stands; its name within the layer where its role is not known."""
    role = facts.role or facts.suffix or name
    return Spot("", -1, role) if facts.stack is None else Spot(facts.stack, facts.layer or 0, role)


@dataclass(frozen=True)
class LayerMap:
    """A picture of layers from top to bottom and roles from left to right.

    values: the numbers; cells that have none are empty.
    sees: what the strong and the faint cells mean, as the end of a sentence.
    shown: how a number is written; rows whose numbers are written alike are joined.
    """

    title: str
    values: Mapping[Spot, float]
    sees: str
    shown: Callable[[float], str] = field(default=lambda value: f"{value:.3g}")
    low: float | None = None
    high: float | None = None


def layer_map(wanted: LayerMap) -> str:
    """The picture, a sentence that is made of its numbers, and a table."""
    values = wanted.values
    columns = _joined_columns(wanted)
    short = _short_names(values)
    lines = [
        (spot, [_of_any(values, spot, each) for each in columns])
        for spot in dict.fromkeys(Spot(one.stack, one.layer, "") for one in sorted(values, key=_order))
    ]
    rows: list[str] = []
    cells: dict[tuple[str, str], float] = {}
    heads = [_column(each) for each in columns]
    for label, numbers in _joined_rows(lines, wanted.shown, short):
        rows.append(label)
        cells |= {
            (label, head): number for head, number in zip(heads, numbers, strict=True) if number is not None
        }
    sentence = f"{_range(values, wanted.shown, short)}: {wanted.sees}."
    legend = [
        f"{head}: {', '.join(each)}." for head, each in zip(heads, columns, strict=True) if len(each) > 2
    ]
    low, high, shown = wanted.low, wanted.high, wanted.shown
    return heat_map(HeatMap(wanted.title, sentence, rows, heads, cells, low, high, shown, "layer", legend))


def _of_any(values: Mapping[Spot, float], row: Spot, roles: Sequence[str]) -> float | None:
    """The number of a cell whose column is several roles, of which all have the same there."""
    found = (values.get(Spot(row.stack, row.layer, role)) for role in roles)
    return next((one for one in found if one is not None), None)


def layer_maps(wanted: Sequence[LayerMap], rest: str) -> list[str]:
    """Pictures, as many as fit into a page of less than a megabyte, and a sentence for each of the others.

    rest: where else the numbers of these can be seen.
    """
    drawn: list[str] = []
    told: list[str] = []
    left = MOST_CELLS
    for one in wanted:
        left -= cells_of(one.values)
        if left >= 0:
            drawn.append(layer_map(one))
        else:
            ends = _range(one.values, one.shown, _short_names(one.values))
            what = f"{one.title}: {ends[0].lower()}{ends[1:]}; not drawn, to keep this page small. {rest}"
            told.append(paragraph(what))
    return [*filter(None, [figures(drawn)]), *told]


def cells_of(values: Mapping[Spot, float]) -> int:
    """How many cells a picture has, before rows and columns are joined."""
    return len({(one.stack, one.layer) for one in values}) * len({one.role for one in values})


def _order(one: Spot) -> tuple[bool, str, int]:
    """Layers first, then what is outside."""
    return one.layer < 0, one.stack, one.layer


def _short_names(values: Iterable[Spot]) -> bool:
    """Whether numbers of layers say all, since there is one stack of them."""
    return len({one.stack for one in values if one.layer >= 0}) < 2


def _joined_columns(wanted: LayerMap) -> list[list[str]]:
    """Roles, those together that have the same numbers in every layer, and no others outside."""
    groups: list[tuple[list[str], dict[tuple[str, int], str], dict[tuple[str, int], str]]] = []
    by_role: dict[str, dict[tuple[str, int], str]] = {}
    for one, value in sorted(wanted.values.items(), key=lambda item: _order(item[0])):
        by_role.setdefault(one.role, {})[one.stack, one.layer] = wanted.shown(value)
    for role, column in by_role.items():
        inside = {key: text for key, text in column.items() if key[1] >= 0}
        outside = {key: text for key, text in column.items() if key[1] < 0}
        for roles, others, beside in groups:
            if others == inside and all(beside.get(key, text) == text for key, text in outside.items()):
                roles.append(role)
                beside |= outside
                break
        else:
            groups.append(([role], inside, outside))
    return [roles for roles, _, _ in groups]


def _column(roles: Sequence[str]) -> str:
    """The roles of a column in words: `attn.q`, `attn.q and mlp.up`, `attn.q and 6 more`."""
    if len(roles) < 3:
        return " and ".join(roles)
    return f"{roles[0]} and {len(roles) - 1} more"


def _joined_rows(
    lines: Sequence[tuple[Spot, list[float | None]]], shown: Callable[[float], str], short: bool
) -> list[tuple[str, list[float | None]]]:
    """Layers, those that follow one another and have the same numbers together."""
    found: list[tuple[Spot, Spot, list[float | None], list[str]]] = []
    for one, numbers in lines:
        texts = ["" if number is None else shown(number) for number in numbers]
        if (
            found
            and found[-1][3] == texts
            and (found[-1][0].stack, one.layer - 1)
            == (
                one.stack,
                found[-1][1].layer,
            )
        ):
            found[-1] = (found[-1][0], one, found[-1][2], texts)
        else:
            found.append((one, one, numbers, texts))
    return [(_span(first, last, short), numbers) for first, last, numbers, _ in found]


def _span(first: Spot, last: Spot, short: bool) -> str:
    name = str(first.layer) if short and first.layer >= 0 else first.row
    return name if first.layer == last.layer else f"{name}–{last.layer}"


def _range(values: Mapping[Spot, float], shown: Callable[[float], str], short: bool) -> str:
    """The smallest and the largest number, and where they are."""
    if not values:
        return "There is nothing to see"
    least, most = min(values, key=lambda one: values[one]), max(values, key=lambda one: values[one])
    if len({shown(one) for one in values.values()}) == 1:
        return f"It is {shown(values[most])} everywhere"
    ends = [f"{shown(values[one])} ({_words(one, short)})" for one in (least, most)]
    return f"From {ends[0]} to {ends[1]}"


def _words(one: Spot, short: bool) -> str:
    if one.layer < 0:
        return f"{one.role}, outside the layers"
    return f"{one.role} in layer {one.layer}" if short else f"{one.role} in {one.row}"
