"""Reading weights: files that must not change under us, and blocks of tensors as numbers to compute with.

Bytes are read with `preadv` into buffers that each thread keeps, so that a file that is cut short while it is
read gives an error and not a bus error, and no memory is allocated twice.
"""

from __future__ import annotations

import math
import os
import resource
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from mergecore.compute.scratch import Scratch
from mergecore.errors import Collector, InputError, MergecoreError, PluginError
from mergecore.files.dtypes import torch_dtype
from mergecore.files.exhaustion import exhausted
from mergecore.files.safe_open import stamp_of
from mergecore.types import (
    Checkpoint,
    ForEach,
    Origin,
    Reader,
    Stored,
    TensorData,
    TensorInfo,
    TensorInput,
    one_by_one,
    prepared,
)

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

    def read(self, tensor: Stored, first_byte: int, into: memoryview) -> None:
        """Fill `into` with the bytes of `tensor` from `first_byte` on.

        Raises:
            InputError: E235 when the file is not the one that was planned with, or ends early, E236 when it
                cannot be read.
        """
        path = tensor.file
        descriptor = self._descriptor(path)
        offset = tensor.offset + first_byte
        while into:
            try:
                count = os.preadv(descriptor, [into], offset)
            except OSError as error:
                raise self._unreadable(path, error) from error
            if count == 0:
                raise self._changed(path, "it is shorter now")
            into = into[count:]
            offset += count

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
            raise self._changed(path, "its inode or modification time has changed")

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
        return InputError("E235", what, place=self._name(path), hint="run again once nothing writes to it")

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


class StepInputs:
    """The inputs of one output tensor, read stretch by stretch as numbers of the dtype to compute in."""

    def __init__(
        self,
        files: WeightFiles,
        scratch: Scratch,
        inputs: Sequence[TensorInput],
        name_of: Callable[[int], str],
        allow_nonfinite: bool = False,
        for_each: ForEach = one_by_one,
    ) -> None:
        """`inputs`: in the order of the rows that `load` fills; those that need it are prepared.

        name_of: the name of a model, by its index in the plan.
        """
        self._inputs = inputs
        self._name_of = name_of
        self._check = not allow_nonfinite
        self._readers = [InputReader(files, scratch, {} if self._check else None) for _ in inputs]
        self._plain = InputReader(files, scratch)
        self._data = [self._prepared(i, for_each) for i in range(len(inputs))]

    def load(self, start: int, stop: int, rows: Iterable[Tensor], check: bool = True) -> None:
        """Fill each of `rows` (m,) with the elements `start` to `stop` of one input.

        check: note values that are not finite, if they are still looked for.
        """
        check = check and self._check
        for i, (data, row) in enumerate(zip(self._data, rows, strict=True)):
            reader = self._readers[i] if check else self._plain
            try:
                if data.computed and (row.device.type != "cpu" or row.dtype not in COMPUTED):
                    _load_computed(data, reader, start, stop, row)
                else:
                    data.load(reader, start, stop, row)
            except MergecoreError:
                raise
            except Exception as error:
                if exhausted(error):
                    raise
                raise self._blame(i, error) from error

    def raise_faults(self) -> None:
        """Raise E234 for the non-finite values met so far; from then on they are no longer looked for."""
        self._check = False
        problems = Collector()
        for one, reader in zip(self._inputs, self._readers, strict=True):
            for error in faults_of(one, reader, self._name_of):
                problems.add(error)
        problems.raise_any()

    def _prepared(self, i: int, for_each: ForEach) -> TensorData:
        try:
            return prepared(self._inputs[i].tensor.data, self._readers[i], for_each)
        except MergecoreError:
            raise
        except Exception as error:
            if exhausted(error):
                raise
            raise self._blame(i, error) from error

    def _blame(self, i: int, error: Exception) -> PluginError:
        """What to raise for what the `TensorData` of an input raised: that is the fault of who brought it."""
        one = self._inputs[i]
        kind = type(one.tensor.data)
        what = f"tensor '{one.tensor.name}' of {self._name_of(one.model)} cannot be read: "
        what += f"{kind.__module__}.{kind.__qualname__} failed: {type(error).__name__}: {error}"
        plugin, hint = kind.__module__.partition(".")[0], "report it to the authors of the plugin"
        return PluginError("E604", what, tensor=one.tensor.name, plugin=plugin, hint=hint)


def faults_of(one: TensorInput, reader: InputReader, name_of: Callable[[int], str]) -> Iterator[InputError]:
    """The errors E234 for what `reader` has noted of an input."""
    for tensor, model in one.tensor.data.reads:
        if fault := (reader.faults or {}).get(tensor):
            name = name_of(one.model if model is None else model)
            yield nonfinite_input(name, tensor.name, fault)


COMPUTED = (torch.float32, torch.float64)
"""What the numbers of a tensor that is computed are asked for in."""


def precision(inputs: Iterable[TensorInput]) -> torch.dtype:
    """The dtype to compute in."""
    return torch.float64 if any(one.tensor.dtype == "F64" for one in inputs) else torch.float32


def _load_computed(data: TensorData, reader: Reader, start: int, stop: int, row: Tensor) -> None:
    """Fill `row`, of any dtype and on any device, with numbers that are rounded once."""
    wide = row.dtype if row.dtype in COMPUTED else torch.float32
    with reader.room((stop - start,), wide) as numbers:
        data.load(reader, start, stop, numbers)
        row.copy_(numbers)


class InputReader:
    """Reads the stored tensors of one input; `faults` takes what is wrong with them, None: they are not checked."""

    def __init__(
        self, files: WeightFiles, scratch: Scratch, faults: dict[Origin, Fault] | None = None
    ) -> None:
        self.faults = faults
        self._files = files
        self._scratch = scratch
        self._lock = threading.Lock()

    @cached_property
    def unchecked(self) -> InputReader:
        """The same, which notes nothing."""
        return self if self.faults is None else InputReader(self._files, self._scratch)

    def read(self, tensor: Stored, start: int, into: Tensor) -> None:
        """Fill `into` (m,) with the elements of `tensor` from `start` on."""
        dtype = torch_dtype(tensor.dtype)
        direct = into.dtype == dtype and into.device.type == "cpu"
        raw = into if direct else self._scratch.raw("input", len(into), dtype)
        self._files.read(tensor, start * dtype.itemsize, as_bytes(raw))
        if self.faults is not None or not direct:
            self.take(tensor, start, raw, into)

    def take(self, tensor: Origin, start: int, numbers: Tensor, into: Tensor) -> None:
        """Fill `into` (m,) with `numbers`, the elements of `tensor` from `start` on."""
        if self.suspects(numbers):
            assert self.faults is not None
            with self._lock:
                self.faults.setdefault(tensor, Fault()).add(nonfinite_places(numbers) + start)
        if numbers is not into:
            into.copy_(numbers)

    def suspects(self, numbers: Tensor) -> bool:
        """Whether there is a NaN or Inf among `numbers`, and such are looked for."""
        return self.faults is not None and numbers.dtype in _INFINITY and has_nonfinite(numbers)

    @property
    def inner(self) -> Scratch:
        """Buffers for what is computed while numbers are read."""
        return self._scratch.inner

    @cached_property
    def nested(self) -> InputReader:
        """The same for what is computed while numbers are read: with other buffers, and the same faults."""
        nested = InputReader(self._files, self._scratch.inner, self.faults)
        nested._lock = self._lock
        return nested

    @contextmanager
    def room(self, shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[Tensor]:
        """A tensor in the memory of this thread, until the `with` block ends."""
        with self._scratch.lent(math.prod(shape) * dtype.itemsize) as memory:
            yield memory.view(dtype).view(shape)


def nonfinite_input(model: str, tensor: str, fault: Fault) -> InputError:
    """The error E234 for a tensor of an input."""
    return InputError(
        "E234",
        f"{model}: tensor '{tensor}': {fault.values} not finite (NaN or Inf), the first at index {fault.first}",
        tensor=tensor,
        hint="the checkpoint is damaged; use another, or --allow-nonfinite",
    )


def differing_copies(tensor: TensorInfo, first: str, second: str) -> InputError:
    """The error E233 for a tensor that is copied and not equal in two models."""
    return InputError(
        "E233",
        f"tensor '{tensor.name}' is {tensor.dtype}, which is never averaged, and differs "
        f"between {first} and {second}",
        tensor=tensor.name,
        hint="make it equal in all models, or leave one out",
    )


def _allow_files(count: int) -> None:
    """Raise the limit of open files, as far as the system lets us, so that `count` more can be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


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
