"""Parameters for checks: the defaults, and others drawn from what a method declares; read `default_params`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from pydantic import ValidationError

from mergecore.config.parameters.declared import Parameter, parameters_of
from mergecore.errors import MergecoreError
from mergecore.types import Json, MergeMethod
from mergecore.types.params import Params, for_inputs


def default_params(method: MergeMethod[Any], n: int) -> Params:
    """Parameters that a plan would accept: the defaults, and plain values of what has none.

    Raises:
        ValueError: when none are found.
    """
    random = Random(0)  # noqa: S311 - nothing is secret here
    plain = {word: _plain(one, n) for word, one in parameters_of(method.params).items() if one.required}
    tried = [plain, *(_drawn(method, n, random, least=trial < 50) for trial in range(200))]
    for written in tried:
        made = accepted(method, written, n)
        if made is not None:
            return made
    raise ValueError(f"no parameters of '{method.name}' are found that it accepts; give some by `params`")


def drawn_params(method: MergeMethod[Any], n: int, count: int, seed: int = 0) -> Iterator[Params]:
    """Up to `count` parameters that a plan would accept, from all over their ranges."""
    random = Random(seed)  # noqa: S311 - nothing is secret here
    for _ in range(count):
        made = accepted(method, _drawn(method, n, random), n)
        if made is not None:
            yield made


def extreme_params(method: MergeMethod[Any], n: int) -> Iterator[Params]:
    """For each parameter the ends of its range, 0, or each of its choices; the others are as they are by default.

    A parameter of models has such a value for all of them, and for each of them alone.
    """
    usual = for_inputs(default_params(method, n), n)
    plain = {field: getattr(usual, field) for field in type(usual).model_fields}
    for parameter in parameters_of(method.params).values():
        for value in _edges(parameter):
            for row in _rows(plain[parameter.field], value) if parameter.per_model else [value]:
                made = accepted(method, {**plain, parameter.field: row}, n)
                if made is not None:
                    yield made


def _edges(parameter: Parameter) -> list[Json]:
    """The ends of the range of a parameter, and 0 where it is a number that may be 0; or its choices."""
    schema = parameter.adapter.json_schema()
    kinds = {one.get("type") for one in schema.get("anyOf", [schema])}
    zero = [0] if kinds & {"number", "integer"} and _fits(parameter, 0) else []
    ends = _ends(schema)
    return [*ends, *(one for one in zero if one not in ends)]


def _rows(now: Sequence[object], value: Json) -> Iterator[tuple[object, ...]]:
    """The values of models, where all have `value`, and where one has it."""
    yield (value,) * len(now)
    if len(now) > 1:
        yield from (tuple(value if j == i else one for j, one in enumerate(now)) for i in range(len(now)))


def _ends(schema: Mapping[str, Any]) -> list[Json]:
    """The values at which a range ends, and all choices of a few."""
    if "anyOf" in schema:
        return [value for one in schema["anyOf"] for value in _ends(one)]
    if "enum" in schema or "const" in schema:
        return list(schema.get("enum") or [schema["const"]])
    if schema.get("type") == "boolean":
        return [False, True]
    return [schema[end] for end in ("minimum", "maximum") if end in schema]


def values_of(parameter: Parameter) -> Iterator[Json]:
    """Values of a parameter that are as different as its type allows, each once; only its own for a text."""
    schema = parameter.adapter.json_schema()
    found: list[Json] = []
    for value in (*_ends(schema), *_spread(schema)):
        if value not in found and _fits(parameter, value):
            found.append(value)
            yield value


def _spread(schema: Mapping[str, Any]) -> Iterator[Json]:
    """Small and large numbers, of both signs."""
    for one in schema.get("anyOf", [schema]):
        low, high = _range(one)
        if one.get("type") == "number":
            yield from (
                0.5,
                (low + high) / 2,
                low + (high - low) / 8,
                0.0,
                1.0,
                0.01,
                1e-6,
                3.0,
                100.0,
                1e6,
                -1.0,
            )
        elif one.get("type") == "integer":
            yield from (1, 0, 2, 3, 5, 10, 100, 1000, -1)


def _fits(parameter: Parameter, value: Json) -> bool:
    try:
        parameter.convert(value)
    except MergecoreError:
        return False
    return True


def accepted(method: MergeMethod[Any], written: Mapping[str, Any], n: int) -> Params | None:
    """The parameters as a plan has them; None where it would refuse them."""
    try:
        made: Params = method.params.model_validate(written)
        if method.check_params:
            method.check_params(made, n)
    except (ValidationError, MergecoreError):
        return None
    return made


def _plain(parameter: Parameter, n: int) -> object:
    value = _middle(parameter.adapter.json_schema())
    return (value,) * n if parameter.per_model else value


def _middle(schema: Mapping[str, Any]) -> Json:
    """A value that is as ordinary as can be: a half, or else the middle of a range."""
    if "anyOf" in schema:
        return _middle(schema["anyOf"][0])
    if "enum" in schema or "const" in schema:
        first: Json = (schema.get("enum") or [schema["const"]])[0]
        return first
    low, high = _range(schema)
    if schema.get("type") == "number":
        return 0.5 if low < 0.5 < high else (low + high) / 2
    if schema.get("type") == "integer":
        return int(max(low, 1)) if high >= 1 else int(high)
    return {"boolean": True, "null": None}.get(str(schema.get("type")), "a")


def _drawn(method: MergeMethod[Any], n: int, random: Random, least: bool = False) -> dict[str, Any]:
    """Values for what is required and for about half of the rest, each within its range."""
    written: dict[str, Any] = {}
    for word, parameter in parameters_of(method.params).items():
        if parameter.required or (not least and random.random() < 0.5):
            schema = parameter.adapter.json_schema()
            values = tuple(_value(schema, random) for _ in range(n))
            written[word] = values if parameter.per_model else values[0]
    return written


def _value(schema: Mapping[str, Any], random: Random) -> Json:
    """A value of a declared type."""
    if "anyOf" in schema:
        return _value(random.choice(schema["anyOf"]), random)
    if "enum" in schema or "const" in schema:
        choices: list[Json] = list(schema.get("enum") or [schema["const"]])
        return random.choice(choices)
    low, high = _range(schema)
    if schema.get("type") == "number":
        ends = [low, high] if "minimum" in schema and "maximum" in schema else []
        if random.random() < 0.3:
            return random.choice(
                [*ends, *(one for one in (0.0, 0.25, 0.5, 1.0) if low < one < high), (low + high) / 2]
            )
        return random.uniform(low, high)
    if schema.get("type") == "integer":
        return random.randint(int(max(low, 0)), int(max(high, low, 3)))
    plain: dict[str, Json] = {"boolean": random.random() < 0.5, "null": None}
    return plain.get(str(schema.get("type")), "a")


def _range(schema: Mapping[str, Any]) -> tuple[float, float]:
    """The least and the largest number, a little inside where the ends are excluded."""
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    first = float(low) if low is not None else min(-2.0, float(high) - 4 if high is not None else -2.0)
    last = float(high) if high is not None else max(2.0, first + 4)
    margin = (last - first) * 1e-3
    return (
        first + margin * ("exclusiveMinimum" in schema),
        last - margin * ("exclusiveMaximum" in schema),
    )
