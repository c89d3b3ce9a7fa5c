"""Merge methods as functions of tensors and of state dicts; read `for_module`, then `function_of`."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from mergecore.config.parameters.declared import parameters_of
from mergecore.errors import Collector, ConfigError, did_you_mean
from mergecore.files.dtypes import DTYPES
from mergecore.pipeline.arguments import check_name, dtype_word, listed, refuse_gradients
from mergecore.pipeline.signatures import RESERVED, arguments_of, doc_of, signature_of
from mergecore.planning.state_dicts import given_twice
from mergecore.plugins.registry import Registry
from mergecore.types import Array, MergeMethod, StateDict
from mergecore.types.execution import RunOptions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MODULE = "mergecore.methods"


def for_module(module: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """A `__getattr__` and a `__dir__` for a module whose names are those of the installed methods.

    The plugins are found when the first name is asked for, and a name stands for one function from then on.
    """
    registry = cache(Registry.discover)

    @cache
    def names() -> dict[str, str]:
        """The names of methods by those that Python can write; what stands for several methods is left out."""
        return _clear(written_so())

    @cache
    def written_so() -> dict[str, list[str]]:
        return by_attributes(one.name for one in registry().all(MergeMethod))

    @cache
    def function(name: str) -> Callable[..., object]:
        try:
            found = registry().get(MergeMethod, name)  # only the plugin of that name is loaded
        except ConfigError:
            found = registry().get(MergeMethod, names().get(name, name))
        return function_of(found, registry(), module)

    def get(name: str) -> object:
        if name == "__all__":
            return shown()
        if name.startswith("__"):
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        try:
            return function(name)
        except ConfigError as error:
            rivals = written_so().get(name, [])
            near = _written_so(module, rivals) or did_you_mean(name, shown())
            raise AttributeError(f"module '{module}' has no attribute '{name}'{near}") from error

    def shown() -> list[str]:
        return sorted(names())

    return get, shown


def by_attributes(methods: Iterable[str]) -> dict[str, list[str]]:
    """Which methods each name stands for: the one that is called so, else all those that are written so."""
    every = sorted(methods)
    found: dict[str, list[str]] = {}
    for name in every:
        found.setdefault(attribute_of(name), []).append(name)
    return found | {name: [name] for name in every if name in found}


def _clear(found: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {written: methods[0] for written, methods in found.items() if len(methods) == 1}


def _written_so(module: str, methods: Sequence[str]) -> str:
    """What to say of a name that stands for several methods."""
    if len(methods) < 2:
        return ""
    return f"; {' and '.join(methods)} are written so: getattr({module}, '{methods[0]}')"


def attribute_of(name: str) -> str:
    """What a method is called in Python: `half-way` is `half_way`."""
    written = "".join(letter if f"_{letter}".isidentifier() else "_" for letter in name)
    written = written if written.isidentifier() else f"_{written}"
    return f"{written}_" if keyword.iskeyword(written) else written


def function_of(method: MergeMethod[Any], registry: Registry, module: str = MODULE) -> Callable[..., object]:
    """A function that merges by `method`, with a signature and a docstring of its own."""

    def merge(models: Iterable[Array] | Iterable[StateDict], **given: Any) -> object:
        return _Call(method, registry, given).of(models)

    merge.__name__ = merge.__qualname__ = attribute_of(method.name)
    merge.__module__ = module
    merge.__doc__ = doc_of(method)
    signature = signature_of(method)
    merge.__signature__ = signature  # type: ignore[attr-defined]
    merge.__annotations__ = {
        **{one.name: one.annotation for one in signature.parameters.values()},
        "return": signature.return_annotation,
    }
    return merge


class _Call:
    """One call of such a function."""

    def __init__(self, method: MergeMethod[Any], registry: Registry, given: Mapping[str, Any]) -> None:
        self._method = method
        self._registry = registry
        written = arguments_of(method)
        own = RESERVED if method.base != "unused" else RESERVED - {"base"}
        self._own = {key: value for key, value in given.items() if key in own and key not in written}
        optional = {key for key, one in parameters_of(method.params).items() if one.default is None}
        self._twice = [*given_twice((key for key in given if key not in self._own), written)]
        self._parameters = {
            name: value
            for key, value in given.items()
            if key not in self._own and not ((name := written.get(key, key)) in optional and value is None)
        }

    def of(self, models: Iterable[Array] | Iterable[StateDict]) -> object:
        """What the models are merged to: an array, or arrays by name."""
        everyone = listed(models)
        self._check()
        own, base = [*everyone], self._own.get("base")
        everyone += [] if base is None else [base]
        if any(isinstance(one, Mapping) or hasattr(one, "state_dict") for one in everyone):
            return self._merged("models", cast("list[StateDict]", own), base)
        name = self._own.get("name", "tensor")
        check_name(name)
        refuse_gradients(self._parameters)
        tensors: list[StateDict] = [{name: cast("Array", one)} for one in own]
        return self._merged("tensors", tensors, None if base is None else {name: base})[name]

    def _check(self) -> None:
        """Raise what is wrong with the arguments.

        E110 for no base, E105 for one that is missing or given twice, E109 for an unknown one.
        """
        name, problems = self._method.name, Collector()
        for error in self._twice:
            problems.add(error)
        if self._method.base == "required" and self._own.get("base") is None:
            problems.add(ConfigError("E110", f"{name} needs a base", hint="pass base=…"))
        declared = parameters_of(self._method.params)
        for argument, key in arguments_of(self._method).items():
            if declared[key].required and key not in self._parameters:
                what = f"missing required parameter '{argument}' of {name}"
                problems.add(ConfigError("E105", what, hint=f"pass {argument}=…"))
        known = list(arguments_of(self._method))
        for key in self._parameters:
            if key not in declared:
                near = did_you_mean(key, known)
                hint = None if near else f"its parameters: {', '.join(known) or 'none'}"
                problems.add(ConfigError("E109", f"{name} has no parameter '{key}'{near}", hint=hint))
        problems.raise_any()

    def _merged(self, word: str, models: Sequence[StateDict], base: StateDict | None) -> dict[str, Array]:
        from mergecore.pipeline.in_memory import merged_by_method  # it loads torch

        given = {f"{word}[{i}]": one for i, one in enumerate(models)}
        given |= {} if base is None else {"base": base}
        arrays = [array for one in given.values() for array in _arrays(one)]
        dtype = dtype_word(self._own.get("dtype"))
        _check_numpy(arrays, dtype)
        merged = merged_by_method(
            self._method,
            given,
            base=None if base is None else "base",
            dtype=dtype,
            seed=self._own.get("seed", 0),
            parameters=self._parameters,
            registry=self._registry,
            run_options=cast("RunOptions | None", self._own.get("run_options")),
        )
        return _like(merged, arrays)


# ---- the same out as in ------------------------------------------------------------------------------------


def _arrays(model: StateDict) -> list[Array]:
    """The tensors of a model, as far as it has any."""
    found = model if isinstance(model, Mapping) else getattr(model, "state_dict", dict)()
    return list(found.values()) if isinstance(found, Mapping) else []


def _all_numpy(arrays: Sequence[object]) -> bool:
    import numpy as np

    return bool(arrays) and all(isinstance(one, np.ndarray) for one in arrays)


def _check_numpy(arrays: Sequence[Array], dtype: str | None) -> None:
    """Raise E105 for a result that numpy cannot hold."""
    word = str(dtype).removeprefix("torch.")
    if dtype is None or not _all_numpy(arrays) or word in {str(one.dtype) for one in arrays}:
        return
    known = next((one for one in DTYPES.values() if word in (one.torch_name, one.name)), None)
    if known and str(known.torch_name).startswith(("bfloat", "float8")):
        hint = "pass tensors of torch, such as torch.from_numpy(array), or another dtype"
        raise ConfigError("E105", f"numpy has no dtype '{word}'", hint=hint)


def _like(merged: dict[str, Tensor], arrays: Sequence[Array]) -> dict[str, Array]:
    """Arrays of numpy if all inputs are; else tensors, on the device of the inputs if that is one."""
    if _all_numpy(arrays):
        known = {str(one.dtype): one.dtype for one in arrays}
        return {name: _as_numpy(one, known) for name, one in merged.items()}
    devices = {getattr(one, "device", "cpu") for one in arrays}
    [device] = devices if len(devices) == 1 else ["cpu"]
    return {name: one.to(cast("torch.device", device)) for name, one in merged.items()}


def _as_numpy(tensor: Tensor, known: Mapping[str, Any]) -> Array:
    """The same numbers; a dtype that numpy itself lacks is that of the inputs."""
    import torch

    own = known.get(str(tensor.dtype).removeprefix("torch."))
    if own is None or own.kind in "biufc":
        return cast("Array", tensor.numpy())
    width = {1: torch.uint8, 2: torch.int16}[tensor.element_size()]
    return cast("Array", tensor.view(width).numpy().view(own))
