"""From what is drawn in the grid to the text of the config; read `drawn`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from mergecore import ConfigError
from mergecore.config import values_of
from mergecore.files import DocPath, parse_documents
from mergecore.types import Json
from mergecore_plugins.ui.edits import Edit, remove_parameter, set_parameter
from mergecore_plugins.ui.grid.fitting import Wanted, setting
from mergecore_plugins.ui.grid.shape import Body, Parameter, Shape, Tensor


class Drawing(BaseModel):
    """New values in some cells of the grid.

    model: its number, None for all models.  cells: row, column and value; without any, the parameter is removed, so
    that its default counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    text: str
    shape: Shape
    parameter: str
    model: int | None = None
    cells: Sequence[tuple[int, int, float]]


def drawn(drawing: Drawing) -> Edit:
    """The text with these values, and all others as they were.

    Raises:
        ConfigError: E120 where no setting gives them, or where the text cannot be changed; what is wrong with the text.
    """
    parameter = next((one for one in drawing.shape.parameters if one.name == drawing.parameter), None)
    if parameter is None:
        raise ConfigError("E120", f"there is no parameter '{drawing.parameter}' to draw", hint=_LATER)
    edit = Edit(drawing.text, drawing.text)
    for place in _places(drawing, parameter):
        if drawing.cells:
            edit = edit.then(_changed(edit.after, place, drawing, parameter))
        else:
            edit = edit.then(_removed(edit.after, place, parameter))
    return edit


_LATER = "wait until the grid shows the config as it is now"


@dataclass(frozen=True)
class _Place:
    """Where a parameter is written, and the tensors that it is for there.

    levels: where it may stand for each model of a tensor, the closest first; `owner` is one of them.
    """

    owner: DocPath
    document: int
    tensors: Sequence[tuple[Tensor, int | None, Sequence[DocPath]]]
    """Each with the model, and with where its value is looked for."""
    count: int


def _places(drawing: Drawing, parameter: Parameter) -> Iterator[_Place]:
    """Where what is drawn has to be written."""
    shape = drawing.shape
    number, data = _document(drawing)
    touched = {(row, column) for row, column, _ in drawing.cells}
    models = [drawing.model] if drawing.model is not None else range(len(shape.models))
    found: list[_Place] = []
    for i, body in enumerate(shape.bodies):
        inside = [one for one in shape.tensors if one.body == i]
        if touched and not any((one.row, one.column) in touched for one in inside):
            continue
        for key in models if parameter.per_model else [None]:
            mine = inside if key is None else [one for one in inside if key in one.models]
            if mine and (key is None or key in body.entries):
                levels = _levels(body, key)
                owner = levels[0] if key is not None else _written_at(data, levels, parameter.name)
                found.append(_Place(owner, number, [(one, key, levels) for one in mine], body.count))
    everything = parameter.per_model and drawing.model is None and len(shape.models) > 0
    if everything and not any(_at(data, one.owner, parameter.name) is not None for one in found):
        found = _shared(found, shape)
    yield from _joined(found)


def _shared(found: Sequence[_Place], shape: Shape) -> list[_Place]:
    """What is drawn for all models, and written at none of them, is written for all at once."""
    whole = [one for place in found for one in place.tensors]
    counts = {body.count for body in shape.bodies}
    if len(counts) > 1 or len(shape.bodies) > 1 or not whole:
        return list(found)
    return [_Place(shape.bodies[0].levels[-1][:-1], found[0].document, whole, found[0].count)]


def _joined(found: Sequence[_Place]) -> Iterator[_Place]:
    """Those of one owner as one."""
    owners: dict[DocPath, list[_Place]] = {}
    for one in found:
        owners.setdefault(one.owner, []).append(one)
    for owner, places in owners.items():
        tensors = [one for place in places for one in place.tensors]
        yield _Place(owner, places[0].document, tensors, max(place.count for place in places))


def _levels(body: Body, model: int | None) -> list[DocPath]:
    shared: list[DocPath] = [tuple(path[:-1]) for path in body.levels]
    return shared if model is None else [tuple(body.entries[model]), *shared]


def _written_at(data: Json, levels: Sequence[DocPath], name: str) -> DocPath:
    """The closest level that has the parameter; else the last, which is the top."""
    return next((one for one in levels if _at(data, one, name) is not None), levels[-1])


def _document(drawing: Drawing) -> tuple[int, Json]:
    documents = [dict(one.data) for one in parse_documents(drawing.text)]
    if len(documents) == 1:
        return 0, documents[0]
    for i, one in enumerate(documents):
        if one.get("name") == drawing.shape.document:
            return i, one
    raise ConfigError("E120", "there is no such document to draw in", hint=_LATER)


def _at(data: Any, owner: DocPath, name: str) -> Json:
    for step in (*owner, "parameters", name):
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    found: Json = data
    return found


# ---- changing ----------------------------------------------------------------------------------------------


def _changed(text: str, place: _Place, drawing: Drawing, parameter: Parameter) -> Edit:
    data = parse_documents(text)[place.document].data
    new = {(row, column): value for row, column, value in drawing.cells}
    wanted = []
    for tensor, model, levels in place.tensors:
        name = tensor.name if model is None else tensor.own.get(model, tensor.name)
        value = new.get((tensor.row, tensor.column))
        if value is None:
            value = _now(data, levels, tensor, name, parameter)
        wanted.append(Wanted(name, tensor.role, tensor.t, value, tensor.inside))
    raw = _at(data, place.owner, parameter.name)
    found = setting(raw, wanted, place.count, whole=parameter.whole)
    return set_parameter(text, parameter.name, found, place.owner, place.document)


def _now(
    data: Any, levels: Sequence[DocPath], tensor: Tensor, name: str, parameter: Parameter
) -> float | None:
    """The value that a tensor has at present, looked for as a merge does."""
    for owner in levels:
        raw = _at(data, owner, parameter.name)
        if raw is not None:
            [value] = values_of(raw, parameter.name, [(name, tensor.role, tensor.t)])
            if value is not None:
                return float(str(value)) if not isinstance(value, int | float) else float(value)
    return parameter.default


def _removed(text: str, place: _Place, parameter: Parameter) -> Edit:
    data = parse_documents(text)[place.document].data
    if _at(data, place.owner, parameter.name) is None:
        return Edit(text, text)
    return remove_parameter(text, parameter.name, place.owner, place.document)
