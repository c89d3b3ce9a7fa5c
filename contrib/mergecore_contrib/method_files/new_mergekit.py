"""mergekit 0.1.5: kernels of a `TensorGroup` or of a `TensorBatch`, as functions and as classes with a `spec`."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

import torch
from torch import Tensor

from mergecore_contrib.method_files.calling import REQUIRED, Function, Inputs, Parameter
from mergecore_contrib.method_files.faults import check_call

T = TypeVar("T")


class ParameterScope(StrEnum):
    """What has a value of its own."""

    SHARED = "shared"
    INPUT = "input"
    NON_BASE = "non_base"


class BasePolicy(StrEnum):
    """What becomes of the base."""

    OPTIONAL = "optional"
    REQUIRED = "required"
    FORBIDDEN = "forbidden"
    IGNORED = "ignored"


class OptionalTensorPolicy(StrEnum):
    """What happens where tensors are missing; here `--missing` says that."""

    ERROR = "error"
    PASSTHROUGH_SINGLETON = "passthrough_singleton"
    PASSTHROUGH_BASE_SINGLETON = "passthrough_base_singleton"
    BASE_OR_SKIP = "base_or_skip"


@dataclass(frozen=True)
class BatchParameter:
    """Marks a tensor that holds the values of a parameter."""

    value_type: Any
    scope: ParameterScope = ParameterScope.SHARED


class PerInputValues(Mapping[Hashable, T], Generic[T]):
    """A value for each input."""

    def __init__(self, items: Sequence[tuple[Hashable, T]]) -> None:
        self._values = dict(items)

    def __getitem__(self, key: Hashable) -> T:
        return self._values[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def values_for(self, entries: Sequence[TensorEntry]) -> list[T]:
        """The values of some inputs, in their order."""
        return [self._values[one.id] for one in entries]


PerInput = Annotated[PerInputValues[T], ParameterScope.INPUT]
PerNonBase = Annotated[PerInputValues[T], ParameterScope.NON_BASE]
MISSING = object()


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter as a class names it."""

    name: str
    value_type: Any
    scope: ParameterScope
    default: Any = MISSING
    description: str | None = None
    batch_tensor: bool = False


@dataclass(frozen=True)
class InputContract:
    """How many inputs there may be, and what about the base."""

    base: BasePolicy = BasePolicy.IGNORED
    min_inputs: int = 1
    max_inputs: int | None = None
    min_non_base: int | None = None
    max_non_base: int | None = None


@dataclass(frozen=True)
class TensorMetadata:
    """What is known about the tensor that is made."""

    name: str | None = None
    vocabulary_axis: int | None = None


@dataclass(frozen=True)
class TensorEntry:
    """One input."""

    id: Hashable
    tensor: Tensor
    is_base: bool = False


@dataclass(frozen=True)
class TensorGroup:
    """The inputs of one tensor."""

    entries: tuple[TensorEntry, ...]
    metadata: TensorMetadata = field(default_factory=TensorMetadata)

    @property
    def base(self) -> TensorEntry | None:
        """The base, if there is one."""
        return next((one for one in self.entries if one.is_base), None)

    @property
    def non_base(self) -> tuple[TensorEntry, ...]:
        """All others."""
        return tuple(one for one in self.entries if not one.is_base)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors of all."""
        return tuple(one.tensor for one in self.entries)


@dataclass(frozen=True)
class TensorBatch:
    """The inputs of several tensors of one shape: each is [tensors, *shape]."""

    tensors: tuple[Tensor, ...]
    base_index: int | None = None


@dataclass(frozen=True)
class MergeMethodSpec:
    """What a method needs."""

    name: str
    parameters: tuple[ParameterSpec, ...] = ()
    contract: InputContract = field(default_factory=InputContract)
    pretty_name: str | None = None
    reference_url: str | None = None
    optional_tensor_policy: OptionalTensorPolicy = OptionalTensorPolicy.ERROR
    uses_accelerator: bool = True


class MergeMethod:
    """The base of all classes of methods, also of those of 0.1.4."""

    spec: MergeMethodSpec

    def parameters(self) -> list[Any]:
        """Parameters of the method, in 0.1.4."""
        return []

    def tensor_parameters(self) -> list[Any]:
        """Parameters of each model, in 0.1.4."""
        return []


class GroupMergeMethod(MergeMethod):
    """A method of a class: `merge_group` makes one tensor."""

    def merge_group(self, group: TensorGroup, /, **parameters: Any) -> Tensor:
        """The merged tensor."""
        raise NotImplementedError(f"class {type(self).__name__} has no merge_group")


class FunctionalGroupMergeMethod(GroupMergeMethod):
    """The same of a function."""

    def __init__(self, spec: MergeMethodSpec, implementation: Callable[..., Tensor]) -> None:
        self.spec = spec
        self.implementation = implementation

    def merge_group(self, group: TensorGroup, /, **parameters: Any) -> Tensor:
        """What the function makes."""
        return self.implementation(group, **parameters)


class BatchedMergeMethod(MergeMethod):
    """A method that makes several tensors at once."""

    def __init__(self, spec: MergeMethodSpec, implementation: Callable[..., Tensor]) -> None:
        self.spec = spec
        self.implementation = implementation

    def merge_batch(self, batch: TensorBatch, /, **parameters: Any) -> Tensor:
        """What the function makes."""
        return self.implementation(batch, **parameters)


def is_kernel(function: Callable[..., Tensor]) -> bool:
    """Whether the first argument of a function is a group or a batch."""
    return _kind(function) in (TensorGroup, TensorBatch)


def _kind(function: Callable[..., Tensor]) -> Any:
    hints = typing.get_type_hints(function, include_extras=True)
    return hints.get(next(iter(inspect.signature(function).parameters), ""))


def from_kernel(
    function: Callable[..., Tensor], name: str, contract: InputContract | None = None, **options: Any
) -> MergeMethod:
    """The object that `@merge_method` makes of a kernel."""
    hints = typing.get_type_hints(function, include_extras=True)
    arguments = list(inspect.signature(function).parameters.values())[1:]
    parameters = tuple(_spec(one, hints) for one in arguments)
    spec = MergeMethodSpec(name, parameters, contract or InputContract(), **options)
    wrapper = BatchedMergeMethod if _kind(function) is TensorBatch else FunctionalGroupMergeMethod
    return wrapper(spec, function)


def _spec(argument: inspect.Parameter, hints: Mapping[str, Any]) -> ParameterSpec:
    if argument.name not in hints:
        raise TypeError(f"parameter '{argument.name}' has no type")
    kind = hints[argument.name]
    default = MISSING if argument.default is argument.empty else argument.default
    for mark in getattr(kind, "__metadata__", ()):
        if isinstance(mark, BatchParameter):
            return ParameterSpec(argument.name, mark.value_type, mark.scope, default, batch_tensor=True)
        if isinstance(mark, ParameterScope):
            values = typing.get_args(typing.get_args(kind)[0])[0]
            return ParameterSpec(argument.name, values, mark, default)
    return ParameterSpec(argument.name, kind, ParameterScope.SHARED, default)


# ---- as a merge method -------------------------------------------------------------------------------------


def from_object(method: Any) -> Function:
    """The method of an object with a `spec`."""
    spec: MergeMethodSpec = method.spec
    aware = spec.contract.base in (BasePolicy.OPTIONAL, BasePolicy.REQUIRED)
    if aware and any(one.scope == ParameterScope.INPUT for one in spec.parameters):
        raise TypeError("a parameter has a value for each input, the base included; use PerNonBase")
    makes = method.merge_batch if isinstance(method, BatchedMergeMethod) else method.merge_group
    check_call(getattr(method, "implementation", makes), ["group"], [one.name for one in spec.parameters])

    def call(inputs: Inputs, values: Mapping[str, Any]) -> Tensor:
        group = _group(inputs)
        if not isinstance(method, BatchedMergeMethod):
            given = {one.name: _bound(one, values[one.name], group) for one in spec.parameters}
            return typing.cast("Tensor", method.merge_group(group, **given))
        batch = TensorBatch(tuple(one.unsqueeze(0) for one in group.tensors), 0 if group.base else None)
        given = {one.name: _coefficients(one, values[one.name], batch) for one in spec.parameters}
        return method.merge_batch(batch, **given)[0]

    return Function(
        name=spec.name,
        call=call,
        parameters=[_parameter(one) for one in spec.parameters],
        base="unused"
        if not aware
        else "required"
        if spec.contract.base == BasePolicy.REQUIRED
        else "optional",
        models=_counts(spec.contract, aware),
        module=getattr(method, "implementation", type(method)).__module__,
        summary=spec.pretty_name or "",
        paper=spec.reference_url,
    )


def _group(inputs: Inputs) -> TensorGroup:
    entries = [TensorEntry(f"model {i + 1}", one) for i, one in enumerate(inputs.models)]
    if inputs.base is not None:
        entries.insert(0, TensorEntry("base_model", inputs.base, is_base=True))
    return TensorGroup(tuple(entries), TensorMetadata(inputs.name))


def _parameter(spec: ParameterSpec) -> Parameter:
    default = REQUIRED if spec.default is MISSING else spec.default
    return Parameter(spec.name, spec.value_type, default, spec.scope != ParameterScope.SHARED)


def _bound(spec: ParameterSpec, value: Any, group: TensorGroup) -> Any:
    if spec.scope == ParameterScope.SHARED:
        return value
    return PerInputValues([(one.id, each) for one, each in zip(group.non_base, value, strict=True)])


def _coefficients(spec: ParameterSpec, value: Any, batch: TensorBatch) -> Any:
    """A parameter of one tensor: a value, or [1] of a shared one and [1, n] of one for each model."""
    if not spec.batch_tensor:
        return value
    first = batch.tensors[0]
    kind = spec.value_type
    while typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    dtype = {bool: torch.bool, int: torch.int64}.get(
        kind, torch.float64 if first.dtype == torch.float64 else torch.float32
    )
    return torch.tensor(value, dtype=dtype, device=first.device).unsqueeze(0)


def _counts(contract: InputContract, aware: bool) -> tuple[int, int | None]:
    """The least and the largest number of models beside the base."""
    with_base = int(aware and contract.base == BasePolicy.REQUIRED)
    least = max(contract.min_inputs - with_base, contract.min_non_base or 0, 1)
    most = [one for one in (_less(contract.max_inputs, with_base), contract.max_non_base) if one is not None]
    return least, min(most, default=None)


def _less(most: int | None, base: int) -> int | None:
    return None if most is None else most - base
