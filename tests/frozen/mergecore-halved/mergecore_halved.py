"""halved: `halved:MODEL` is MODEL with half of every number, computed while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mergecore import Checkpoint, InputError, ModelSource, hookimpl
from mergecore.types import Computed, ModelReference, OpenOptions, TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore.types import Reader

MERGECORE_API = 1
PREFIX = "halved:"


@dataclass(frozen=True)
class Scaled(Computed):
    """A tensor times a number."""

    factor: float

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        self.parts[0].load(reader, start, stop, into)
        into.mul_(self.factor)


def accepts(reference: ModelReference, options: OpenOptions) -> bool:
    return reference.path.startswith(PREFIX)


def open_halved(reference: ModelReference, options: OpenOptions) -> Checkpoint:
    name = reference.path.removeprefix(PREFIX)
    if not name:
        raise InputError("E701", "'halved:' names no model", hint="write halved:MODEL")
    whole = options.open_model(name, weights=options.weights)
    tensors = {name: TensorInfo(name, Scaled((one.data,), 0.5)) for name, one in whole.tensors.items()}
    return replace(whole, reference=reference, tensors=tensors)


@hookimpl
def mergecore_model_sources() -> Iterator[ModelSource]:
    yield ModelSource(name="halved", accepts=accepts, open=open_halved, rank=10)
