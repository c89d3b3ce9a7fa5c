"""From a plan to what the grid shows: exactly the parameters that the merge will use; read `facts`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mergecore import MergecoreError, MergeMethod, Plan, Registry
from mergecore.cli import method_as_json
from mergecore.config import exists_below, parse_reference
from mergecore.types import Description, Json, Step
from mergecore_plugins.ui.grid.shape import KINDS, Body, Facts, Parameter, Row, Shape, Tensor, Value, family

OTHER = "other"
MANY = 20_000
"""A plan of more tensors is shown by the first and the last of those that differ in a number only."""


def facts(plan: Plan, registry: Registry) -> Json:
    """What the grid shows; None where nothing has a number for each layer or model."""
    steps = [step for step in plan.steps if step.method and step.params is not None]
    methods = {step.method for step in steps}
    if not steps or len(methods) > 1 or "merge_method" not in plan.document:
        return None
    try:
        parameters = _parameters(str(plan.document["merge_method"]), registry)
    except MergecoreError:
        return None  # a method that was made for this plan alone
    if not parameters:
        return None
    found = _Reader(plan, _sampled(steps))
    shape = found.shape(str(steps[0].method), parameters)
    values = {one.name: found.values(one, shape) for one in parameters}
    made: Json = Facts(shape=shape, values=values).model_dump(mode="json")
    return made


def _parameters(method: str, registry: Registry) -> list[Parameter]:
    """Those that are numbers, as `mergecore methods show --json` says them."""
    said: Any = method_as_json(registry.get(MergeMethod, method))
    found = []
    for one in said["parameters"]:
        kinds = set(str(one["type"]).split(" or ")) - {"none"}
        if not kinds or kinds - {"number", "whole number"}:
            continue
        bounds = [_number(text) for text in str(one["range"]).strip("[]()").split(",")] or [None]
        found.append(
            Parameter(
                name=one["name"],
                per_model=one["scope"] == "per model",
                low=bounds[0],
                high=bounds[-1],
                whole="number" not in kinds,
                default=_number(str(one["default"])),
                help=one["help"],
            )
        )
    return found


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e300 else None


def _sampled(steps: Sequence[Step]) -> Sequence[Step]:
    if len(steps) <= MANY:
        return steps
    groups: dict[tuple[int, str], list[Step]] = {}
    for step in steps:
        layer = step.depth.index if step.depth else -1
        groups.setdefault((layer, re.sub(r"\d+", "N", step.name)), []).append(step)
    return [
        step
        for group in groups.values()
        for step in (group[:1] if len(group) == 1 else [group[0], group[-1]])
    ]


class _Reader:
    """Places each step in the grid, and its inputs among the entries of the config."""

    def __init__(self, plan: Plan, steps: Sequence[Step]) -> None:
        self.plan = plan
        self.steps = steps
        self.description: Description = plan.descriptions[plan.primary]
        self.sections = self._sections()
        self.bodies = _Bodies(plan)
        self.rows: dict[tuple[int, int, int], None] = {}
        self.columns: dict[str, None] = {}
        self.models: dict[tuple[str, int], int] = {}

    def shape(self, method: str, parameters: Sequence[Parameter]) -> Shape:
        """Everything but the values."""
        placed = [(step, self._place(step), _column(step.role)) for step in self.steps]
        rows = sorted({place for _, place, _ in placed})
        columns = sorted({column for _, _, column in placed}, key=_rank)
        tensors = [
            self._tensor(step, rows.index(place), columns.index(column)) for step, place, column in placed
        ]
        several = len({place[0] for place in rows}) > 1
        return Shape(
            method=method,
            document=_title(self.plan.document.get("name")),
            rows=[
                Row(label=_label(place), section=self.sections[place[0]] if several else "") for place in rows
            ],
            columns=columns,
            models=_names(self.models),
            parameters=parameters,
            bodies=self.bodies.found,
            tensors=tensors,
        )

    def values(self, parameter: Parameter, shape: Shape) -> list[list[list[Value]]]:
        """The values of a parameter: for each model, or once for all."""
        count = len(shape.models) if parameter.per_model else 1
        sets: list[list[list[set[float] | None]]] = [
            [[None for _ in shape.columns] for _ in shape.rows] for _ in range(count)
        ]
        for step, tensor in zip(self.steps, shape.tensors, strict=True):
            found = _field(step, parameter.name)
            row = tensor.row
            pairs = (
                zip(tensor.models, _each(found, tensor), strict=True) if parameter.per_model else [(0, found)]
            )
            for number, value in pairs:
                if number >= 0:
                    cell = sets[number][row][tensor.column] = sets[number][row][tensor.column] or set()
                    cell |= set() if value is None else {float(value)}
        return [[[_shown(cell) for cell in row] for row in one] for one in sets]

    # ---- places --------------------------------------------------------------------------------------------

    def _sections(self) -> list[str]:
        """What there are layers of, in order; the last is what belongs to none."""
        if self.description.modules:
            return [*(one.name for one in self.description.modules), ""]
        return [*(one.prefix.rstrip(".") for one in self.description.stacks), ""]

    def _place(self, step: Step) -> tuple[int, int, int]:
        """Section, before or in or after the layers, layer."""
        for stack in self.description.stacks:
            if found := re.match(re.escape(stack.prefix) + r"(\d+)\.", step.name):
                return self._section(step.name, stack.prefix), 1, int(found[1])
        known = self.description.tensors.get(step.name)
        after = known is not None and (known.after or known.ends_module)
        return self._section(step.name, None), 2 if after else 0, 0

    def _section(self, name: str, prefix: str | None) -> int:
        if not self.description.modules:
            prefixes = [one.prefix for one in self.description.stacks]
            main = (
                self.description.main.prefix if self.description.main else prefixes[0] if prefixes else None
            )
            wanted = prefix or main
            return prefixes.index(wanted) if wanted in prefixes else len(prefixes)
        for i, one in enumerate(self.description.modules):
            known = self.description.tensors.get(name)
            if (prefix and one.stack and one.stack.prefix == prefix) or (known and known.module == one.name):
                return i
        return len(self.description.modules)

    def _tensor(self, step: Step, row: int, column: int) -> Tensor:
        known = self.description.tensors.get(step.name)
        after = known is not None and (known.after or known.ends_module)
        number = self.bodies.of(step, after, known.module if known else "", row)
        entries = self.bodies.entries[number]
        taken: dict[str, int] = {}
        models, own = [], {}
        for one in step.inputs:
            name = self.plan.models[one.model].name
            place = taken[name] = taken.get(name, -1) + 1
            paths = entries.get(_same(name), [])
            if place >= len(paths):
                models.append(-1)
                continue
            key = self.models.setdefault((name, place), len(self.models))
            self.bodies.found[number].entries[key] = paths[place]
            models.append(key)
            if one.tensor.name != step.name:
                own[key] = one.tensor.name
        return Tensor(
            name=step.name,
            role=step.role,
            row=row,
            column=column,
            t=step.depth.t if step.depth else 0.0,
            body=number,
            inside=step.depth is not None,
            own=own,
            models=models,
        )


class _Bodies:
    """The models, slices and modules of a config, and which of them a tensor belongs to."""

    def __init__(self, plan: Plan) -> None:
        self.description = plan.descriptions[plan.primary]
        self.found: list[Body] = []
        self.entries: list[dict[str, list[tuple[str | int, ...]]]] = []
        self.firsts: dict[str, list[int]] = {}
        """By module, its bodies: one for models, and for slices each of them."""
        document = plan.document
        modules = document.get("modules")
        for key, module in modules.items() if isinstance(modules, dict) else ():
            known = self.description.module(str(key))
            self._add(
                known.name if known else str(key), module, ("modules", key), (("modules", key, "parameters"),)
            )
        if not modules:
            self._add("", document, (), ())
        self._slice: dict[str, int] = {}
        self._layer: dict[str, int] = {}

    def _add(self, module: str, part: Any, path: tuple[str | int, ...], levels: Sequence[Any]) -> None:
        levels = (*levels, ("parameters",))
        if part.get("models"):
            self._body(module, part["models"], (*path, "models"), levels)
        for k, one in enumerate(part.get("slices") or ()):
            where = (*path, "slices", k)
            self._body(module, one["sources"], (*where, "sources"), ((*where, "parameters"), *levels))

    def _body(self, module: str, parts: Any, path: tuple[str | int, ...], levels: Sequence[Any]) -> None:
        entries: dict[str, list[tuple[str | int, ...]]] = {}
        for i, one in enumerate(parts):
            entries.setdefault(_same(parse_reference(one["model"], exists_below(Path()))), []).append(
                (*path, i)
            )
        self.firsts.setdefault(module, []).append(len(self.found))
        self.found.append(Body(levels=tuple(levels), entries={}, count=0))
        self.entries.append(entries)

    def of(self, step: Step, after: bool, module: str, row: int) -> int:
        """The number of the body that a step belongs to; steps come in the order of the plan."""
        for one in self.description.modules:
            if one.stack and step.name.startswith(one.stack.prefix):
                module = one.name
        numbers = self.firsts.get(module) or self.firsts.get("") or next(iter(self.firsts.values()))
        if len(numbers) == 1 or step.depth is None:
            number = numbers[-1] if after else numbers[0]
        else:
            if step.depth.index == 0 and self._layer.get(module) != row:
                self._slice[module] = self._slice.get(module, -1) + 1
            self._layer[module] = row
            number = numbers[min(self._slice[module], len(numbers) - 1)]
        if step.depth and not self.found[number].count:
            body = self.found[number]
            self.found[number] = body.model_copy(update={"count": step.depth.count})
        return number


def _title(name: Json) -> str | None:
    return name if isinstance(name, str) else None


def _same(model: object) -> str:
    """One text for all names of a folder."""
    return os.path.realpath(str(model)) if Path(str(model)).is_dir() else str(model)


def _field(step: Step, name: str) -> Any:
    """The value of a parameter by the name that users write."""
    assert step.params is not None
    for field, info in type(step.params).model_fields.items():
        if name in (field, info.alias, info.validation_alias):
            return getattr(step.params, field)
    raise AssertionError(name)


def _each(values: Sequence[Any], tensor: Tensor) -> Sequence[Any]:
    """A value for each model, where there may be one for all."""
    return values if len(values) == len(tensor.models) else [values[0]] * len(tensor.models)


def _shown(values: set[float] | None) -> Value:
    """A number, or two; an empty list where there are tensors, and nothing is set for them."""
    if not values:
        return None if values is None else []
    low, high = min(values), max(values)
    return low if high - low <= 1e-9 * max(1.0, abs(high)) else [low, high]


def _column(role: str) -> str:
    return family(role).rpartition(".")[2] or OTHER


def _rank(column: str) -> tuple[int, str]:
    order = [*KINDS[:5], None, *KINDS[5:], OTHER]
    return (order.index(column) if column in order else order.index(None), column)


def _label(place: tuple[int, int, int]) -> str:
    return ("before", str(place[2]), "after")[place[1]]


def _names(models: Mapping[tuple[str, int], int]) -> list[str]:
    return [name if place == 0 else f"{name} ({place + 1})" for name, place in models]
