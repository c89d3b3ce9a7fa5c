"""The model source `copy_of`: `copy-of:MODEL` is whatever MODEL is, opened by whichever source accepts that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mergecore import Checkpoint, ModelSource, hookimpl
from mergecore.types import ModelReference, OpenOptions

PREFIX = "copy-of:"


def accepts(reference: ModelReference, options: OpenOptions) -> bool:
    return reference.path.startswith(PREFIX)


def open_copy(reference: ModelReference, options: OpenOptions) -> Checkpoint:
    original = options.open_model(reference.path.removeprefix(PREFIX), weights=options.weights)
    return replace(original, reference=reference)


@hookimpl
def mergecore_model_sources() -> Iterator[ModelSource]:
    yield ModelSource(name="copy_of", accepts=accepts, open=open_copy, rank=10)
