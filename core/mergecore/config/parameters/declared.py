"""What a plugin declares of its parameters: what follows from that.

A method subclasses `Params`.  The rest reads such a class: `parameters_of` gives one `Parameter` for each
field, which converts what users write and says what it expects.
"""

from __future__ import annotations

import re
import types
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import annotated_types
from pydantic import (
    ConfigDict,
    TypeAdapter,
    ValidationError,
)
from pydantic.fields import FieldInfo

from mergecore.errors import ConfigError
from mergecore.types import Json
from mergecore.types.params import _PER_MODEL, _SIZE, Params

__all__ = [
    "Parameter",
    "ParameterRow",
    "counts_as",
    "describe_params",
    "parameters_of",
    "setting_schema",
    "shown",
    "value_schema",
]


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: `field` is its attribute, `name` is what users write."""

    field: str
    name: str
    per_model: bool
    required: bool
    default: object
    help: str
    type: object
    adapter: TypeAdapter[object]
    deprecated: bool = False
    """Whether its declaration says so: configs may have it, and it need not change anything."""

    @property
    def expected(self) -> str:
        """What may be written, such as `a number from 0 to 1`."""
        return _expected(self.type)

    def convert(self, value: object) -> object:
        """`value` as the declared type.

        Raises:
            ConfigError: E104 for another type, E105 for a value that is not allowed; without a place.
        """
        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            raise self._fault(value, error) from None

    def convert_all(self, value: object) -> object:
        """`value` as the declared type, or each of its items where there is one for each model."""
        if self.per_model and isinstance(value, list):
            return tuple(self.convert(one) for one in value)
        return self.convert(value)

    def _fault(self, value: object, error: ValidationError) -> ConfigError:
        kinds = {detail["type"] for detail in error.errors()} - {"none_required"}
        what = f"parameter '{self.name}' is {shown(value)}"
        if "finite_number" in kinds:
            return ConfigError("E105", f"{what}; a finite number is expected")
        if kinds & {"value_error", "assertion_error"}:
            return ConfigError("E105", f"{what}: {error.errors()[0]['msg']}")
        code = "E105" if kinds <= _VALUE_ERRORS else "E104"
        return ConfigError(code, f"{what}; {self.expected} is expected", hint=_spelling(value))


def _spelling(value: object) -> str | None:
    """How to write a number that has the comma, the minus sign, the share or the unit of a text."""
    text = value.strip() if isinstance(value, str) else ""
    plain = text.translate({ord(sign): "-" for sign in "\u2010\u2011\u2012\u2013\u2014\u2212"})
    point = plain.replace(",", ".", 1)
    if (share := _share(point)) is not None:
        return f"write {share:.12g}"
    try:
        float(point)
    except ValueError:
        return None
    why = "decimals take a point" if "," in text else "the minus sign is that of the keyboard"
    return f"write {point}: {why}"


def _share(text: str) -> float | None:
    """What a text such as `50 %`, `50 percent` or `1/2` stands for; None for other texts."""
    match = _SHARE.fullmatch(unicodedata.normalize("NFKC", text).replace("\u2044", "/").casefold())
    if match is None:
        return None
    over = float(match["over"] or 100)
    return float(match["number"]) / over if over else None


_SHARE = re.compile(r"(?P<number>[+-]?(\d+(\.\d*)?|\.\d+))\s*(%|percent|per cent|/\s*(?P<over>\d+(\.\d*)?))")


_VALUE_ERRORS = {
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "multiple_of",
    "literal_error",
    "enum",
    "string_too_short",
    "string_too_long",
    "string_pattern_mismatch",
}


def parameters_of(params: type[Params]) -> dict[str, Parameter]:
    """The parameters that `params` declares, by the names users write."""
    found = (_parameter(field, info) for field, info in params.model_fields.items())
    return {parameter.name: parameter for parameter in found}


@dataclass(frozen=True)
class ParameterRow:
    """A parameter in words, for a table."""

    name: str
    type: str
    default: str
    range: str
    scope: str
    """`per model` or `shared`."""
    help: str


def describe_params(params: type[Params]) -> list[ParameterRow]:
    """The parameters of a plugin in words, in the order of their declaration."""
    return [
        ParameterRow(
            name=parameter.name,
            type=_type_name(parameter.type),
            default="required" if parameter.required else _yaml(parameter.default),
            range=_interval(_bounds(parameter.type)),
            scope="per model" if parameter.per_model else "shared",
            help=parameter.help,
        )
        for parameter in parameters_of(params).values()
    ]


def counts_as(parameter: Parameter, written: object, value: object) -> ConfigError | None:
    """What to say about `true` or about a text where a number is expected, which it then is; without a place."""
    if type(value) not in (int, float) or not isinstance(written, (bool, str)):
        return None
    if _SIZE in _alternatives(parameter.type):
        return None
    kind = "the text " if isinstance(written, str) else ""
    what = f"parameter '{parameter.name}' is {kind}{shown(written)}, which counts as {value:g}"
    return ConfigError("E104", what, hint=f"write {value:g}")


def value_schema(parameter: Parameter) -> dict[str, Json]:
    """The JSON schema of a parameter that has one value."""
    schema = cast("dict[str, Json]", parameter.adapter.json_schema())
    return {**schema, **_said(parameter)}


def setting_schema(parameter: Parameter) -> dict[str, Json]:
    """The JSON schema of what may be written for a parameter: a value, a gradient, or cases with filters."""
    value = cast("dict[str, Json]", parameter.adapter.json_schema())
    gradient: dict[str, Json] = {"type": "array", "items": value}
    case: dict[str, Json] = {
        "type": "object",
        "properties": {
            "filter": {"type": ["string", "null"], "description": "the tensors that it is for"},
            "value": {"anyOf": [value, gradient], "description": "the value for them, or a gradient"},
        },
        "required": ["value"],
        "additionalProperties": False,
    }
    schema: dict[str, Json] = {"anyOf": [value, gradient, case, {"type": "array", "items": case}]}
    return {**schema, **_said(parameter)}


def _said(parameter: Parameter) -> dict[str, Json]:
    """What a schema says of a parameter beside its values."""
    return ({"description": parameter.help} if parameter.help else {}) | (
        {"deprecated": True} if parameter.deprecated else {}
    )


def shown(value: object) -> str:
    """A value as a user wrote it, shortened."""
    text = _yaml(value) if isinstance(value, (bool, int, float)) or value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _yaml(value: object) -> str:
    return (
        {True: "true", False: "false"}[value]
        if isinstance(value, bool)
        else "none"
        if value is None
        else f"{value}"
    )


# ---- declarations ------------------------------------------------------------------------------------------


def _parameter(field: str, info: FieldInfo) -> Parameter:
    per_model = _PER_MODEL in info.metadata
    declared: Any = info.annotation
    hint: Any = declared
    if per_model:
        hint = get_args(declared)[0]
    elif info.metadata:
        hint = Annotated[(declared, *info.metadata)]
    required = info.is_required()
    default = None if required else info.get_default(call_default_factory=True)
    if per_model and isinstance(default, tuple):
        default = default[0]
    alias = info.validation_alias if isinstance(info.validation_alias, str) else info.alias
    config = ConfigDict(allow_inf_nan=False)
    adapter: TypeAdapter[object] = TypeAdapter(hint, config=config)
    said = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return Parameter(
        field,
        alias or field,
        per_model,
        required,
        default,
        info.description or "",
        hint,
        adapter,
        deprecated=bool(info.deprecated or said.get("deprecated")),
    )


# ---- types in words ----------------------------------------------------------------------------------------

_WORDS: Mapping[object, tuple[str, str]] = {
    float: ("number", "a number"),
    int: ("whole number", "a whole number"),
    bool: ("true or false", "true or false"),
    str: ("text", "text"),
    Path: ("path", "a path"),
    _SIZE: ("size", "a size such as 5GB"),
    type(None): ("none", "nothing"),
}


def _alternatives(hint: object) -> list[object]:
    """The members of a union, or the type itself; bounds taken off."""
    if get_origin(hint) is Annotated and _SIZE in get_args(hint):
        return [_SIZE]
    if get_origin(hint) is Annotated:
        return _alternatives(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [member for part in get_args(hint) for member in _alternatives(part)]
    return [hint]


def _type_name(hint: object) -> str:
    return " or ".join(_word(member, 0) for member in _alternatives(hint))


def _expected(hint: object) -> str:
    members = [member for member in _alternatives(hint) if member is not type(None)]
    text = " or ".join(_word(member, 1) for member in members)
    bounds = _bounds(hint)
    if bounds.keys() == {"ge", "le"}:
        return f"{text} from {bounds['ge']} to {bounds['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " ".join([text, " and ".join(f"{words[key]} {bound}" for key, bound in bounds.items())]).strip()


def _word(member: object, form: int) -> str:
    if get_origin(member) is Literal:
        return " or ".join(f"'{choice}'" for choice in get_args(member))
    if get_origin(member) is tuple and get_args(member)[1:] == (...,):
        return f"{('list of ', 'a list of ')[form]}{_word(get_args(member)[0], 0)}s"
    known = _WORDS.get(member)
    return known[form] if known else getattr(member, "__name__", str(member))


def _bounds(hint: object) -> dict[str, object]:
    """The bounds anywhere in a type, by their short names."""
    found: dict[str, object] = {}
    for part in get_args(hint) if get_origin(hint) in (Annotated, Union, types.UnionType) else ():
        found |= _bounds(part)
        marks: Sequence[object] = part.metadata if isinstance(part, FieldInfo) else [part]
        for mark in marks:
            for kind, key in _BOUNDS.items():
                if isinstance(mark, kind):
                    found[key] = getattr(mark, key)
    return found


_BOUNDS: Mapping[type, str] = {
    annotated_types.Ge: "ge",
    annotated_types.Gt: "gt",
    annotated_types.Le: "le",
    annotated_types.Lt: "lt",
}


def _interval(bounds: Mapping[str, object]) -> str:
    if not bounds:
        return ""
    low = f"[{bounds['ge']}" if "ge" in bounds else f"({bounds.get('gt', '-∞')}"
    high = f"{bounds['le']}]" if "le" in bounds else f"{bounds.get('lt', '∞')})"
    return f"{low}, {high}"
