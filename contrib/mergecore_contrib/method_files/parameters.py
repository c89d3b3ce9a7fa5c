"""The classes of parameters of methods in files; as attributes of this module, so that other processes find them."""

from __future__ import annotations

import os
from typing import Any

from pydantic import create_model

from mergecore import Field, Params, PerModel
from mergecore_contrib.method_files.calling import REQUIRED, Function, field_of

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
