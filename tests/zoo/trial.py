"""One trial of a model class: saved by transformers, merged two ways, compared to the bit, stacked, loaded again.

Read `trial`; it returns what went wrong, and nothing when all is well.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from zoo.classes import CannotBuildError, Entry, tiny_model

from mergecore.errors import ConfigError, MergecoreError
from mergecore.models.folder import open_folder
from mergecore.pipeline import merge
from mergecore.plugins.registry import Registry
from mergecore.types import Json, ModelReference
from mergecore_architectures import names
from mergecore_architectures.transformers import describe

Stage = Literal["build", "save", "merge", "compare", "load"]


@dataclass(frozen=True)
class Fault:
    """Where a trial ended, and why; `build` and `save` are failures of transformers or of the tiny config."""

    stage: Stage
    reason: str

    @property
    def ours(self) -> bool:
        """Whether transformers did its part."""
        return self.stage not in ("build", "save")


@dataclass(frozen=True)
class Outcome:
    """What came of a class."""

    fault: Fault | None
    stacked: bool = False
    """Whether its layers could be stacked, and the result loaded; refusing that with a reason is no fault."""


def trial(entry: Entry, folder: Path, registry: Registry, dtype: torch.dtype = torch.bfloat16) -> Outcome:
    """Merge tiny models of a class in `folder`, down to the first fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cls = _save(entry, folder, dtype)
        except CannotBuildError as error:
            return Outcome(Fault("build", str(error)))
        except Exception as error:  # noqa: BLE001  what a class raises when it saves itself is its own
            return Outcome(Fault("save", f"{type(error).__name__}: {error}"))
        fault = _merge_both(folder, registry)
        fault = fault or _load(cls, folder / "mean")
        gc.collect()
        return Outcome(fault) if fault else _stack(cls, folder, registry)


def _save(entry: Entry, folder: Path, dtype: torch.dtype) -> Any:
    """Write the models `a` and `b`, whose floating tensors differ; the class of them."""
    model = tiny_model(entry, dtype)
    model.save_pretrained(folder / "a")
    faults = _faults_of_loading(type(model), folder / "a")
    if faults:
        raise ValueError(f"transformers does not load what it saves: {faults}")
    tensors = load_file(folder / "a" / "model.safetensors")
    (folder / "b").mkdir()
    (folder / "b" / "config.json").write_bytes((folder / "a" / "config.json").read_bytes())
    save_file({name: _other(tensor) for name, tensor in tensors.items()}, folder / "b" / "model.safetensors")
    return type(model)


def _other(tensor: Tensor) -> Tensor:
    """Other numbers of the same magnitude; integers stay as they are."""
    return (tensor.double().flip(0) * 0.75 + 1).to(tensor.dtype) if _merged(tensor) else tensor.clone()


def _merged(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dim() > 0


def _merge_both(folder: Path, registry: Registry) -> Fault | None:
    one: Json = {"model": str(folder / "a")}
    two: Json = {"model": str(folder / "b")}
    identity: dict[str, Json] = {"merge_method": "passthrough", "models": [one]}
    linear: dict[str, Json] = {"merge_method": "linear", "models": [one, two], "parameters": {"weight": 0.5}}
    a, b = (load_file(folder / name / "model.safetensors") for name in "ab")
    middle = {name: _middle(a[name], b[name]) for name in a}
    for name, config, expected in (("same", identity, a), ("mean", linear, middle)):
        try:
            merge(config, folder / name, registry=registry)
        except MergecoreError as error:
            return Fault("merge", f"{error.code}: {error}")
        if difference := _difference(expected, load_file(folder / name / "model.safetensors")):
            return Fault("compare", f"{name}: {difference}")
    return None


def _middle(a: Tensor, b: Tensor) -> Tensor:
    if not a.is_floating_point():
        return a
    wide = torch.float64 if a.dtype == torch.float64 else torch.float32
    return (a.to(wide) * 0.5 + b.to(wide) * 0.5).to(a.dtype)


def _difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    if missing := sorted(expected.keys() - found.keys()):
        return f"{len(missing)} tensors are missing, such as {missing[0]}"
    if more := sorted(found.keys() - expected.keys()):
        return f"{len(more)} tensors are new, such as {more[0]}"
    for name, tensor in expected.items():
        other = found[name]
        if (tensor.dtype, tensor.shape) != (other.dtype, other.shape):
            return f"{name} is {other.dtype} {list(other.shape)}, not {tensor.dtype} {list(tensor.shape)}"
        if not torch.equal(tensor, other):
            return f"the values of {name} differ"
    return None


def _load(cls: Any, folder: Path) -> Fault | None:
    faults = _faults_of_loading(cls, folder)
    return Fault("load", faults) if faults else None


def _stack(cls: Any, folder: Path, registry: Registry) -> Outcome:
    """Repeat the last two layers; a refusal is well, a model that does not load is not."""
    model = open_folder(folder / "a", ModelReference(str(folder / "a")))
    main = (describe(model) or names.describe(model)).main
    if main is None:
        return Outcome(None)
    ranges: list[list[Json]] = [[0, main.count], [max(0, main.count - 2), main.count]]
    sources: list[Json] = [{"sources": [{"model": str(folder / "a"), "layer_range": one}]} for one in ranges]
    try:
        merge({"merge_method": "passthrough", "slices": sources}, folder / "stacked", registry=registry)
    except ConfigError as error:
        return Outcome(None if error.code == "E113" else Fault("merge", f"{error.code}: {error}"))
    fault = _load(cls, folder / "stacked")
    return Outcome(fault, stacked=fault is None)


def _faults_of_loading(cls: Any, folder: Path) -> str:
    """What transformers misses, does not expect or finds of another shape in a checkpoint."""
    _, told = cls.from_pretrained(folder, output_loading_info=True, dtype="auto")
    found = {
        key: sorted(map(str, told[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    return "; ".join(f"{len(names)} {key} ({names[0]}, …)" for key, names in found.items() if names)
