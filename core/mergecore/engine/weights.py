"""Reading weights: files that must not change under us, and blocks of tensors as numbers to compute with.

Bytes are read with `preadv` into buffers that each thread keeps, so that a file that is cut short while it is
read gives an error and not a bus error, and no memory is allocated twice.
"""

from __future__ import annotations

import bisect
import os
import resource
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor

from mergecore.compute.scratch import Scratch
from mergecore.errors import Collector, InputError, MergecoreError
from mergecore.files.dtypes import torch_dtype
from mergecore.files.exhaustion import exhausted
from mergecore.files.safe_open import stamp_of
from mergecore.types import Checkpoint, TensorInfo

SPARE_FILES = 256
"""Open files beside those of the models: the output, libraries, standard streams."""


class WeightFiles:
    """The weight files of a plan, each opened once; use as a context manager."""

    def __init__(self, models: Iterable[Checkpoint]) -> None:
        self._planned = {file.path: file for model in models for file in model.weight_files}
        self._names = {
            file.path: f"{model.name}/{model.file_name(file)}"
            for model in models
            for file in model.weight_files
        }
        _allow_files(len(self._planned))
        self._opened: dict[Path, _OpenFile] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> WeightFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in self._opened.values():
            os.close(opened.descriptor)
        self._opened.clear()

    def read(self, tensor: TensorInfo, first_byte: int, into: memoryview) -> None:
        """Fill `into` with the bytes of `tensor` from `first_byte` on.

        Raises:
            InputError: E235 when the file is not the one that was planned with, or ends early, E236 when it
                cannot be read.
        """
        if tensor.pieces:
            self._read_pieces(tensor, first_byte, into)
            return
        path = tensor.data.file
        descriptor = self._descriptor(path)
        offset = tensor.data.offset + first_byte
        while into:
            try:
                count = os.preadv(descriptor, [into], offset)
            except OSError as error:
                raise self._unreadable(path, error) from error
            if count == 0:
                raise self._changed(path, "it is shorter now")
            into = into[count:]
            offset += count

    def _read_pieces(self, tensor: TensorInfo, first_byte: int, into: memoryview) -> None:
        size = torch_dtype(tensor.dtype).itemsize
        index = bisect.bisect(tensor.pieces, first_byte, key=lambda piece: piece.at * size) - 1
        while into:
            piece = tensor.pieces[index]
            inside = first_byte - piece.at * size
            count = min(len(into), piece.count * size - inside)
            self.read(piece.tensor, piece.start * size + inside, into[:count])
            into = into[count:]
            first_byte += count
            index += 1

    def check_unchanged(self) -> None:
        """Raise E235 when a file that was read is another one by now."""
        for path, opened in self._opened.items():
            with self._telling(path):
                self._check(path, opened.stamp, opened.size, path.stat())

    def _descriptor(self, path: Path) -> int:
        if path not in self._opened:
            with self._lock:
                if path not in self._opened:
                    self._opened[path] = self._open(path)
        return self._opened[path].descriptor

    def _open(self, path: Path) -> _OpenFile:
        planned = self._planned.get(path)
        with self._telling(path):
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # it may be a pipe by now
            try:
                state = os.fstat(descriptor)
                if planned:
                    downloaded = not any(planned.stamp)
                    self._check(path, stamp_of(state) if downloaded else planned.stamp, planned.size, state)
            except BaseException:
                os.close(descriptor)
                raise
        return _OpenFile(descriptor, stamp_of(state), state.st_size)

    def _check(self, path: Path, stamp: tuple[int, ...], size: int, state: os.stat_result) -> None:
        if state.st_size != size:
            raise self._changed(path, f"it has {state.st_size} bytes, not {size}")
        if stamp_of(state) != stamp:
            raise self._changed(path, "its inode or modification time is another")

    @contextmanager
    def _telling(self, path: Path) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise self._changed(path, "it is gone") from None
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _changed(self, path: Path, how: str) -> InputError:
        what = f"the file changed after the merge was planned: {how}"
        return InputError("E235", what, place=self._name(path), hint="run again when nobody writes to it")

    def _unreadable(self, path: Path, error: OSError) -> MergecoreError:
        if lacking := exhausted(error):
            return lacking
        return InputError("E236", f"cannot be read: {error.strerror}", place=self._name(path))

    def _name(self, path: Path) -> str:
        return self._names.get(path, path.name)


@dataclass(frozen=True)
class _OpenFile:
    descriptor: int
    stamp: tuple[int, ...]
    size: int


# ---- numbers -----------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """Wrong values found in one tensor: how many, and where the first one is."""

    count: int = 0
    first: int = -1

    def add(self, places: Tensor) -> None:
        """Count the elements at `places` (k,), which ascend."""
        if len(places):
            self.count += len(places)
            self.first = int(places[0]) if self.first < 0 else min(self.first, int(places[0]))

    @property
    def values(self) -> str:
        """`1 value is`, or `7 values are`."""
        return "1 value is" if self.count == 1 else f"{self.count} values are"


class Mapped(Protocol):
    """A tensor whose rows are not read as they are stored."""

    def load(self, start: int, stop: int, into: Tensor, check: bool) -> None:
        """Fill `into` (m,) with the elements `start` to `stop` of the tensor as the output has it."""

    def faults(self) -> Iterable[tuple[str, TensorInfo, Fault]]:
        """The wrong values in stored tensors, each with the name of its model."""


class StepInputs:
    """The inputs of one output tensor, read stretch by stretch as numbers of the dtype to compute in."""

    def __init__(
        self,
        files: WeightFiles,
        scratch: Scratch,
        tensors: Sequence[tuple[str, TensorInfo]],
        allow_nonfinite: bool = False,
        mapped: Mapping[int, Mapped] | None = None,
    ) -> None:
        """`tensors`: each with the model's name, in the order of the rows that `load` fills.

        mapped: those whose own rows are moved, by their places among the tensors.
        """
        self._files = files
        self._scratch = scratch
        self._tensors = tensors
        self._mapped = mapped or {}
        self._faults = [Fault() for _ in tensors]
        self._lock = threading.Lock()
        self._check = not allow_nonfinite

    def load(self, start: int, stop: int, rows: Iterable[Tensor], check: bool = True) -> None:
        """Fill each of `rows` (m,) with the elements `start` to `stop` of one input.

        check: note values that are not finite, if they are still looked for.
        """
        check = check and self._check
        for i, ((_, tensor), row, fault) in enumerate(zip(self._tensors, rows, self._faults, strict=True)):
            if i in self._mapped:
                self._mapped[i].load(start, stop, row, check)
                continue
            direct = row.dtype == torch_dtype(tensor.dtype) and row.device.type == "cpu"
            raw = row if direct else self._scratch.raw("input", stop - start, torch_dtype(tensor.dtype))
            read_elements(self._files, tensor, start, raw)
            if check and has_nonfinite(raw):
                with self._lock:
                    fault.add(nonfinite_places(raw) + start)
            if not direct:
                row.copy_(raw)

    def raise_faults(self) -> None:
        """Raise E234 for the non-finite values met so far; from then on they are no longer looked for."""
        self._check = False
        problems = Collector()
        named = [(*one, fault) for one, fault in zip(self._tensors, self._faults, strict=True)]
        for model, tensor, fault in [
            *named,
            *(found for one in self._mapped.values() for found in one.faults()),
        ]:
            if fault.count:
                problems.add(nonfinite_input(model, tensor, fault))
        problems.raise_any()


def nonfinite_input(model: str, tensor: TensorInfo, fault: Fault) -> InputError:
    """The error E234 for a tensor of an input."""
    return InputError(
        "E234",
        f"{model}: tensor '{tensor.name}': {fault.values} not finite (NaN or Inf), the first at index {fault.first}",
        tensor=tensor.name,
        hint="the checkpoint is damaged; use another, or --allow-nonfinite",
    )


def _allow_files(count: int) -> None:
    """Raise the limit of open files, as far as the system lets us, so that `count` more can be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def read_elements(files: WeightFiles, tensor: TensorInfo, start: int, into: Tensor) -> None:
    """Fill `into`, flat and of the dtype of `tensor`, with the elements from `start` on, as they are stored."""
    files.read(tensor, start * into.itemsize, as_bytes(into))


def as_bytes(flat: Tensor) -> memoryview:
    """The memory of a flat host tensor."""
    return memoryview(flat.view(torch.uint8).numpy().data)


def has_nonfinite(flat: Tensor) -> bool:
    """Whether a flat host tensor of floats holds a NaN or an Inf; two maxima over the bits, no temporary."""
    if not flat.numel():
        return False
    width = flat.itemsize
    bits = flat.view(torch.uint8).numpy()
    infinity = _INFINITY[flat.dtype]
    positive = bits.view(f"i{width}").max() >= infinity  # NaN lies beyond Inf
    return bool(positive or bits.view(f"u{width}").max() >= infinity + (1 << (8 * width - 1)))


_INFINITY = {
    torch.bfloat16: 0x7F80,
    torch.float16: 0x7C00,
    torch.float32: 0x7F80_0000,
    torch.float64: 0x7FF0_0000_0000_0000,
}
"""The bits of infinity."""


def nonfinite_places(flat: Tensor) -> Tensor:
    """The positions (k,) of NaN and Inf in a flat tensor, ascending."""
    return (~torch.isfinite(flat)).nonzero().view(-1)
