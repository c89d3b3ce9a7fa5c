"""What pydantic says about a config, in our words and with places.

`fault` carries an error of ours through pydantic; `explained` translates the `complaints` that come out of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from mergecore.config.leftovers import OBSOLETE
from mergecore.config.parameters.declared import parameters_of, shown
from mergecore.errors import ConfigError, did_you_mean
from mergecore.files.yaml_document import DocPath, Document
from mergecore.types.params import Params


def fault(error: ConfigError) -> PydanticCustomError:
    """`error` in the form that pydantic gathers."""
    return PydanticCustomError(error.code, "{what}", {"what": error.what, "hint": error.hint})


def complaints(error: ValidationError) -> Iterator[ErrorDetails]:
    """What pydantic says, one by one, without what only follows: items that are wrong make a list too short."""
    for detail in error.errors():
        given, least = detail["input"], detail.get("ctx", {}).get("min_length")
        if (
            detail["type"] != "too_short"
            or not isinstance(given, list)
            or least is None
            or len(given) < least
        ):
            yield detail


def explained(
    detail: ErrorDetails, document: Document, root: type[BaseModel], method: str, params: type[Params] | None
) -> ConfigError:
    """One complaint of pydantic about `document` as a `ConfigError` with its place.

    root: the class of the whole document; method, params: to recognise a parameter in the wrong place.
    """
    path, kind = detail["loc"], detail["type"]
    context = detail.get("ctx", {})
    if kind[0] == "E" and kind[1:].isdigit():
        return ConfigError(kind, context["what"], place=document.place(path), hint=context["hint"])
    if kind == "missing":
        what = f"'{path[-1]}' is missing from {_title(_class_at(root, path[:-1]))}"
        alone = detail["input"] if isinstance(detail["input"], dict) else {}
        above = path[-1] == "model" and list(alone) == ["parameters"]
        hint = "indent 'parameters:' like the 'model:' above it, without a dash" if above else None
        if path[-1] == "model" and len(alone) == 1 and not above:
            hint = _as_list(alone)
        return ConfigError("E104", what, place=document.place(path[:-1]), hint=hint)
    if kind == "extra_forbidden":
        return _unknown_key(path, document, root, method, params)
    if not path:  # what a class says of several keys together
        what = detail["msg"].removeprefix("Value error, ")
        return ConfigError("E104", what, place=document.place())
    expected, code = _expectation(kind, context)
    keys = ".".join(str(step) for step in path if isinstance(step, str))
    where = f"an item of '{keys}'" if isinstance(path[-1], int) else f"'{keys}'"
    end = f"; {expected} is expected" if expected else f": {detail['msg'].removeprefix('Value error, ')}"
    what = f"{where} is {_shown(detail['input'])}{end}"
    return ConfigError(code, what, place=document.place(path), hint=_hint(kind, detail["input"], path))


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


_BOUNDS = {
    "greater_than_equal": ("ge", "a number of at least {}"),
    "greater_than": ("gt", "a number greater than {}"),
    "less_than_equal": ("le", "a number of at most {}"),
    "less_than": ("lt", "a number of less than {}"),
    "too_short": ("min_length", "a list of at least {} items"),
    "too_long": ("max_length", "a list of at most {} items"),
    "string_too_short": ("min_length", "text of at least {} characters"),
    "string_too_long": ("max_length", "text of at most {} characters"),
    "string_pattern_mismatch": ("pattern", "text that matches {}"),
}
"""By the kind of a complaint, the key of its bound and what is expected."""


def _expectation(kind: str, context: Mapping[str, object]) -> tuple[str | None, str]:
    if kind == "literal_error":
        return str(context["expected"]), "E105"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        bound = context[key]
        words = words.removesuffix("s") if bound == 1 and words.endswith("{} items") else words
        return words.format(bound), "E105"
    return _EXPECTED.get(kind), "E104"


def _hint(kind: str, value: object, path: DocPath) -> str | None:
    if kind == "string_type" and isinstance(value, (int, float)):
        return "write it in quotes"
    if kind == "model_type" and isinstance(value, str) and path[-2:-1] in _LISTS_OF_MODELS:
        return f"write '- model: {value}'"
    if kind in ("tuple_type", "list_type") and path[-1:] in _LISTS_OF_MODELS:
        return f"write '- model: {value}'" if isinstance(value, str) else _as_list(value)
    if kind in ("tuple_type", "list_type") and isinstance(value, dict):
        return f"write a dash before '{next(iter(value))}'" if value else None
    return None


_LISTS_OF_MODELS = (("models",), ("sources",))


def _as_list(value: object) -> str | None:
    """How to write models that are the keys of a mapping, shown for the first of them."""
    if not isinstance(value, dict) or not value:
        return None
    if "model" in value:
        return f"write a dash before it: '- model: {value['model']}'"
    model, said = next(iter(value.items()))
    if isinstance(said, dict) and said.keys() == {"parameters"}:
        said = said["parameters"]
    parameters = said if isinstance(said, dict) else {} if said is None else {"weight": said}
    items = "".join(f", {key}: {shown(one)}" for key, one in parameters.items()).removeprefix(", ")
    behind = f", parameters: {{{items}}}" if items else ""
    return f"each model is an item of a list: write '- {{model: {model}{behind}}}'"


def _shown(value: object) -> str:
    return "empty" if value is None or value == [] else shown(value)


_MISPLACED = {
    "revision": "write it after the model, as in 'model: NAME@REVISION'",
    "adapter": "write it after the model, as in 'model: NAME+ADAPTER', or in it, 'model: {model: NAME, adapter: …}'",
    "lora": "write it after the model, as in 'model: NAME+ADAPTER', or in it, 'model: {model: NAME, lora: …}'",
    "layer_range": "whole models are merged under 'models'; choose layers with 'slices:' and 'sources:'",
}
"""Keys that people write beside a model, and what to do."""


def _unknown_key(
    path: DocPath, document: Document, root: type[BaseModel], method: str, params: type[Params] | None
) -> ConfigError:
    key, here = str(path[-1]), _class_at(root, path[:-1])
    known = [field.alias or name for name, field in here.model_fields.items()]
    what, hint = f"unknown key '{key}' in {_title(here)}", f"its keys: {', '.join(known)}"
    parameter = parameters_of(params).get(key) if params is not None and "parameters" in known else None
    if key in OBSOLETE:
        what, hint = f"'{key}' is obsolete", OBSOLETE[key]
    elif parameter is not None:
        top = "" if parameter.per_model or here is root else " of the top level"
        what = f"{what}; it is a parameter of {method}"
        hint = f"write it under 'parameters:'{top}"
    elif key in _MISPLACED and "parameters" in known and here is not root:
        hint = _MISPLACED[key]
    elif here is not root and key in root.model_fields:
        hint = f"write '{key}' at the top level"
    elif near := did_you_mean(key, known):
        what, hint = what + near, ""
    if here is root and "&" in document.text and parameter is None:
        hint = "; ".join(filter(None, [hint, f"to keep anchors there, call it 'x-{key.lstrip('.')}'"]))
    return ConfigError("E103", what, place=document.key_place(path), hint=hint)


def _title(part: type[BaseModel]) -> str:
    return str(getattr(part, "title", part.__name__))


def _class_at(root: type[BaseModel], path: DocPath) -> type[BaseModel]:
    """The class of the mapping at `path`."""
    here, steps = root, iter(path)
    for step in steps:
        field = here.model_fields.get(str(step))
        if field is None:  # the index of a list item
            continue
        if _mentions(field.annotation, dict):
            next(steps, None)  # its key is a name of the user's
        here = _part_within(field.annotation) or here
    return here


def _mentions(hint: object, kind: type) -> bool:
    return get_origin(hint) is kind or any(_mentions(part, kind) for part in get_args(hint))


def _part_within(hint: object) -> type[BaseModel] | None:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    return next((found for part in get_args(hint) if (found := _part_within(part))), None)
