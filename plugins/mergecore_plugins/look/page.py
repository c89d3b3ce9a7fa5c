"""The report of a difference: heat maps of layers and roles, and every tensor; read `report`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mergecore.errors import counted
from mergecore_plugins.look.comparing import Comparison, Measured
from mergecore_plugins.look.difference import Difference
from mergecore_plugins.look.pairs import Pair
from mergecore_plugins.look.tables import cosine_text, number_text, percent_text, rows_by_role, table
from mergecore_plugins.reports import LayerMap, Part, Spot, data_table, layer_maps, page, paragraph, spot


@dataclass(frozen=True)
class _Map:
    """What a picture shows: its title, the number of joined tensors, how it is written, and its largest number."""

    title: str
    number: Callable[[Measured], tuple[Pair, ...]]
    value: Callable[[Pair], float | None]
    shown: Callable[[float], str]
    high: float | None = None
    sees: str = ""


def report(found: Difference) -> str:
    """One HTML file about a difference."""
    compared = found.comparison
    title = " and ".join(compared.names[:2]) + (f" beside {compared.names[2]}" if compared.with_base else "")
    heading, *rows = table(rows_by_role(compared), compared.with_base) or [[""]]
    parts = [Part("By role", [data_table(["role", *heading[1:]], rows)])] if rows else []
    parts += (
        [
            Part(
                "By layer and role",
                layer_maps(
                    [_picture(compared, one) for one in _maps(compared)],
                    "The table of tensors has the numbers.",
                ),
            )
        ]
        if rows
        else []
    )
    parts += [Part("Every tensor", [_every(compared)]), Part("Besides the weights", _besides(found))]
    models = [f"{label} is {text}" for label, text in zip(compared.labels, found.models, strict=True)]
    return page(title, [f"{found.kinship.text}.", *models], parts)


def _maps(found: Comparison) -> list[_Map]:
    far = "the stronger a cell, the farther it moved; a faint layer could be left out of a merge"
    if not found.with_base:
        return [
            _Map("How far B moved from A", lambda one: one.pairs, _relative, number_text, None, far),
            _Map(
                "Entries that differ",
                lambda one: one.pairs,
                _changed,
                percent_text,
                1.0,
                "faint cells were hardly trained",
            ),
            _Map(
                "Cosine of the weights",
                lambda one: one.pairs,
                _angle,
                cosine_text,
                1.0,
                "faint cells share little",
            ),
        ]
    fights = "where it is strong, the models pull apart, and a method that resolves signs, such as ties, has work to do"
    return [
        _Map("How far A moved from C", lambda one: one.pairs[:1], _relative, number_text, None, far),
        _Map("How far B moved from C", lambda one: one.pairs[1:], _relative, number_text, None, far),
        _Map(
            "Cosine of the two changes",
            _between,
            _angle,
            cosine_text,
            1.0,
            "strong cells learned the same, faint ones different things",
        ),
        _Map("Changes with opposite signs", _between, _conflict, percent_text, 0.5, fights),
    ]


def _relative(one: Pair) -> float | None:
    return one.relative


def _changed(one: Pair) -> float | None:
    return one.share_changed


def _angle(one: Pair) -> float | None:
    return one.cosine


def _conflict(one: Pair) -> float | None:
    return None if one.same_sign is None else 1 - one.same_sign


def _between(one: Measured) -> tuple[Pair, ...]:
    return (one.between,) if one.between else ()


def _picture(found: Comparison, wanted: _Map) -> LayerMap:
    """Layers from top to bottom, roles from left to right."""
    sums: dict[Spot, Pair] = {}
    for one in found.measured:
        key = spot(one.facts, one.name)
        sums[key] = sum(wanted.number(one), sums.get(key, Pair()))
    values = {key: value for key, one in sums.items() if (value := wanted.value(one)) is not None}
    low = None if wanted.high is None else 0.0
    return LayerMap(wanted.title, values, wanted.sees, wanted.shown, low, wanted.high)


def _every(found: Comparison) -> str:
    if not found.measured:
        return paragraph("No tensor can be compared.")
    labels = ["A from C", "B from C"] if found.with_base else ["B from A"]
    heading = ["tensor", "shape", *labels, "cosine", "same sign"]
    rows = [_cells(one) for one in found.measured]
    return data_table(heading, rows, closed=counted(len(rows), "tensor"))


def _cells(one: Measured) -> Sequence[str]:
    last = one.between or one.pairs[0]
    shape = " × ".join(map(str, one.shape)) or "a number"
    moved = [number_text(pair.relative) for pair in one.pairs]
    return [one.name, shape, *moved, cosine_text(last.cosine), percent_text(last.same_sign)]


def _besides(found: Difference) -> list[str]:
    compared = found.comparison
    lines = [f"Vocabulary: {found.vocabulary}.", f"Chat template: {found.template}."]
    lines += [f"config.json: {key} is {', '.join(map(str, values))}." for key, values in found.config.items()]
    lines += [f"{name} cannot be compared: {why}." for name, why in compared.skipped.items()]
    lines += [f"Only in {model}: {', '.join(names)}." for model, names in compared.only.items() if names]
    return [paragraph(line) for line in lines]
