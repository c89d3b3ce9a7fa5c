"""The classes of parameters of methods in files; as attributes of this module, so that other processes find them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated, Any, get_args, get_origin

from pydantic import PydanticUserError, TypeAdapter, ValidationError, create_model

from mergecore import Field, Params, PerModel
from mergecore_contrib.method_files.calling import REQUIRED, Function, Parameter, field_of

_made: dict[str, type[Params]] = {}
_PER_MODEL: Any = PerModel  # a checker takes no variable for a type


def __getattr__(name: str) -> type[Params]:
    """The class of that name; a process that did not make it loads the files that its environment names."""
    from mergecore_contrib.method_files import VARIABLE, methods_of

    if name.startswith("Of") and name not in _made:
        for path in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
            methods_of(path)
    if name not in _made:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return _made[name]


def class_of(one: Function, file: str) -> type[Params]:
    """The parameters of a method; the same class again for a file with the same digest."""
    name = f"Of{one.name.encode().hex()}_{file}"
    if name not in _made:
        _made[name] = create_model(name, __base__=Params, __module__=__name__, **_fields(one))
    return _made[name]


def checked(one: Function) -> Function:
    """The function, whose parameters can stand in a config; one with the default None may be none.

    Raises:
        TypeError: for a parameter of another type, and for a default that is not of the type of its parameter.
    """
    return replace(one, parameters=[_checked(parameter) for parameter in one.parameters])


def _checked(one: Parameter) -> Parameter:
    kind = one.type | None if one.default is None else one.type
    try:
        adapter = TypeAdapter[Any](kind)
    except PydanticUserError:
        word = getattr(one.type, "__name__", one.type)
        what = f"parameter '{one.name}' has the type {word}, which no config can hold; use float, int, bool or str"
        raise TypeError(what) from None
    try:
        if one.default is not REQUIRED:
            adapter.validate_python(one.default)
    except ValidationError as error:
        raise TypeError(
            f"the default of parameter '{one.name}' is {one.default!r}; {_wanted(one, error)}"
        ) from None
    return replace(one, type=kind)


_WORDS = {float: "a number", int: "a whole number", bool: "True or False", str: "text"}


def _wanted(one: Parameter, error: ValidationError) -> str:
    """What a default should be."""
    for_each = " for all models" if one.per_model else ""
    bare = get_args(one.type)[0] if get_origin(one.type) is Annotated else one.type
    fault = error.errors()[0]
    if fault["type"].endswith(("_type", "_parsing")) and bare in _WORDS:
        return f"{_WORDS[bare]}{for_each} is expected"
    return f"it{for_each} should be {fault['msg'].removeprefix('Input should be ')}"


def _fields(one: Function) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for parameter in one.parameters:
        kind, default = parameter.type, parameter.default
        if parameter.per_model:
            kind = _PER_MODEL[kind]
            default = (default,) if default is not REQUIRED else default
        given = {} if default is REQUIRED else {"default": default}
        fields[field_of(parameter)] = (kind, Field(alias=parameter.name, **given))
    return fields
