"""The values of a merge config: what may be written for each, and what is made of it.  Read the types at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
)

from mergecore.config.architecture import ArchitectureFile, parse_architecture, read_architecture
from mergecore.config.chosen import may_name_plugin
from mergecore.config.messages import fault
from mergecore.config.parameters.declared import shown
from mergecore.config.parameters.filters import Filter, parse_filter
from mergecore.config.reference import Exists, exists_below, parse_reference
from mergecore.errors import ConfigError, Problems
from mergecore.files.dtypes import DTYPES, MERGEABLE, parse_dtype
from mergecore.files.yaml_document import Document
from mergecore.types import Json, ModelReference


@dataclass(frozen=True)
class ZeroToken:
    """A new token whose embedding is zero."""


@dataclass(frozen=True)
class OtherToken:
    """A new token that begins as a token of one model: the text or the id is given."""

    model: ModelReference
    token: str | None = None
    token_id: int | None = None


VocabularySource: TypeAlias = str | ModelReference
"""A tokenizer strategy by its name, or a model."""
DtypeCases: TypeAlias = tuple[tuple[Filter, str], ...]
TokenSource: TypeAlias = ModelReference | ZeroToken | OtherToken


def _reference(value: Json, info: ValidationInfo) -> ModelReference:
    context = info.context or {}
    exists: Exists = context.get("exists") or exists_below(Path())
    context.get("named", []).append(value)
    try:
        return _one_name(parse_reference(value, exists), info)
    except ConfigError as error:
        raise fault(error) from None


def _one_name(reference: ModelReference, info: ValidationInfo) -> ModelReference:
    """The reference; the first one to the same folder, where several names lead there."""
    known: dict[object, ModelReference] | None = (info.context or {}).get("known")
    folder = (info.context or {}).get("folder", Path())
    path = folder / reference.path
    if known is None or reference.adapters or reference.revision:
        return reference
    if not exists_below(folder)(reference.path) or not path.is_dir():
        return reference
    return known.setdefault((path.resolve(), reference.architecture), reference)


def _vocabulary_source(value: Json, info: ValidationInfo) -> VocabularySource:
    if isinstance(value, str) and not info.data.get("strategy") and _is_strategy(value, info):
        return value
    reference = _reference(value, info)
    if reference.path.startswith("model:"):
        path = reference.path.removeprefix("model:")
        raise fault(ConfigError("E112", f"'{value}' does not name a model", hint=f"write '{path}'"))
    return reference


def _is_strategy(text: str, info: ValidationInfo) -> bool:
    """Whether a source names a strategy; where the plugins are unknown, a plain word that is not a folder does."""
    context = info.context or {}
    if "strategy" in context:
        return bool(context["strategy"] == text)
    exists: Exists = context.get("exists") or exists_below(Path())
    return may_name_plugin(text) and not text.startswith("model:") and not exists(text)


def _token_source(value: Json, info: ValidationInfo) -> TokenSource | None:
    if value is None:
        return None
    if not isinstance(value, dict) or "kind" not in value:
        return _reference(value, info)
    if value == {"kind": "zero"}:
        return ZeroToken()
    token, token_id = value.get("token"), value.get("token_id")
    right = isinstance(token, str) if token_id is None else token is None and type(token_id) is int
    if value["kind"] != "model_token" or not right or value.keys() - {"kind", "model", "token", "token_id"}:
        what = f"{value} is not a valid token source"
        hint = "write a model, {kind: zero}, or {kind: model_token, model: M, token: T} (or token_id: N)"
        raise fault(ConfigError("E105", what, hint=hint))
    model = _reference(value.get("model"), info)
    return OtherToken(model, cast("str | None", token), cast("int | None", token_id))


def _layer_range(value: Json) -> tuple[int, int]:
    hint = "write [first, end]: layers are counted from 0, and 'end' is the one after the last"
    ends = value if isinstance(value, list) else []
    numbers = [int(str(end)) for end in ends if str(end).removeprefix("-").isdecimal()]
    text = f"[{', '.join(map(str, ends))}]" if isinstance(value, list) else f"'{value}'"
    if len(ends) != 2 or len(numbers) != 2:
        raise fault(ConfigError("E113", f"layer_range {text} is not two whole numbers", hint=hint))
    first, end = numbers
    if not 0 <= first < end:
        raise fault(ConfigError("E113", f"layer_range {text} contains no layers", hint=hint))
    return first, end


def _selectors(value: Json) -> tuple[Filter, ...]:
    texts = value if isinstance(value, list) else [value]
    try:
        found = [parse_filter(text) for text in texts if text is not None]
    except ConfigError as error:
        raise fault(error) from None
    return tuple(one or Filter("*", lambda name, role: True) for one in found)


def _architectures(value: Json) -> tuple[ArchitectureFile, ...]:
    found = []
    for one in value if isinstance(value, list) else [value]:
        try:
            if isinstance(one, dict):
                found.append(parse_architecture(Document("architecture", one)))
            elif isinstance(one, str):
                found.append(read_architecture(Path(one)))
            elif one is not None:
                raise ConfigError(
                    "E104", f"{one!r} is not an architecture", hint="write the path of a YAML file"
                )
        except ConfigError as error:
            raise fault(ConfigError(error.code, str(error))) from None
        except Problems as error:
            raise fault(ConfigError(error.code, "; ".join(map(str, error.errors)))) from None
    return tuple(found)


def not_empty(value: Json) -> Json:
    """The sources of a slice, which are at least one."""
    if value == []:
        raise fault(
            ConfigError("E104", "a slice needs at least one source", hint="write {model, layer_range}")
        )
    return value


def _dtype(word: str) -> str:
    try:
        return parse_dtype(word)
    except ConfigError as error:
        raise fault(error) from None


def _dtypes(value: Json, one: Callable[[Json], str]) -> str | DtypeCases:
    """A dtype for all tensors, or by filter: the first that matches counts."""
    if not isinstance(value, dict):
        return one(value)
    cases = []
    for text, word in value.items():
        (chosen,) = _selectors(text)
        cases.append((chosen, one(word)))
    if not cases:
        what, hint = "dtype is an empty mapping", "write a dtype, or {FILTER: DTYPE, '*': DTYPE}"
        raise fault(ConfigError("E104", what, hint=hint))
    return tuple(cases)


def _token(text: str) -> str:
    if not text:
        raise fault(ConfigError("E105", "a token needs a text", hint="write its text, or leave it out"))
    return text


def _whole(value: Json) -> Json:
    """A number that was not written as one is refused: `true` and `'5'` would count as 1 and 5."""
    if isinstance(value, bool) or (isinstance(value, str) and value.replace("_", "").strip().isdecimal()):
        hint = f"write {value}" if isinstance(value, str) and value.isdecimal() else None
        what = f"{shown(value)} is not a whole number"
        raise fault(ConfigError("E104", what, hint=hint))
    return value


def named(value: object) -> object:
    """A plugin that is chosen by its name alone, as one that may have parameters."""
    return {"name": value} if isinstance(value, str) else value


def _chosen_files(value: dict[str, Any]) -> dict[str, Any]:
    """Side files by name, which were checked; one without a value is made."""
    return {name: True if said is None else said for name, said in value.items()}


_REFERENCE_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "object"}],
    "description": "PATH[@REVISION][+ADAPTER[@REVISION]]…, or {model, adapter, adapters, override_architecture}",
}
_RANGE_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0},
    "minItems": 2,
    "maxItems": 2,
    "description": "the first layer, and the one after the last; counted from 0",
}

_DTYPE_SCHEMA: dict[str, Any] = {"enum": [DTYPES[name].torch_name for name in MERGEABLE]}
_DTYPES_SCHEMA: dict[str, Any] = {
    "anyOf": [_DTYPE_SCHEMA, {"type": "object", "additionalProperties": _DTYPE_SCHEMA}]
}

Reference = Annotated[ModelReference, PlainValidator(_reference), WithJsonSchema(_REFERENCE_SCHEMA)]
Vocabulary = Annotated[
    VocabularySource, PlainValidator(_vocabulary_source), WithJsonSchema(_REFERENCE_SCHEMA)
]
Selectors = Annotated[
    tuple[Filter, ...],
    PlainValidator(_selectors),
    WithJsonSchema({"type": ["string", "array", "null"], "items": {"type": "string"}}),
]
Architectures = Annotated[
    tuple[ArchitectureFile, ...],
    PlainValidator(_architectures),
    WithJsonSchema({"type": ["string", "object", "array", "null"]}),
]
LayerRange = Annotated[tuple[int, int], PlainValidator(_layer_range), WithJsonSchema(_RANGE_SCHEMA)]
Dtype = Annotated[str, AfterValidator(_dtype), WithJsonSchema(_DTYPE_SCHEMA)]
if TYPE_CHECKING:
    Dtypes: TypeAlias = str | DtypeCases
else:
    Dtypes = Annotated[str, AfterValidator(_dtype), WrapValidator(_dtypes), WithJsonSchema(_DTYPES_SCHEMA)]
AnyTokenSource = Annotated[
    TokenSource | None, PlainValidator(_token_source), WithJsonSchema({"type": ["string", "object", "null"]})
]
TokenText = Annotated[str, AfterValidator(_token)]
Whole = Annotated[int, BeforeValidator(_whole)]
_FILES_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {"type": ["boolean", "object", "null"]},
    "description": "files beside the weights by name: whether they are made, or their parameters",
}
if TYPE_CHECKING:
    RawParameters: TypeAlias = Mapping[str, Json]
    ChosenFiles: TypeAlias = Mapping[str, bool | Mapping[str, Json]]
else:  # pydantic cannot take the recursive type
    ChosenFiles = Annotated[dict[str, Any], AfterValidator(_chosen_files), WithJsonSchema(_FILES_SCHEMA)]
    RawParameters = Annotated[
        dict[str, Any],
        BeforeValidator(lambda value: {} if value is None else value),
        WithJsonSchema({"type": ["object", "null"]}),
    ]
