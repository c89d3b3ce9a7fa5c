"""Groups that find what methods must not do, and the memory that they take."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mergecore.compute.block import StreamedBlock
from mergecore.compute.group import StreamedGroup


class Guarded(StreamedGroup):
    """A group that finds a method which writes to what it must not change."""

    def _completed(self, block: StreamedBlock, result: Tensor) -> Tensor:
        handed_out, original = vars(block).get("base"), block.original
        if handed_out is not None and original is not None and not torch.equal(handed_out, original):
            raise AssertionError(
                "the method writes into `block.base`, which is a copy: what it writes is lost"
            )
        return super()._completed(block, result)


class Streamed(StreamedGroup):
    """A group that finds a method which reads whole tensors and does not say so."""

    @property
    def x(self) -> Tensor:
        if not self._whole:
            raise AssertionError(
                "the method reads `x`: say needs_whole_tensors=True, so that its memory is planned for"
            )
        return super().x


class Memory(TorchDispatchMode):
    """While it lasts, counts the bytes of all tensors that are made and alive: `peak` is the most of them."""

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._known = {one.untyped_storage()._cdata for one in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, Tensor):
                self._note(one)
        return made

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # two tensors that share memory have one
        if key in self._known:
            return
        self._known.add(key)
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
