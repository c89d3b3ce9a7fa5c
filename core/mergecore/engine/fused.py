"""Tensors of another plan that are computed while they are read; read `computed_model`, then `MadeTensor`.

The blocks, the random numbers and the rounding are those of a plan that is carried out, so the bytes are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mergecore.compute.deferred import DeferredGroup, Nobody
from mergecore.compute.group import merge_group
from mergecore.compute.scratch import Scratch
from mergecore.engine.memory import blocks_of
from mergecore.engine.rounding import round_into
from mergecore.engine.weights import (
    InputReader,
    differing_copies,
    faults_of,
    has_nonfinite,
    nonfinite_places,
    precision,
)
from mergecore.errors import Collector, MergecoreError, MergeError, PluginError
from mergecore.files.dtypes import DTYPES, torch_dtype
from mergecore.files.exhaustion import exhausted
from mergecore.planning.toolkit import methods_of
from mergecore.plugins.registry import Registry
from mergecore.types import (
    Checkpoint,
    FetchProgress,
    ForEach,
    MergeMethod,
    OutputTensor,
    Plan,
    Read,
    Reader,
    Step,
    TensorData,
    TensorInfo,
    TensorInput,
    one_by_one,
    prepared,
)
from mergecore.types.steps import BLOCK
from mergecore.types.tensors.data import described, extra_memory_of


def computed_model(plan: Plan, promised: Checkpoint, registry: Registry) -> Checkpoint:
    """The model that a plan would make, its tensors computed while they are read; `promised`: what it will look like.

    All steps must be of the kind that `planning.several.fusing` allows.
    """
    methods, _ = methods_of(plan, registry)
    names = tuple(model.name for model in plan.models)
    counts: dict[str | None, int] = {}
    tensors: dict[str, TensorInfo] = {}
    for step in plan.steps:
        index = counts[step.method] = counts.get(step.method, -1) + 1
        method = methods[step.method] if step.method else None
        data = MadeTensor(promised.name, step, method, names, plan.seed, index)
        tensors[step.name] = TensorInfo(step.name, data.simplest)
    files = {file.path: file for model in plan.models for file in model.weight_files}
    return replace(
        promised,
        tensors=tensors,
        weight_files=tuple(files.values()),
        parts=plan.models,
        mapped="computed while it is read",
        fetch=_all([model.fetch for model in plan.models if model.fetch]),
    )


def _all(
    fetches: Sequence[Callable[[FetchProgress], None]],
) -> Callable[[FetchProgress], None] | None:
    """What brings the weights of all models."""

    def fetch(tell: FetchProgress) -> None:
        for one in fetches:
            one(tell)

    return fetch if fetches else None


@dataclass(frozen=True, eq=False)
class MadeTensor:
    """The only output of a step, as the `TensorData` of the plan that reads it.

    plan: the name of the plan of the step, `models` those of its models, `seed` its seed.  index: the place of the
    step among those of its method.
    """

    plan: str
    step: Step
    method: MergeMethod[Any] | None
    models: tuple[str, ...]
    seed: int
    index: int

    @property
    def computed(self) -> bool:
        """Whether it holds numbers that are computed with; all others are copied."""
        return DTYPES[self.dtype].floating

    @property
    def simplest(self) -> TensorData:
        """What gives the same numbers with the least work: for a plain copy, what is copied."""
        step = self.step
        data = step.inputs[0].tensor.data if step.inputs else None
        plain = step.method is None and len(step.inputs) == 1 and data and not data.computed
        return data if plain and data and data.dtype == self.output.dtype else self

    @property
    def output(self) -> OutputTensor:
        """What the step makes."""
        return self.step.outputs[0]

    @property
    def dtype(self) -> str:
        """The format that the step rounds to."""
        return self.output.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the output."""
        return self.output.shape

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """What the inputs of the step read."""
        found = (read.tensor for one in self.operands for read in one.tensor.data.reads)
        return tuple(Read(tensor) for tensor in dict.fromkeys(found))

    @cached_property
    def identity(self) -> str:
        """The method, its parameters and inputs, and all else that decides the numbers."""
        step = self.step
        params = step.params.model_dump_json(by_alias=True) if step.params is not None else ""
        inputs = [(one.model, described(one.tensor.data)) for one in self.operands]
        facts = (step.method, params, self.seed, step.name, self.dtype, self.shape, step.depth, step.role)
        return hashlib.sha256(repr((*facts, self.index, len(step.inputs), inputs)).encode()).hexdigest()

    @property
    def extra_memory(self) -> tuple[int, int]:
        """What the method keeps for the step, and its blocks."""
        once, each = extra_memory_of(one.tensor.data for one in self.operands)
        own = self.method.extra_memory(self.step) if self.method and self.method.extra_memory else (0, 0)
        return once + own[0], each + own[1] + blocks_of(self.step)

    @property
    def operands(self) -> tuple[TensorInput, ...]:
        """The inputs, and the base behind them where the method needs it."""
        apart = self.method is not None and self.method.base_apart
        return self.step.operands if apart else self.step.inputs

    def prepare(self, reader: Reader, for_each: ForEach) -> TensorData:
        """What makes the numbers, with all that the method has to know before it makes the first block."""
        assert isinstance(reader, InputReader)
        data = {id(one.tensor.data): one.tensor.data for one in self.operands}
        ready = {key: prepared(one, reader.nested, for_each) for key, one in data.items()}
        inputs = _Inputs(self, [ready[id(one.tensor.data)] for one in self.operands], reader.nested)
        if self.method is None:
            inputs.check_equal(for_each)
            return _Ready(self, inputs, inputs.copy) if self.computed else inputs.data[0]
        group = self._group(self.method, inputs, for_each, reader.inner)
        with _blaming(self):
            merge_group(self.method, group, self.step.params)
        return _Ready(self, inputs, group.make)

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` (stop - start,); one that is read often is prepared first."""
        self.prepare(reader, one_by_one).load(reader, start, stop, into)

    def _group(
        self, method: MergeMethod[Any], inputs: _Inputs, for_each: ForEach, scratch: Scratch
    ) -> DeferredGroup:
        step = self.step
        return DeferredGroup(
            name=step.name,
            shape=step.shape,
            outputs=step.outputs,
            n=len(step.inputs),
            inputs=inputs,
            sink=Nobody(),
            crew=_Lent(for_each),
            scratch=scratch,
            dtype=precision(self.operands),
            delta=method.base_apart and step.base is not None,
            apart=method.space == "apart",
            seed=self.seed,
            depth=step.depth,
            role=step.role,
            index=self.index,
            models=[one.model for one in step.inputs],
            needs_whole_tensors=False,
        )


Make: TypeAlias = Callable[[int, int, bool, Callable[[int, Tensor], None]], None]
"""Makes the numbers of a range, and perhaps some around it: `DeferredGroup.make`."""


@dataclass(frozen=True, eq=False)
class _Ready:
    """A tensor whose numbers can be made."""

    made: MadeTensor
    inputs: _Inputs
    make: Make

    computed = True
    dtype = property(lambda self: self.made.dtype)
    shape = property(lambda self: self.made.shape)
    reads = property(lambda self: self.made.reads)
    identity = property(lambda self: self.made.identity)
    extra_memory = property(lambda self: self.made.extra_memory)

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        """Fill `into` (stop - start,) with numbers that are rounded once to the format of the output."""
        assert isinstance(reader, InputReader)
        check = reader.faults is not None
        dtype = torch_dtype(self.dtype)

        def put(first: int, numbers: Tensor) -> None:
            begin, end = max(first, start), min(first + len(numbers), stop)
            wanted, out = numbers[begin - first : end - first], into[begin - start : end - start]
            rounded = out if out.dtype == dtype else reader.inner.raw("rounded", len(wanted), dtype)
            round_into(rounded, wanted)
            if check and dtype.itemsize > 1 and has_nonfinite(rounded):
                self._raise(begin, wanted, rounded)
            if rounded is not out:
                out.copy_(rounded)

        with _blaming(self.made):
            self.make(start, stop, check, put)

    def _raise(self, begin: int, numbers: Tensor, rounded: Tensor) -> None:
        """Raise for numbers that are not finite: because an input is not, or the method makes such, or the format."""
        self.inputs.raise_faults()
        place = int(nonfinite_places(rounded)[0])
        what = (
            f"tensor '{self.made.output.name}' of '{self.made.plan}': the number at index {begin + place} is "
        )
        if torch.isfinite(numbers[place]):
            what += f"{float(numbers[place]):.6g}, too large for {torch_dtype(self.dtype)}".replace(
                "torch.", ""
            )
            hint = f"choose a wider out_dtype in '{self.made.plan}', or --allow-nonfinite"
            raise MergeError("E403", what, tensor=self.made.output.name, hint=hint)
        what += f"not finite after '{self.made.step.method or 'copying'}'"
        hint = f"check the parameters of '{self.made.plan}', or use --allow-nonfinite"
        raise MergeError("E401", what, tensor=self.made.output.name, hint=hint)


@dataclass(frozen=True, eq=False)
class _Inputs:
    """The inputs of the step, the base last; `reader` notes what is wrong with them for whoever reads the tensor."""

    made: MadeTensor
    data: Sequence[TensorData]
    reader: InputReader

    def load(self, start: int, stop: int, rows: Sequence[Tensor], check: bool = True) -> None:
        """Fill each of `rows` (m,) with the elements `start` to `stop` of one input."""
        reader = self.reader if check else self.reader.unchecked
        for one, row in zip(self.data, rows, strict=True):
            one.load(reader, start, stop, row)

    def raise_faults(self) -> None:
        """Raise E234 for non-finite values met so far."""
        problems = Collector()
        for one in self.made.operands:
            for error in faults_of(one, self.reader, lambda model: self.made.models[model]):
                problems.add(error)
        problems.raise_any()

    def copy(self, start: int, stop: int, check: bool, put: Callable[[int, Tensor], None]) -> None:
        """Give the numbers of the only input."""
        source = self.made.step.inputs[0]
        dtype = precision([source]) if source.tensor.data.computed else torch_dtype(source.tensor.dtype)
        for first in range(start, stop, BLOCK):
            count = min(BLOCK, stop - first)
            with self.reader.room((count,), dtype) as numbers:
                self.data[0].load(
                    self.reader if check else self.reader.unchecked, first, first + count, numbers
                )
                put(first, numbers)

    def check_equal(self, for_each: ForEach) -> None:
        """Raise E233 where further inputs of a copy differ from the first."""
        source, *others = self.made.step.inputs
        dtype = torch_dtype(source.tensor.dtype)

        def look(index: int) -> None:
            start = index * BLOCK
            count = min(BLOCK, source.tensor.count - start)
            with self.reader.room((count,), dtype) as wanted, self.reader.room((count,), dtype) as found:
                self.data[0].load(self.reader.unchecked, start, start + count, wanted)
                for other, data in zip(others, self.data[1:], strict=True):
                    data.load(self.reader.unchecked, start, start + count, found)
                    same = other.tensor.dtype == source.tensor.dtype
                    if not same or not torch.equal(found.view(torch.uint8), wanted.view(torch.uint8)):
                        names = [self.made.models[one.model] for one in (source, other)]
                        raise differing_copies(source.tensor, *names)

        if others:
            for_each(-(-source.tensor.count // BLOCK), look)


@dataclass(frozen=True)
class _Lent:
    """The workers of whoever reads the tensor."""

    for_each: ForEach


@contextmanager
def _blaming(made: MadeTensor) -> Iterator[None]:
    """Blame what a method raises on the method."""
    try:
        yield
    except MergecoreError:
        raise
    except Exception as error:
        if exhausted(error):
            raise
        what = f"method '{made.step.method}' failed on tensor '{made.output.name}' of '{made.plan}': "
        what += f"{type(error).__name__}: {error}"
        hint = "report it to the authors of the plugin"
        raise PluginError("E604", what, tensor=made.output.name, hint=hint) from error
