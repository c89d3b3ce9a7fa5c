"""Reading weights: files that must not change under us, and blocks of tensors as numbers to compute with.

Bytes are read with `preadv` into buffers that each thread keeps, so that a file that is cut short while it is
read gives an error and not a bus error, and no memory is allocated twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import cast

import numpy as np
import torch
from torch import Tensor

from mergecore.dtypes import DTYPES, torch_dtype
from mergecore.errors import InputError
from mergecore.types import Checkpoint, TensorInfo


class Scratch:
    """Buffers by purpose, one set for each thread; what was in them is lost at the next request."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._mine = threading.local()

    def numbers(self, purpose: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of that shape on the device; its content is undefined."""
        return self._buffer(purpose, shape, dtype, self.device)

    def raw(self, purpose: str, count: int, dtype: torch.dtype) -> Tensor:
        """A flat tensor in the memory of the host, to read into or write from."""
        return self._buffer(f"raw {purpose}", (count,), dtype, torch.device("cpu"))

    def _buffer(
        self, purpose: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        buffers = cast("dict[tuple[str, torch.dtype], Tensor]", self._mine.__dict__)
        count = 1
        for size in shape:
            count *= size
        flat = buffers.get((purpose, dtype))
        if flat is None or flat.numel() < count:
            flat = buffers[(purpose, dtype)] = torch.empty(count, dtype=dtype, device=device)
        return flat[:count].view(shape)


class WeightFiles:
    """The weight files of a plan, each opened once; use as a context manager."""

    def __init__(self, models: Iterable[Checkpoint]) -> None:
        self._stamps = {file.path: (file.stamp, file.size) for model in models for file in model.weight_files}
        self._descriptors: dict[Path, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> WeightFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def read(self, tensor: TensorInfo, first_byte: int, into: memoryview) -> None:
        """Fill `into` with the bytes of `tensor` from `first_byte` on.

        Raises:
            InputError: E235 when the file ends early, E236 when it cannot be read.
        """
        descriptor = self._descriptor(tensor.data.file)
        offset = tensor.data.offset + first_byte
        while into:
            try:
                count = os.preadv(descriptor, [into], offset)
            except OSError as error:
                raise InputError(
                    "E236", f"{tensor.data.file.name}: cannot be read: {error.strerror}"
                ) from error
            if count == 0:
                raise _changed(tensor.data.file, "it is shorter now")
            into = into[count:]
            offset += count

    def hint(self, tensor: TensorInfo, nbytes: int) -> None:
        """Tell the system that the first `nbytes` of `tensor` will be read soon."""
        if hasattr(os, "posix_fadvise"):
            descriptor = self._descriptor(tensor.data.file)
            os.posix_fadvise(descriptor, tensor.data.offset, nbytes, os.POSIX_FADV_WILLNEED)

    def check_unchanged(self) -> None:
        """Raise E235 when a file that was read is not the one that was planned with."""
        for path in self._descriptors:
            self._check(path)

    def _descriptor(self, path: Path) -> int:
        descriptor = self._descriptors.get(path)
        if descriptor is None:
            with self._lock:
                descriptor = self._descriptors.get(path)
                if descriptor is None:
                    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
                    self._descriptors[path] = descriptor
                    self._check(path)
        return descriptor

    def _check(self, path: Path) -> None:
        if path in self._stamps:
            state = path.stat()
            now = ((state.st_dev, state.st_ino, state.st_mtime_ns), state.st_size)
            if now != self._stamps[path]:
                raise _changed(path, "its size, inode or modification time is another")


@dataclass
class Fault:
    """Non-finite values found in one tensor."""

    count: int = 0
    first: int = -1

    def add(self, count: int, first: int) -> None:
        """Count `count` more, the first of them at `first`."""
        self.count += count
        self.first = first if self.first < 0 else min(self.first, first)


class StepInputs:
    """The inputs of one output tensor, read stretch by stretch as numbers of the dtype to compute in."""

    def __init__(
        self,
        files: WeightFiles,
        scratch: Scratch,
        tensors: Sequence[tuple[str, TensorInfo]],
        allow_nonfinite: bool = False,
    ) -> None:
        """`tensors`: each with the words to use in messages, in the order of the rows that `load` fills."""
        self._files = files
        self._scratch = scratch
        self._tensors = tensors
        self._faults: dict[str, Fault] = {}
        self._lock = threading.Lock()
        self._check = not allow_nonfinite

    def load(self, start: int, stop: int, rows: Iterable[Tensor]) -> None:
        """Fill each of `rows` (m,) with the elements `start` to `stop` of one input."""
        for (name, tensor), row in zip(self._tensors, rows, strict=True):
            raw = read_elements(self._files, self._scratch, tensor, start, stop)
            if self._check and DTYPES[tensor.dtype].floating:
                self._note(name, raw, start)
            row.copy_(raw)

    def raise_faults(self) -> None:
        """Raise E234 for the non-finite values met so far; from then on they are no longer looked for."""
        self._check = False
        for name, fault in self._faults.items():
            values = "1 value is" if fault.count == 1 else f"{fault.count} values are"
            raise InputError(
                "E234",
                f"{name}: {values} not finite (NaN or Inf), the first at index {fault.first}",
                tensor=dict(self._tensors)[name].name,
                hint="the checkpoint is damaged; use another, or --allow-nonfinite",
            )

    def _note(self, name: str, raw: Tensor, start: int) -> None:
        if has_nonfinite(raw):
            bad = (~torch.isfinite(raw)).nonzero().view(-1)
            with self._lock:
                self._faults.setdefault(name, Fault()).add(len(bad), start + int(bad[0]))


def read_elements(files: WeightFiles, scratch: Scratch, tensor: TensorInfo, start: int, stop: int) -> Tensor:
    """The elements `start` to `stop` of `tensor` as stored, flat, in a buffer of this thread."""
    dtype = torch_dtype(tensor.dtype)
    raw = scratch.raw("input", stop - start, dtype)
    files.read(tensor, start * dtype.itemsize, as_bytes(raw))
    return raw


def as_bytes(flat: Tensor) -> memoryview:
    """The memory of a flat host tensor."""
    return memoryview(flat.view(torch.uint8).numpy().data)


def has_nonfinite(flat: Tensor) -> bool:
    """Whether a flat host tensor of floats holds a NaN or an Inf; two maxima over the bits, no temporary."""
    if not flat.numel():
        return False
    bits = torch.finfo(flat.dtype).bits
    unsigned = flat.view(_INTEGERS[bits]).numpy().view(f"u{bits // 8}")
    exponent = _EXPONENTS[flat.dtype]
    sign = 1 << (bits - 1)
    return bool(unsigned.view(f"i{bits // 8}").max() >= exponent or unsigned.max() >= exponent + sign)


_INTEGERS = {8: torch.uint8, 16: torch.int16, 32: torch.int32, 64: torch.int64}
_EXPONENTS = {
    dtype: int(
        np.asarray(torch.tensor([float("inf")], dtype=dtype).view(_INTEGERS[torch.finfo(dtype).bits])[0])
    )
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64)
}


def _changed(path: Path, how: str) -> InputError:
    return InputError(
        "E235",
        f"{path.name}: the file changed while it was read: {how}",
        hint="run again when nobody writes to it",
    )
