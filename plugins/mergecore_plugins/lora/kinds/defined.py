"""Changes that PEFT's own layers make, for kinds of adapters without arithmetic here; read `Defined` first.

One layer is built around the weight of the base, under the name that its module has in the model; PEFT puts the
adapter on it and merges it.  PEFT is imported only then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from mergecore.errors import InputError
from mergecore.files import parse_json
from mergecore.types import Json, TensorInfo
from mergecore_plugins.lora.changes import Opened, Read, Rows, as_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

KINDS = (
    "BEFT",
    "BOFT",
    "C3A",
    "DEFT",
    "DELORA",
    "FOURIERFT",
    "GLORA",
    "GRALORA",
    "HIRA",
    "HRA",
    "LOHA",
    "LOKR",
    "MISS",
    "OFT",
    "PEANUT",
    "ROAD",
    "SUPERTUNING",
    "WAVEFT",
)
"""Kinds whose layers need nothing but their weight, the config and their own tensors."""
WITH_BIAS = ("BEFT", "ROAD")
"""Kinds that change the bias of a layer, too."""


@dataclass(frozen=True)
class Layer:
    """A layer of the base: what it is, its name in the model, and the shape of its weight as the base holds it."""

    name: str
    form: str
    """linear, conv1d (weights as (in, out)), embedding, or a convolution of that many axes: 1, 2, 3."""
    shape: tuple[int, ...]
    bias: bool


@dataclass(frozen=True)
class Defined:
    """A whole tensor as PEFT changes it; `parameter` is "weight" or "bias"."""

    config: str
    """What adapter_config.json says, as JSON."""
    layer: Layer
    tensors: tuple[tuple[str, TensorInfo], ...]
    """By what PEFT calls them, such as `oft_R`."""
    parameter: str = "weight"

    @property
    def stored(self) -> tuple[TensorInfo, ...]:
        return tuple(one for _, one in self.tensors)

    @property
    def identity(self) -> str:
        return f"by peft, {self.parameter} of {self.layer.name}, {self.config}"

    def named(self) -> dict[str, TensorInfo]:
        """The tensors by their names in a file of PEFT."""
        return {
            f"{self.layer.name}.{word}{'.weight' if one.name.endswith('.weight') else ''}": one
            for word, one in self.tensors
        }

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return as_matrix(shape)

    def held(self, shape: tuple[int, ...]) -> int:
        """The weight, the changed one, what is between, and the square matrices of rotations."""
        count = math.prod(self.layer.shape)
        square = max(as_matrix(self.layer.shape)) ** 2
        return 4 * (4 * count + 3 * square + 3 * sum(one.count for one in self.stored))

    def open(self, read: Read, rows: Rows, shape: tuple[int, ...]) -> Opened:
        """The changed tensor, all of it."""
        import torch

        before = rows(0, as_matrix(shape)[0]).view(shape)
        model = _model(self.layer, before.dtype, "cpu")
        target = model.get_submodule(self.layer.name)
        with torch.no_grad():
            for one, numbers in target.named_parameters():
                numbers.copy_(before) if one == self.parameter else numbers.zero_()
            config = cast("dict[str, Json]", parse_json(self.config, code="E250"))
            _adapted(model, config, self.layer.name)
            _fill(model, {key: read(one) for key, one in self.named().items()})
            layer: Any = model.get_submodule(self.layer.name)
            layer.merge()
            changed = getattr(layer.get_base_layer(), self.parameter).detach()
        return _Changed(changed.reshape(as_matrix(shape)).to(before.dtype))


class _Changed:
    grain = 1

    def __init__(self, changed: Tensor) -> None:
        self._changed = changed

    def apply(self, first: int, x: Tensor, unchanged: Tensor) -> Tensor:
        return x.copy_(self._changed[first : first + len(x)])


def check(change: Defined, config: Mapping[str, Json], place: str) -> None:
    """Raise E250 unless PEFT would put an adapter of these tensors on the layer; no number is read."""
    name = change.layer.name
    with _told(name, place):
        import torch

        model = _model(change.layer, torch.float32, "meta")
        with torch.device("cpu" if config.get("peft_type") in _COUNTING else "meta"):
            _adapted(model, config, name, empty=True)
        wanted = _expected(model)
    given = {key: one.shape for key, one in change.named().items()}
    for key in sorted(wanted.keys() | given.keys()):
        if wanted.get(key) != given.get(key):
            there = f"{list(given[key])}" if key in given else "not there"
            right = f"{list(wanted[key])}" if key in wanted else "none"
            what = f"'{key}' is {there}; by its config, the adapter has {right}"
            raise InputError("E250", what, place=place, hint="the config and the weights must go together")


_COUNTING = ("BOFT",)
"""Kinds that look into tensors that they make; what they accept is no larger than the square of a layer's width."""


@contextmanager
def _told(name: str, place: str) -> Iterator[None]:
    """Report what PEFT does not accept as a fault of the adapter."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, NotImplementedError) as error:
        raise _refused(name, error, place) from error
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise _refused(name, error, place) from error


def _refused(name: str, error: Exception, place: str) -> InputError:
    said = " ".join(str(error).split())[:200]
    what = f"PEFT cannot put the adapter on '{name}': {said or type(error).__name__}"
    return InputError("E250", what, place=place, hint="the config and the weights must go together")


# ---- one layer ---------------------------------------------------------------------------------------------


def _model(layer: Layer, dtype: Any, device: str) -> nn.Module:
    """A model of that layer alone, under its full name."""
    from torch import nn

    model = nn.Module()
    *outer, last = layer.name.split(".")
    inside = model
    for word in outer:
        inside.add_module(word, nn.Module())
        inside = inside.get_submodule(word)
    inside.add_module(last, _built(layer, {"dtype": dtype, "device": device}))
    return model


def _built(layer: Layer, where: dict[str, Any]) -> nn.Module:
    from torch import nn

    if layer.form == "conv1d":
        from transformers.pytorch_utils import Conv1D

        return Conv1D(layer.shape[1], layer.shape[0]).to(**where)
    if layer.form == "embedding":
        return nn.Embedding(layer.shape[0], layer.shape[1], **where)
    out, into, *kernel = layer.shape
    if layer.form == "linear":
        return nn.Linear(into, out, bias=layer.bias, **where)
    kinds: dict[str, Any] = {"1": nn.Conv1d, "2": nn.Conv2d, "3": nn.Conv3d}
    made: nn.Module = kinds[layer.form](into, out, tuple(kernel), bias=layer.bias, **where)
    return made


OF_A_MODEL = (
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "modules_to_save",
    "peft_version",
    "revision",
    "runtime_config",
    "target_modules",
    "target_parameters",
    "task_type",
    "trainable_token_indices",
)
"""What a config says about the whole model, and a layer alone does not need."""


def _adapted(model: nn.Module, config: Mapping[str, Json], name: str, empty: bool = False) -> None:
    import warnings

    import peft

    values: dict[str, Any] = {key: one for key, one in config.items() if key not in OF_A_MODEL}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read: Any = peft.PeftConfig.from_peft_type
        made = read(**values, target_modules=[name])
        made.inference_mode = True
        peft.inject_adapter_in_model(made, model, low_cpu_mem_usage=empty)


def _expected(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The tensors that PEFT would save of an adapter, with their shapes."""
    import peft

    saved = peft.get_peft_model_state_dict(model)
    return {key.removeprefix("base_model.model."): tuple(one.shape) for key, one in saved.items()}


def _fill(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    import peft

    peft.set_peft_model_state_dict(model, tensors)
