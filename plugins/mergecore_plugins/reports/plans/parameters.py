"""The parameters of a plan: which are the same everywhere, and pictures of those that are not; read `parameters`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mergecore.types import Step
from mergecore_plugins.reports.html import data_table, paragraph
from mergecore_plugins.reports.layers import LayerMap, Spot, layer_maps
from mergecore_plugins.reports.plans.places import Places

ALL = ""
"""The model of a parameter that is not one of a model."""
Value: TypeAlias = object


@dataclass
class Series:
    """A parameter of a method, perhaps for one model: its values by tensor."""

    method: str
    name: str
    model: str
    values: dict[tuple[Spot, str], Value] = field(default_factory=dict)
    """By cell, and by the tensor's name within its layer."""

    @property
    def distinct(self) -> list[Value]:
        """Its different values, in the order of the plan."""
        return [*{repr(one): one for one in self.values.values()}.values()]

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(one, (int, float)) for one in self.values.values())

    def by_spot(self) -> dict[Spot, float]:
        """Numbers by cell; tensors of one role that differ get cells of their own."""
        rough: dict[Spot, set[float]] = {}
        for (place, _), value in self.values.items():
            rough.setdefault(place, set()).add(_number(value))
        mixed = {place.role for place, each in rough.items() if len(each) > 1}
        found: dict[Spot, float] = {}
        for (place, suffix), value in self.values.items():
            role = suffix if place.role in mixed else place.role
            found[Spot(place.stack, place.layer, role)] = _number(value)
        return found

    def by_layer(self) -> dict[tuple[str, int], float] | None:
        """Numbers by layer, where they do not depend on the role."""
        found: dict[tuple[str, int], float] = {}
        for (place, _), value in self.values.items():
            if found.setdefault((place.stack, place.layer), _number(value)) != _number(value):
                return None
        return found


def parameters(places: Places) -> list[str]:
    """Tables and pictures of all parameters of the methods of a plan."""
    found = _series(places)
    if not found:
        return [
            paragraph(
                "No tensor is made by a method with parameters: all are copied, or there is nothing to set."
            )
        ]
    rows = [
        [one.method, one.name, one.model or "all together", _values_text(one), str(len(one.values))]
        for one in found
    ]
    body = [data_table(["method", "parameter", "of", "value", "tensors"], rows)]
    names = dict.fromkeys((one.method, one.name) for one in found)
    wanted: list[LayerMap] = []
    for method, name in names:
        each = [one for one in found if (one.method, one.name) == (method, name)]
        if not all(one.numeric for one in each) or isinstance(each[0].distinct[0], bool):
            continue
        if all(len(one.distinct) == 1 for one in each):
            continue  # the table says it
        several = len({one.method for one in found}) > 1
        wanted += _maps(f"{name} ({method})" if several else name, each)
    if not wanted:
        return [*body, paragraph("Nothing depends on layer or role: the table says all.")]
    return [*body, *layer_maps(wanted, "`mergecore plan CFG --tensor NAME` shows it.")]


def _series(places: Places) -> list[Series]:
    found: dict[tuple[str, str, str], Series] = {}
    for step in places.plan.steps:
        if step.method is None or step.params is None:
            continue
        for name, model, value in _values(places, step):
            key = (step.method, name, model)
            one = found.setdefault(key, Series(*key))
            for output in step.outputs:
                one.values[places.spot(step, output.name), places.suffix(output.name)] = value
    return [*found.values()]


def _values(places: Places, step: Step) -> Iterable[tuple[str, str, Value]]:
    """Name, model and value of each parameter of a step."""
    assert step.params is not None
    for name, value in step.params.model_dump(by_alias=True).items():
        if isinstance(value, tuple) and len(value) == len(step.inputs):
            models = _names([places.names[one.model] for one in step.inputs])
            yield from ((name, model, one) for model, one in zip(models, value, strict=True))
        else:
            yield name, ALL, value


def _names(models: Sequence[str]) -> list[str]:
    """Names of inputs; where a model is there several times, with its number."""
    return [
        f"{one} ({models[: i + 1].count(one)})" if models.count(one) > 1 else one
        for i, one in enumerate(models)
    ]


def _maps(name: str, each: Sequence[Series]) -> list[LayerMap]:
    """Models side by side where roles do not matter, else a picture for each."""
    every = [value for one in each for value in one.by_spot().values()]
    low, high = min(0.0, *every), max(every)
    plain = [(one, one.by_layer()) for one in each]
    if all(values is not None for _, values in plain):
        values = {
            Spot(stack, layer, one.model or name): value
            for one, by_layer in plain
            for (stack, layer), value in (by_layer or {}).items()
        }
        sees = "a layer in each row, and all its tensors have the same" if len(each) == 1 else _SEES_MODELS
        return [LayerMap(f"{name} by layer", values, sees, _shown, low, high)]
    varying = [one for one in each if len(one.distinct) > 1]  # of the others, the table says all
    return [
        LayerMap(f"{name} of {one.model}" if one.model else name, one.by_spot(), _SEES, _shown, low, high)
        for one in varying
    ]


_SEES_MODELS = "the stronger a cell, the larger the value for that model in that layer"
_SEES = "the stronger a cell, the larger the value"


def _number(value: Value) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _shown(value: float) -> str:
    return f"{value:.4g}"


def _values_text(one: Series) -> str:
    """A value, a few of them, or the range of many."""
    distinct = one.distinct
    if one.numeric and len(distinct) > 3:
        numbers = [_number(value) for value in distinct]
        return f"{_shown(min(numbers))} to {_shown(max(numbers))}"
    texts = [value_text(value) for value in distinct[:3]]
    return ", ".join(texts) + (f" and {len(distinct) - 3} more" if len(distinct) > 3 else "")


def value_text(value: Value) -> str:
    """A value as a config would have it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return _shown(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {value_text(each)}" for key, each in value.items())
    if isinstance(value, (tuple, list)):
        return ", ".join(map(value_text, value))
    return str(value)
