"""Where the numbers of a tensor come from: bytes of a file, memory, other tensors; read `TensorData` first.

The engine knows none of these by name.  A source or a recipe brings its own where a tensor has to be computed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, runtime_checkable

from mergecore.errors import InputError
from mergecore.files.dtypes import DTYPES, torch_dtype

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor
    from torch.nn import Module

BLOCK = 2**18
"""Elements of a block.  Fixed, so that results and digests never depend on memory or threads."""

ForEach: TypeAlias = Callable[[int, Callable[[int], None]], None]
"""Calls a function with every index below a count, on any worker and in any order, and waits for all."""


Array: TypeAlias = "Tensor | npt.NDArray[np.generic]"
"""A tensor of torch or an array of numpy."""

StateDict: TypeAlias = "Mapping[str, Array] | Module"
"""The tensors of a model in memory by name, or a module of torch that has them."""


class TensorData(Protocol):
    """Where the numbers of a tensor come from.  A frozen value that can be pickled.

    One that has to look at its numbers first has a method `prepare` as well (`Prepares`).
    """

    @property
    def dtype(self) -> str:
        """The format of its numbers, as a header says it, such as "BF16"; a copy of it has this format."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, which is known before anything is read."""

    @property
    def reads(self) -> tuple[Read, ...]:
        """The stored tensors that it reads, each once."""

    @property
    def identity(self) -> str:
        """What decides its numbers beside the stored tensors, such as a scale; empty for one that is as stored."""

    @property
    def computed(self) -> bool:
        """Whether its numbers are computed, so that they may lie between those of `dtype`: they are rounded once.

        They are then asked for in float32 or float64, in the memory of the host.
        """

    @property
    def extra_memory(self) -> tuple[int, int]:
        """Bytes that it keeps beside a block: once, and again for each worker."""

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` (stop - start,) with the elements from `start` up to `stop`; called from any thread.

        `reader` reads the stored tensors and lends memory.
        """


@runtime_checkable
class Prepares(Protocol):
    """A `TensorData` that needs a pass over its numbers before the first is loaded."""

    def prepare(self, reader: Reader, for_each: ForEach) -> TensorData:
        """What is loaded from in its place, with what the pass has found; called once for every use."""


class Origin(Protocol):
    """A stored tensor: what `Stored` and `InMemory` have in common."""

    @property
    def name(self) -> str:
        """Its name where it is stored, for messages."""

    @property
    def dtype(self) -> str:
        """Its format."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""


class Read(NamedTuple):
    """A stored tensor that is read; `model` is the index into `Plan.models` where it is of another model."""

    tensor: Origin
    model: int | None = None


class Reader(Protocol):
    """What `TensorData.load` reads with; NaN and Inf in stored tensors are noted and reported by their places."""

    @property
    def unchecked(self) -> Reader:
        """The same, which does not look for NaN and Inf."""

    def read(self, tensor: Stored, start: int, into: Tensor) -> None:
        """Fill `into` (m,), of any dtype and on any device, with the elements of `tensor` from `start` on."""

    def take(self, tensor: Origin, start: int, numbers: Tensor, into: Tensor) -> None:
        """The same where the `numbers` (m,) of `tensor` are in the memory of the host already."""

    def suspects(self, numbers: Tensor) -> bool:
        """Whether there is a NaN or Inf among `numbers` (m,), and such are looked for."""

    def room(self, shape: tuple[int, ...], dtype: torch.dtype) -> AbstractContextManager[Tensor]:
        """A tensor in the memory of this thread, with anything in it, until the `with` block ends."""


def prepared(data: TensorData, reader: Reader, for_each: ForEach) -> TensorData:
    """What to load the numbers of `data` from, after the pass that it may need."""
    return data.prepare(reader, for_each) if isinstance(data, Prepares) else data


def described(data: TensorData) -> tuple[str, ...]:
    """What decides the numbers of a tensor beside the content of files: how they are made, and of what."""
    return (data.identity, *(read.tensor.name for read in data.reads))


def extra_memory_of(parts: Iterable[TensorData]) -> tuple[int, int]:
    """Bytes that tensors keep together: once, and again for each worker."""
    kept = [one.extra_memory for one in {id(part): part for part in parts}.values()]
    return sum(once for once, _ in kept), max((each for _, each in kept), default=0)


def one_by_one(count: int, work: Callable[[int], None]) -> None:
    """Call `work` with every index below `count`, in order, in this thread."""
    for index in range(count):
        work(index)


# ---- as stored ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its elements, little-endian, in C order, from byte `offset` on."""

    name: str
    """Its name in the file."""
    dtype: str
    """Its format, as the header says it."""
    shape: tuple[int, ...]
    """Its shape."""
    file: Path
    """The file that holds it."""
    offset: int

    computed = False
    identity = ""
    extra_memory = (0, 0)

    @property
    def reads(self) -> tuple[Read, ...]:
        """Itself."""
        return (Read(self),)

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` with bytes of the file."""
        reader.read(self, start, into)


@dataclass(frozen=True, eq=False)
class InMemory:
    """A tensor of torch or an array of numpy, which must not change while it is used."""

    name: str
    """Its name, for messages."""
    array: Array
    """Its numbers."""

    computed = False
    extra_memory = (0, 0)

    @cached_property
    def dtype(self) -> str:
        """Its format."""
        word = str(getattr(self.array.dtype, "name", self.array.dtype)).removeprefix("torch.")
        for one in DTYPES.values():
            if one.torch_name == word:
                return one.name
        raise InputError("E205", f"tensor '{self.name}': unknown dtype '{word}'", tensor=self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.array.shape)

    @property
    def reads(self) -> tuple[Read, ...]:
        """Itself."""
        return (Read(self),)

    @cached_property
    def identity(self) -> str:
        """A digest of its numbers."""
        import torch

        digest = hashlib.sha256(repr((self.dtype, self.shape)).encode())
        count = math.prod(self.shape)
        for start in range(0, count, _STRETCH):
            stretch = self._stretch(start, min(start + _STRETCH, count))
            digest.update(stretch.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` with numbers of the array."""
        reader.take(self, start, self._stretch(start, stop), into)

    def _stretch(self, start: int, stop: int) -> Tensor:
        """The elements from `start` up to `stop`, in C order; only these are copied where they lie otherwise."""
        if len(self.shape) < 2:
            return self._rows(start, stop)
        width = max(1, math.prod(self.shape[1:]))
        first = start // width
        return self._rows(first, -(-stop // width))[start - first * width : stop - first * width]

    def _rows(self, first: int, stop: int) -> Tensor:
        import numpy as np
        import torch

        part = self.array[first:stop] if self.shape else self.array
        if isinstance(part, torch.Tensor):
            return part.detach().resolve_conj().resolve_neg().reshape(-1).contiguous().cpu()
        flat = np.array(part, dtype=part.dtype.newbyteorder("="), order="C").reshape(-1)
        return torch.from_numpy(flat.view(f"i{flat.itemsize}")).view(torch_dtype(self.dtype))


_STRETCH = 1 << 22
"""Elements of which a digest is made at once."""
