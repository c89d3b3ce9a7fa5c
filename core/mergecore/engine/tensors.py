"""Tensors of opened models, read outside of a merge; read `open_tensors`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from mergecore.compute.matrices import ExtraRows
from mergecore.compute.scratch import Scratch
from mergecore.engine.weights import StepInputs, WeightFiles
from mergecore.types import Checkpoint, TensorInput
from mergecore.types.groups import Matrix


@contextmanager
def open_tensors(
    models: Sequence[Checkpoint], tensors: Mapping[str, TensorInput], *, allow_nonfinite: bool = False
) -> Iterator[Mapping[str, Matrix]]:
    """Each of `tensors`, which are of `models`, as something to read rows of; files are open until the `with` ends.

    Weights that are not on this machine yet are downloaded first, unless the models were opened offline.  A file that
    has changed since it was opened is an error, and so is a NaN or an infinity when `raise_faults` is called.

    Raises:
        InputError: E234 to E236, while tensors are read.
    """
    everyone = [*models, *(part for one in models for part in one.parts)]
    for one in everyone:
        if one.fetch:
            one.fetch(lambda file, done, total: None)
    with WeightFiles(everyone) as files:
        yield _Opened(files, [model.name for model in models], tensors, allow_nonfinite)


class _Opened(Mapping[str, Matrix]):
    """Tensors that are made ready when they are asked for."""

    def __init__(
        self,
        files: WeightFiles,
        names: Sequence[str],
        tensors: Mapping[str, TensorInput],
        allow_nonfinite: bool,
    ) -> None:
        self._files = files
        self._names = names
        self._tensors = tensors
        self._allow_nonfinite = allow_nonfinite
        self._scratch = Scratch(torch.device("cpu"))

    def __getitem__(self, name: str) -> Matrix:
        one = self._tensors[name]
        inputs = StepInputs(self._files, self._scratch, [one], self._names.__getitem__, self._allow_nonfinite)
        return ExtraRows(one, inputs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
