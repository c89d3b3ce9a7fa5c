"""Memory that is used again and again: what is allocated for every block costs a page fault for each page."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple, cast

import torch
from torch import Tensor


class Scratch:
    """Buffers by purpose, one set for each thread; what was in them is lost at the next request."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._mine = _Mine()

    @cached_property
    def inner(self) -> Scratch:
        """Buffers in the memory of the host for what is computed while these are in use."""
        return Scratch(torch.device("cpu"))

    def settle(self) -> None:
        """Let what is computed in this thread take as many threads as torch was told, whichever library does it."""
        self._mine.settled = True

    def numbers(self, purpose: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of that shape on the device; its content is undefined."""
        return self._buffer(purpose, shape, dtype, self.device)

    def raw(self, purpose: str, count: int, dtype: torch.dtype) -> Tensor:
        """A flat tensor in the memory of the host, to read into or write from."""
        return self._buffer(f"raw {purpose}", (count,), dtype, torch.device("cpu"))

    @contextmanager
    def lent(self, nbytes: int) -> Iterator[Tensor]:
        """Bytes in the memory of the host, which no other request gets until the `with` block ends."""
        mine = self._mine.__dict__
        depth: int = mine.get("depth", 0)
        mine["depth"] = depth + 1
        try:
            yield self.raw(f"lent {depth}", nbytes, torch.uint8)
        finally:
            mine["depth"] = depth

    def _buffer(
        self, purpose: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        buffers = cast("dict[tuple[str, torch.dtype], _Buffer]", self._mine.__dict__)
        last = buffers.get((purpose, dtype))
        if last and last.view.shape == shape:
            return last.view
        count = math.prod(shape)
        memory = last.memory if last and last.memory.numel() >= count else None
        if memory is None:
            memory = torch.empty(count, dtype=dtype, device=device)
        view = memory[:count].view(shape)
        buffers[(purpose, dtype)] = _Buffer(memory, view)
        return view


class _Mine(threading.local):
    """What a thread has of its own.  Linear algebra would take all processors in a thread that never asked torch."""

    def __init__(self) -> None:
        self.settled = torch.get_num_threads() > 0


class _Buffer(NamedTuple):
    """Memory that is used again and again, and how it was seen last."""

    memory: Tensor
    view: Tensor
