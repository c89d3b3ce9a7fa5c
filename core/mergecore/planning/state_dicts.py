"""Models that are in memory: state dicts and modules as checkpoints, and the config that merges them.

Read `source_of`, then `config_of`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from mergecore.config.parameters.declared import Parameter, parameters_of
from mergecore.errors import Collector, ConfigError, InputError, counted, some
from mergecore.files.strict_json import parse_json
from mergecore.models.config_json import quantisation
from mergecore.types import (
    Array,
    Checkpoint,
    InMemory,
    Json,
    MergeMethod,
    ModelReference,
    ModelSource,
    OpenOptions,
    StateDict,
    TensorInfo,
)


class StateDicts:
    """Models in memory, by the names under which a config has them."""

    def __init__(self, models: Mapping[str, StateDict]) -> None:
        """Takes no copy of any tensor.

        Raises:
            ConfigError: E104 for what is not a state dict.
            InputError: E233 for a tensor that cannot be merged; all together as `Problems`.
        """
        if not isinstance(models, Mapping):
            what = f"the models are a {type(models).__name__}; a dict of names and state dicts is expected"
            raise ConfigError("E104", what)
        if strange := [name for name in models if not (name and isinstance(name, str))]:
            raise ConfigError("E104", f"{strange[0]!r} is not the name of a model; text is expected")
        if not models:
            raise ConfigError("E104", "no models were given to merge")
        problems = Collector()
        self.opened: set[str] = set()
        self._given: dict[str, Mapping[str, Array]] = {}
        self._configs: dict[str, Mapping[str, Json]] = {}
        for name, model in models.items():
            with problems.collecting():
                self._given[name] = _state_dict(name, model)
                self._configs[name] = _config(model)
        problems.raise_any()
        self.tied = _tied(list(self._given.values()))
        """Names that stand for the tensor of another name in every model."""

    @property
    def source(self) -> ModelSource:
        """What opens them."""
        return ModelSource(name="in_memory", accepts=self._has, open=self._open, rank=0)

    def check_opened(self) -> None:
        """Raise E104 for models that the config does not name."""
        if unused := [name for name in self._given if name not in self.opened]:
            what = f"the config does not name {some(unused)}"
            raise ConfigError("E104", what, hint="name it in the config, or leave it out")

    def _has(self, reference: ModelReference, options: OpenOptions) -> bool:
        return str(reference) in self._given

    def _open(self, reference: ModelReference, options: OpenOptions) -> Checkpoint:
        name = str(reference)
        self.opened.add(name)
        given = {key: array for key, array in self._given[name].items() if key not in self.tied}
        tensors = {key: TensorInfo(key, InMemory(key, array)) for key, array in given.items()}
        config = self._configs[name]
        if packed := quantisation(config, tensors.values(), name):
            raise packed
        return Checkpoint(reference, NOWHERE, tensors, (), config)


NOWHERE = Path("/nonexistent")
"""Stands for the folder of a model that has none."""


def config_of(
    method: MergeMethod[Any],
    names: Sequence[str],
    base: str | None,
    parameters: Mapping[str, object],
    more: Mapping[str, object],
) -> dict[str, object]:
    """The config of a merge of all models.  A parameter may be one value; a list, one for each model beside the
    base; or a mapping by the names of models.

    Raises:
        ConfigError: E105 for values that are fewer or more than the models, for a model that is not there, or for a
            parameter that is given by two names.
    """
    if base is not None and base not in names:
        what = f"the base '{base}' is not among the models"
        raise ConfigError("E105", what, hint=f"they are {', '.join(names)}")
    beside = [name for name in names if name != base]
    own: dict[str, dict[str, object]] = {name: {} for name in beside}
    shared: dict[str, object] = {}
    declared = parameters_of(method.params)
    written = {one.field: key for key, one in declared.items()}  # `lambda` cannot be an argument, `scale` can
    problems = Collector()
    for error in given_twice(parameters, written):
        problems.add(error)
    for given_as, array in parameters.items():
        key = written.get(given_as, given_as)
        with problems.collecting():
            value = _plain(key, array)
            given = _by_model(key, value, beside) if key in declared and declared[key].per_model else None
            if given is None:
                _check_one(key, value, declared)
                shared[key] = value
            for name, one in (given or {}).items():
                own[name][key] = one
    problems.raise_any()
    models = [
        {"model": {"path": name}, **({"parameters": own[name]} if own[name] else {})} for name in beside
    ]
    config = {"merge_method": method.name, "models": models, **more}
    config |= {"base_model": {"path": base}} if base is not None else {}
    return config | ({"parameters": shared} if shared else {})


def _plain(key: str, value: object) -> object:
    """A value, or several, as Python has them; E104 for a tensor whose numbers are not there."""
    import numpy as np
    import torch

    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if not isinstance(value, torch.Tensor):
        return value
    if fault := _fault(value):
        raise ConfigError("E104", f"parameter '{key}' is a tensor that is {fault}", hint="pass numbers")
    return value.tolist()


def _check_one(key: str, value: object, declared: Mapping[str, Parameter]) -> None:
    """Raise E105 for a list where all models share one value; in a config it would be a gradient over the layers."""
    if key not in declared or declared[key].per_model or not isinstance(value, list | tuple):
        return
    if any(isinstance(one, Mapping) for one in value):
        return  # cases with filters, as in a config
    with suppress(ConfigError):
        declared[key].convert(value)
        return
    what = f"parameter '{key}' is one value for all models, and {len(value)} were given"
    hint = "for a gradient over the layers of models, pass {'value': [first, ..., last]}"
    raise ConfigError("E105", what, hint=hint)


def given_twice(given: Iterable[str], written: Mapping[str, str]) -> Iterator[ConfigError]:
    """E105 for each parameter that is given by two names; `written`: what configs call them, by the other names."""
    names: dict[str, list[str]] = {}
    for one in given:
        names.setdefault(written.get(one, one), []).append(one)
    for key, found in names.items():
        if len(found) > 1:
            what = f"parameter '{key}' is given twice, as {' and '.join(found)}"
            yield ConfigError("E105", what, hint="pass one of them")


def _by_model(key: str, value: object, names: Sequence[str]) -> Mapping[str, object] | None:
    """The values of a parameter by model; None when there is one for all."""
    if isinstance(value, Mapping):
        if strangers := [str(name) for name in value if name not in names]:
            what = f"parameter '{key}' is given for {some(strangers)}, which is not among the models"
            raise ConfigError("E105", what, hint=f"they are {', '.join(names)}")
        return cast("Mapping[str, object]", value)
    if not isinstance(value, list | tuple):
        return None
    if len(value) != len(names):
        what = f"parameter '{key}' has {counted(len(value), 'value')} for {counted(len(names), 'model')}"
        raise ConfigError("E105", what, hint="the base has none, unless it is listed among the models")
    return dict(zip(names, value, strict=True))


# ---- what is handed over -----------------------------------------------------------------------------------


def _state_dict(name: str, model: object) -> Mapping[str, Array]:
    """The tensors of a model, those that can be merged.

    Raises:
        ConfigError: E104; InputError: E233.
    """
    found = model if isinstance(model, Mapping) else getattr(model, "state_dict", lambda: None)()
    if not isinstance(found, Mapping):
        what = f"model '{name}' is a {type(model).__name__}; a state dict or a module is expected"
        raise ConfigError("E104", what)
    problems = Collector()
    faulty: dict[str, list[str]] = {}
    for key, one in found.items():
        if not isinstance(key, str):
            problems.add(ConfigError("E104", f"{name}: the name {key!r} of a tensor is not text"))
        elif fault := _fault(one):
            faulty.setdefault(fault, []).append(key)
    for fault, keys in faulty.items():
        what = f"{name}: tensor '{keys[0]}' is {fault}"
        what += f"; so {'are' if len(keys) > 2 else 'is'} {some(keys[1:], 3)}" if len(keys) > 1 else ""
        problems.add(InputError("E233", what, tensor=keys[0], hint=_CURES.get(fault, "pass a plain tensor")))
    if not found:
        problems.add(InputError("E201", f"model '{name}' contains no tensors"))
    problems.raise_any()
    return cast("Mapping[str, Array]", found)


_META = "on the device 'meta', without numbers"
_LAZY = "of a lazy module that was never called, without numbers"
_CURES = {
    _META: "load the weights first, or merge the models in their folders by `mergecore.merge`",
    _LAZY: "call the module once first",
}
"""What to do about tensors with a fault that has a cure of its own."""


def _fault(one: object) -> str | None:
    """Why something cannot be merged as a tensor; None when it can."""
    import numpy as np
    import torch
    from torch.nn.parameter import is_lazy

    if isinstance(one, np.ndarray):
        return None
    if not isinstance(one, torch.Tensor):
        return f"a {type(one).__name__}, not a tensor"
    if is_lazy(one):
        return _LAZY
    if one.is_nested:
        return "nested, not plain numbers"
    if one.layout is not torch.strided or one.is_quantized:
        return f"{'quantised' if one.is_quantized else str(one.layout).removeprefix('torch.')}, not plain numbers"
    return _META if one.is_meta else None


def _config(model: object) -> Mapping[str, Json]:
    """The config of a module, as its config.json would have it; empty for any other."""
    config = getattr(model, "config", None)
    text = getattr(config, "to_json_string", None)
    value = parse_json(str(text()).encode(), code="E220", place="config.json") if callable(text) else None
    return value if isinstance(value, dict) else {}


def _tied(models: Sequence[Mapping[str, Array]]) -> dict[str, str]:
    """Names of tensors that are, in every model, the very tensor of an earlier name."""
    found = [_same(model) for model in models]
    return (
        {name: first for name, first in found[0].items() if all(one.get(name) == first for one in found)}
        if found
        else {}
    )


def _same(model: Mapping[str, Array]) -> dict[str, str]:
    import numpy as np

    first: dict[object, str] = {}
    found = {}
    for name, one in model.items():
        if math.prod(one.shape):
            place = one.ctypes.data if isinstance(one, np.ndarray) else (one.device, one.data_ptr())
            strides = one.strides if isinstance(one, np.ndarray) else one.stride()
            earlier = first.setdefault((place, strides, tuple(one.shape), str(one.dtype)), name)
            if earlier != name:
                found[name] = earlier
    return found
