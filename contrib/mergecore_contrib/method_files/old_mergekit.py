"""mergekit 0.1.4: `@merge_method` on a function of `tensors: List[Tensor]`, and classes with `make_task`."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from pydantic_core import core_schema

from mergecore_contrib.method_files.calling import REQUIRED, Function, Inputs, Parameter
from mergecore_contrib.method_files.faults import check_call

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

LOOSE: Any = bool | int | float | str | list[Any] | None
"""The type of a parameter that a class names without one."""


# ---- functions ---------------------------------------------------------------------------------------------


def from_function(function: Callable[..., Tensor], name: str, reference_url: str | None = None) -> Function:
    """The method of a function that takes `tensors`, perhaps `base_tensor`, and parameters."""
    hints = typing.get_type_hints(function, include_extras=True)
    arguments = inspect.signature(function).parameters
    base: Any = _base(hints) if "base_tensor" in arguments else "first"
    told = {"tensors", "base_tensor", "output_weight", "base_model"}
    if "tensors" not in arguments:
        raise TypeError(f"'{name}' has no argument 'tensors', which are those of the models")
    parameters = [_parameter(one, hints) for one in arguments.values() if one.name not in told]
    check_call(function, [], [*arguments])

    def call(inputs: Inputs, values: Mapping[str, Any]) -> Tensor:
        given: dict[str, Any] = {
            "tensors": list(inputs.models),
            "base_tensor": inputs.base,
            "output_weight": WeightInfo(inputs.name),
            "base_model": ModelReference("base_model") if inputs.base is not None else None,
        }
        lists = {
            one.name: list(values[one.name]) if one.per_model else values[one.name] for one in parameters
        }
        return function(**{key: one for key, one in given.items() if key in arguments}, **lists)

    return Function(
        name=name,
        call=call,
        parameters=parameters,
        base=base,
        module=function.__module__,
        summary=_first_line(function),
        paper=reference_url,
    )


def _base(hints: Mapping[str, Any]) -> Any:
    hint = hints.get("base_tensor")
    return "optional" if type(None) in typing.get_args(hint) else "required"


def _parameter(argument: inspect.Parameter, hints: Mapping[str, Any]) -> Parameter:
    if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
        raise TypeError(f"parameter '{argument.name}' stands for any number of arguments")
    if argument.name not in hints:
        raise TypeError(f"parameter '{argument.name}' has no type")
    kind, default = hints[argument.name], argument.default
    if kind is torch.Tensor:
        raise TypeError(f"parameter '{argument.name}' is a tensor; only 'tensors' and 'base_tensor' can be")
    per_model = typing.get_origin(kind) is list
    kind = typing.get_args(kind)[0] if per_model else kind
    return Parameter(argument.name, kind, REQUIRED if default is argument.empty else default, per_model)


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0].strip()


# ---- classes -----------------------------------------------------------------------------------------------


class ModelReference:
    """Names an input; equal to itself only."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name


class WeightInfo:
    """The tensor that is made."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_embed = False
        self.optional = False


class ImmutableMap(Mapping[K, V], Generic[K, V]):
    """A mapping that tasks hold."""

    def __init__(self, data: Mapping[K, V]) -> None:
        self.data = dict(data)

    def __getitem__(self, key: K) -> V:
        return self.data[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __hash__(self) -> int:
        return id(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        return core_schema.any_schema()


class Task(BaseModel, Generic[T]):
    """A node of a graph: `execute` gets the values of `arguments`."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    def arguments(self) -> dict[str, Any]:
        """The tasks whose values it needs."""
        return {}

    def execute(self, **_kwargs: Any) -> Any:
        """Its value."""
        raise NotImplementedError(f"class {type(self).__name__} has no execute")


class Gathered(Task[Any]):
    """The tensors of all models."""

    tensors: Any

    def execute(self, **_kwargs: Any) -> Any:
        """The tensors by model."""
        return dict(self.tensors)


class ConfigParameterDef(BaseModel):
    """A parameter as a class names it."""

    name: str
    required: bool = False
    default_value: Any = None


def value_of(task: Any) -> Any:
    """What a task gives, once those before it are done."""
    return task.execute(**{name: value_of(one) for name, one in task.arguments().items()})


def from_class(method: Any) -> Function:
    """The method of an object that makes a task for each tensor."""
    own = [_defined(one, False) for one in method.parameters()]
    of_models = [_defined(one, True) for one in method.tensor_parameters()]

    check_call(
        method.make_task, [], ["output_weight", "tensors", "parameters", "tensor_parameters", "base_model"]
    )

    def call(inputs: Inputs, values: Mapping[str, Any]) -> Any:
        models = [ModelReference(f"model {i + 1}") for i in range(len(inputs.models))]
        tensors = dict(zip(models, inputs.models, strict=True))
        rows = {
            model: ImmutableMap({one.name: values[one.name][i] for one in of_models})
            for i, model in enumerate(models)
        }
        base = None
        if inputs.base is not None:
            base = ModelReference("base_model")
            tensors = {base: inputs.base, **tensors}
            rows[base] = ImmutableMap({one.name: _default(one) for one in of_models})
        task = method.make_task(
            output_weight=WeightInfo(inputs.name),
            tensors=Gathered(tensors=tensors),
            parameters=ImmutableMap({one.name: values[one.name] for one in own}),
            tensor_parameters=ImmutableMap(rows),
            base_model=base,
        )
        return value_of(task)

    return Function(
        name=method.name(),
        call=call,
        parameters=[*own, *of_models],
        base="optional",
        module=type(method).__module__,
        summary=_first_line(type(method)),
        paper=getattr(method, "reference_url", lambda: None)(),
    )


def _defined(one: ConfigParameterDef, per_model: bool) -> Parameter:
    return Parameter(one.name, LOOSE, REQUIRED if one.required else one.default_value, per_model)


def _default(parameter: Parameter) -> Any:
    return None if parameter.default is REQUIRED else parameter.default
