"""The model source `low_rank`: `low-rank:S:FOLDER` is the model FOLDER/base with W + S · B A in place of W."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mergecore import Checkpoint, ModelSource, hookimpl
from mergecore.types import ModelReference, OpenOptions, TensorInfo


def accepts(reference: ModelReference, options: OpenOptions) -> bool:
    return reference.path.startswith("low-rank:")


def open_sum(reference: ModelReference, options: OpenOptions) -> Checkpoint:
    from low_rank_sum import LowRankSum  # it imports torch

    _, scale, folder = reference.path.split(":")
    base = options.open_model(f"{folder}/base", weights=options.weights)
    adapter = options.open_model(f"{folder}/adapter.safetensors")
    tensors = dict(base.tensors)
    for name in [name.removesuffix(".A") for name in adapter.tensors if name.endswith(".A")]:
        parts = (tensors[name].data, adapter.tensors[f"{name}.B"].data, adapter.tensors[f"{name}.A"].data)
        tensors[name] = TensorInfo(name, LowRankSum(parts, float(scale)))
    files = (*base.weight_files, *adapter.weight_files)
    return replace(base, reference=reference, tensors=tensors, weight_files=files)


@hookimpl
def mergecore_model_sources() -> Iterator[ModelSource]:
    yield ModelSource(name="low_rank", accepts=accepts, open=open_sum, rank=10)
