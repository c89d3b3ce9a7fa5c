"""Numbers on their way into the blocks of an encoding; read `Encoder.encoded`."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mergecore.errors import MergecoreError, PluginError
from mergecore.types import Codec

Numbers = npt.NDArray[np.float32]


class Encoder:
    """Encodes the numbers of one tensor, which come in any stretches and from any thread.

    Whole blocks are encoded as they come.  Parts of a block wait until the rest is there.
    """

    def __init__(self, codec: Codec, encoding: str, tensor: str, writer: str) -> None:
        self.codec = codec
        self.encoding = encoding
        self._tensor, self._writer = tensor, writer
        self._parts: dict[int, tuple[Numbers, int]] = {}
        self._lock = threading.Lock()

    def limited(self, numbers: Tensor) -> Tensor:
        """The numbers, with an infinity in place of those that are too large."""
        limit = self.codec.largest
        if limit == math.inf or not numbers.numel() or float(numbers.abs().max()) <= limit:
            return numbers
        return torch.where(numbers.abs() > limit, torch.inf * numbers.sign(), numbers)

    def encoded(self, start: int, numbers: Tensor) -> Iterator[tuple[int, bytes]]:
        """What can be written once the float32 `numbers` (m,) from element `start` on are here: places and bytes."""
        size = self.codec.block_elements
        flat: Numbers = numbers.numpy()
        first = min(-start % size, len(flat))
        whole = (len(flat) - first) // size * size
        if first:
            yield from self._part(start, flat[:first])
        if whole:
            yield self._at(start + first, flat[first : first + whole])
        if first + whole < len(flat):
            yield from self._part(start + first + whole, flat[first + whole :])

    def _part(self, start: int, numbers: Numbers) -> Iterator[tuple[int, bytes]]:
        size = self.codec.block_elements
        index, inside = divmod(start, size)
        with self._lock:
            block, there = self._parts.pop(index, (np.empty(size, np.float32), 0))
            block[inside : inside + len(numbers)] = numbers
            there += len(numbers)
            if there < size:
                self._parts[index] = (block, there)
                return
        yield self._at(index * size, block)

    def _at(self, start: int, numbers: Numbers) -> tuple[int, bytes]:
        view = numbers.view()
        view.flags.writeable = False
        try:
            with np.errstate(all="ignore"):
                data = self.codec.encode(view)
            found, wanted = memoryview(data).nbytes, self.codec.nbytes(len(numbers))
        except MergecoreError:
            raise
        except (Exception, SystemExit) as error:
            raise self._fault("E604", f"failed: {type(error).__name__}: {error}") from error
        if found != wanted:
            what = f"makes {found} bytes of {len(numbers)} numbers, which take {wanted}"
            raise self._fault("E605", what)
        return self.codec.nbytes(start), data

    def _fault(self, code: str, what: str) -> PluginError:
        place = f"tensor '{self._tensor}': encoding '{self.encoding}' of the output writer '{self._writer}'"
        hint = "report it to the authors of the plugin"
        return PluginError(code, f"{place} {what}", tensor=self._tensor, plugin=self._writer, hint=hint)
