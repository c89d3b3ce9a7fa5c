"""sd-mecha: `@merge_method` on a function whose arguments are tensors, or state dicts that are asked for one key."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from mergecore_contrib.method_files.calling import REQUIRED, Function, Inputs, Parameter
from mergecore_contrib.method_files.faults import check_call

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class StateDict(Mapping[str, T], Generic[T]):
    """A model of which one tensor is at hand."""

    def __init__(self, key: str, value: T) -> None:
        self._key = key
        self._value = value

    def __getitem__(self, key: str) -> T:
        if key != self._key:
            raise KeyError(f"{key}: only functions that make a tensor from those of its own name can be used")
        return self._value

    def __iter__(self) -> Iterator[str]:
        return iter([self._key])

    def __len__(self) -> int:
        return 1


class Mark:
    """What an annotation says."""

    interface: Any = torch.Tensor
    space: str | None = None


def parameter(interface: Any, merge_space: Any = None, model_config: object = None) -> type[Mark]:
    """The annotation `Parameter(...)`."""
    return type("Parameter", (Mark,), {"interface": interface, "space": _space(merge_space)})


def returned(interface: Any, merge_space: Any = None, model_config: object = None) -> type[Mark]:
    """The annotation `Return(...)`."""
    return type("Return", (Mark,), {"interface": interface, "space": _space(merge_space)})


def _space(given: Any) -> str | None:
    """The first of the spaces that are allowed; "weight" where that is one of them."""
    names = (
        [given]
        if isinstance(given, str)
        else sorted(given, reverse=True)
        if isinstance(given, Iterable)
        else []
    )
    return names[0] if names else None


@dataclass(frozen=True)
class _Argument:
    name: str
    mark: type[Mark]
    default: Any
    kind: Any

    @property
    def of_tensors(self) -> bool:
        return self.mark.interface is torch.Tensor or self.of_models

    @property
    def of_models(self) -> bool:
        return typing.get_origin(self.mark.interface) is StateDict or self.mark.interface is StateDict

    @property
    def is_input(self) -> bool:
        """Whether a model is handed over, and not a parameter."""
        if self.mark.space is not None:
            return self.mark.space != "param"
        return self.default is inspect.Parameter.empty and self.of_tensors


def from_function(function: Callable[..., Any], name: str) -> Function:
    """The method of a function: its models in the order of its arguments, and its parameters."""
    hints = typing.get_type_hints(function)
    arguments = [_argument(one, hints) for one in inspect.signature(function).parameters.values()]
    inputs = [one for one in arguments if one and one.is_input]
    others = [one for one in arguments if one and not one.is_input]
    wants_key = any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())
    if not inputs:
        raise TypeError("no argument is a tensor of a model")
    if any(one.default is not inspect.Parameter.empty for one in inputs):
        raise TypeError("an argument that is a model has a default")
    check_call(function, [one.name for one in inputs], [one.name for one in others])
    made: Any = hints.get("return")
    space = (made.space if _is_mark(made) else None) or inputs[0].mark.space
    relative = space == "delta" or any(one.mark.space == "delta" for one in inputs)
    many = inputs[-1].kind is inspect.Parameter.VAR_POSITIONAL

    def call(given: Inputs, values: Mapping[str, Any]) -> Tensor:
        kinds = [*inputs[: len(given.models)], *inputs[-1:] * (len(given.models) - len(inputs))]
        tensors = [_handed(one, x, given) for one, x in zip(kinds, given.models, strict=True)]
        told = {one.name: _value(one, values[one.name], given.models[0]) for one in others}
        result = function(*tensors, **told, **({"key": given.name} if wants_key else {}))
        if not isinstance(result, torch.Tensor):
            result = torch.full_like(given.models[0], result)
        return given.base + result if given.base is not None and space == "delta" else result

    return Function(
        name=name,
        call=call,
        parameters=[_parameter(one) for one in others],
        base="required" if relative else "unused",
        models=(len(inputs), None if many else len(inputs)),
        module=function.__module__,
        summary=(inspect.getdoc(function) or "").partition("\n")[0].strip(),
    )


def _is_mark(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Mark)


def _argument(one: inspect.Parameter, hints: Mapping[str, Any]) -> _Argument | None:
    if one.kind is one.VAR_KEYWORD:
        return None
    if one.name not in hints:
        raise TypeError(f"parameter '{one.name}' has no type")
    hint = hints[one.name]
    return _Argument(one.name, hint if _is_mark(hint) else parameter(hint), one.default, one.kind)


def _parameter(one: _Argument) -> Parameter:
    kind = float if one.mark.interface is torch.Tensor else one.mark.interface
    if one.of_models:
        raise TypeError(f"parameter '{one.name}' is a whole model")
    return Parameter(one.name, kind, REQUIRED if one.default is inspect.Parameter.empty else one.default)


def _handed(one: _Argument, x: Tensor, given: Inputs) -> Any:
    x = x - given.base if one.mark.space == "delta" and given.base is not None else x
    return StateDict(given.name, x) if one.of_models else x


def _value(one: _Argument, value: Any, like: Tensor) -> Any:
    return like.new_tensor(value) if one.mark.interface is torch.Tensor and value is not None else value
