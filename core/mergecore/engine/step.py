"""Runs one step of a plan: reads, merges, rounds once, checks, writes, digests.  Weights are touched here only."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mergecore.compute.group import StreamedGroup, merge_group
from mergecore.compute.matrices import ExtraRows
from mergecore.compute.scratch import Scratch
from mergecore.compute.streams import Sink
from mergecore.compute.topk.whole_model import Groups
from mergecore.engine.encoding import Encoder
from mergecore.engine.rounding import round_into
from mergecore.engine.weights import (
    Fault,
    StepInputs,
    WeightFiles,
    as_bytes,
    differing_copies,
    has_nonfinite,
    nonfinite_input,
    nonfinite_places,
    precision,
)
from mergecore.errors import Collector, MergecoreError, MergeError, PluginError, text_of
from mergecore.files.dtypes import torch_dtype
from mergecore.output.digests import block_digest, tensor_digest
from mergecore.types import (
    Codec,
    Json,
    MergeMethod,
    OutputTensor,
    Plan,
    Step,
    StepResult,
    TensorInput,
    Workers,
    Written,
)
from mergecore.types.execution import Bytes
from mergecore.types.steps import BLOCK

if TYPE_CHECKING:
    from mergecore.plugins.registry import Plugin


@dataclass(frozen=True)
class Runner:
    """What every step of a run shares."""

    plan: Plan
    methods: Mapping[str, MergeMethod[Any]]
    providers: Mapping[str, Plugin]
    files: WeightFiles
    storage: Bytes
    device: torch.device
    allow_nonfinite: bool = False
    codecs: Mapping[str, Codec] = field(default_factory=dict)
    """The encodings of the output writer."""
    states: Mapping[str, Json] = field(default_factory=dict)
    """By method, what it has prepared."""
    scratch: Scratch = field(init=False)
    places: Mapping[str, int] = field(init=False)
    """Of each step that has a method, its place among those of that method."""

    def __post_init__(self) -> None:
        """Give each thread its own buffers."""
        object.__setattr__(self, "scratch", Scratch(self.device))
        steps = [self.steps_of(name) for name in self.methods]
        object.__setattr__(self, "places", {step.name: i for row in steps for i, step in enumerate(row)})

    def steps_of(self, method: str) -> list[Step]:
        """The steps that `method` makes."""
        return [step for step in self.plan.steps if step.method == method]

    def prepare(self, method: MergeMethod[Any], crew: Workers) -> Json:
        """What the method takes of all tensors before the first is merged.

        Raises:
            PluginError: E604 or E605 when it fails, or returns what is not plain values.
        """
        if method.prepare is None:
            return None
        steps = self.steps_of(method.name)
        groups = Groups(len(steps), lambda index: self._group(steps[index], method, crew, _Nowhere()))
        with self._blaming(method.name):
            state = method.prepare(groups, [step.params for step in steps])
            try:
                json.dumps(state, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise PluginError(
                    "E605", f"what its `prepare` returned is not plain values: {error}"
                ) from error
        return state

    def __call__(self, step: Step, crew: Workers) -> StepResult:
        """Make the output tensors of `step`."""
        self.scratch.settle()
        output = _Outputs(self, step)
        if step.method is None:
            self._copy(step, crew, output)
        else:
            self._merge(step, self.methods[step.method], crew, output)
        return output.result(crew)

    def encoder(self, tensor: OutputTensor) -> Encoder | None:
        """What encodes an output tensor; None where it is written in its own dtype."""
        slot = self.plan.layout.slots.get(tensor.name)
        if slot is None or not slot.encoding:
            return None
        return Encoder(self.codecs[slot.encoding], slot.encoding, tensor.name, self.plan.writer)

    def _merge(self, step: Step, method: MergeMethod[Any], crew: Workers, output: _Outputs) -> None:
        with self._blaming(method.name, step):
            group = self._group(step, method, crew, output)
            try:
                merge_group(method, group, step.params)
            finally:
                for one in group.matrices:  # a method that trips over a NaN is not to blame
                    one.raise_faults()

    def _group(self, step: Step, method: MergeMethod[Any], crew: Workers, sink: Sink) -> StreamedGroup:
        base = step.base if method.base_apart else None
        tensors = [*step.inputs, *([base] if base else [])]
        return StreamedGroup(
            name=step.name,
            shape=step.shape,
            outputs=step.outputs,
            n=len(step.inputs),
            inputs=self._inputs(tensors, crew),
            sink=sink,
            crew=crew,
            scratch=self.scratch,
            dtype=precision(tensors),
            delta=base is not None,
            apart=method.space == "apart",
            seed=self.plan.seed,
            depth=step.depth,
            role=step.role,
            index=self.places[step.name],
            models=[one.model for one in step.inputs],
            state=self.states.get(method.name),
            matrices=[ExtraRows(one, self._inputs([one], crew)) for one in step.matrices],
            needs_whole_tensors=method.needs_whole_tensors,
        )

    def _inputs(self, tensors: Sequence[TensorInput], crew: Workers) -> StepInputs:
        """The inputs of a step, ready to be read."""
        models = self.plan.models
        return StepInputs(
            self.files,
            self.scratch,
            tensors,
            lambda model: models[model].name,
            self.allow_nonfinite,
            crew.for_each,
        )

    def _copy(self, step: Step, crew: Workers, output: _Outputs) -> None:
        source, *others = step.inputs
        computed = source.tensor.data.computed
        dtype = precision([source]) if computed else torch_dtype(source.tensor.dtype)
        inputs = self._inputs([source], crew)
        rest = [(other, self._inputs([other], crew)) for other in others]
        total = torch.Size(step.shape).numel()

        def block_at(index: int, check: bool) -> Tensor:
            start = index * BLOCK
            block = self.scratch.raw("copied", min(BLOCK, total - start), dtype)
            inputs.load(start, start + len(block), [block], check)
            return block

        def work(index: int) -> None:
            block = block_at(index, check=computed)
            for other, numbers in rest:
                self._compare(source, other, numbers, index * BLOCK, block)
            output.put(0, index * BLOCK, block)

        def look(index: int) -> None:
            block_at(index, check=True)

        blocks = -(-total // BLOCK)
        crew.for_each(blocks, work)
        if output.bad and not computed:
            crew.for_each(blocks, look)  # again, to tell where they are stored
        inputs.raise_faults()

    def _compare(
        self, source: TensorInput, other: TensorInput, numbers: StepInputs, start: int, wanted: Tensor
    ) -> None:
        """Raise E233 when the `numbers` of `other` from `start` on are not those of `source`."""
        if other.tensor.dtype == source.tensor.dtype:
            found = self.scratch.raw("other", wanted.numel(), wanted.dtype)
            numbers.load(start, start + len(found), [found], check=False)
            if torch.equal(found.view(torch.uint8), wanted.view(torch.uint8)):
                return
        raise differing_copies(source.tensor, self._name(source), self._name(other))

    def _name(self, one: TensorInput) -> str:
        return self.plan.models[one.model].name

    @contextmanager
    def _blaming(self, method: str, step: Step | None = None) -> Iterator[None]:
        """Blame what a method raises on its plugin: while it makes the tensor of `step`, or prepares."""
        try:
            yield
        except PluginError as error:
            if error.plugin:
                raise
            raise self._blame(method, step, error.code, error.what) from error
        except MergecoreError:
            raise
        except (Exception, SystemExit) as error:
            raise self._blame(method, step, "E604", f"{type(error).__name__}: {text_of(error)}") from error

    def _blame(self, method: str, step: Step | None, code: str, what: str) -> PluginError:
        plugin = self.providers.get(method)
        origin = f" of plugin '{plugin.distribution}' ({plugin.origin})" if plugin else ""
        when = f"on tensor '{step.name}'" if step else "before the first tensor"
        return PluginError(
            code,
            f"method '{method}'{origin} failed {when}: {what}",
            tensor=step.name if step else None,
            plugin=plugin.name if plugin else None,
            hint="report it to the authors of the plugin",
        )


class _Nowhere:
    """The sink of groups that are looked at only."""

    def put(self, output: int, start: int, numbers: Tensor) -> None:
        raise PluginError("E605", "it makes a result where it may only read")


class _Outputs:
    """The output tensors of a step."""

    def __init__(self, runner: Runner, step: Step) -> None:
        self._name = step.name
        self._each = [_Output(runner, step, one) for one in step.outputs]

    def put(self, output: int, start: int, numbers: Tensor) -> None:
        """Take the numbers (m,) of an output from element `start` on."""
        self._each[output].put(start, numbers)

    @property
    def bad(self) -> int:
        """How many numbers are not finite, or too large for the output dtype."""
        return sum(one.bad for one in self._each)

    def result(self, crew: Workers) -> StepResult:
        """The finished tensors; raises when numbers are wrong."""
        return StepResult(self._name, tuple(one.result(crew) for one in self._each))


class _Output:
    """One output tensor: its bytes on their way out, their digests, and what is wrong with them."""

    def __init__(self, runner: Runner, step: Step, tensor: OutputTensor) -> None:
        self._runner = runner
        self._step = step
        self._name = tensor.name
        self._encoder = runner.encoder(tensor)
        self._dtype = torch.float32 if self._encoder else torch_dtype(tensor.dtype)
        self._count = tensor.count
        self._digests: dict[int, bytes] = {}
        self._put = 0
        self._aligned = True
        self._lock = threading.Lock()
        self._nonfinite = Fault()
        self._overflow = Fault()
        self._largest = 0.0

    def put(self, start: int, numbers: Tensor) -> None:
        """Round `numbers` (m,) once to the output dtype, check them and write them."""
        out = numbers
        if numbers.dtype != self._dtype or numbers.device.type != "cpu" or numbers.stride(0) != 1:
            out = self._runner.scratch.raw("output", numbers.numel(), self._dtype)
            round_into(out, numbers)
        out = self._encoder.limited(out) if self._encoder else out
        if self._dtype.is_floating_point and self._dtype.itemsize > 1 and has_nonfinite(out):
            self._note(start, numbers, out)
        aligned = start % BLOCK == 0 and numbers.numel() == min(BLOCK, self._count - start)
        self._aligned = self._aligned and aligned
        for place, data in self._stretches(start, out):
            self._runner.storage.write(self._name, place, memoryview(data))
            with self._lock:
                self._put += len(data)
            if aligned:
                self._digests[start // BLOCK] = block_digest(data)

    def _stretches(self, start: int, out: Tensor) -> Iterable[tuple[int, memoryview | bytes]]:
        """Where bytes go, and the bytes; a single stretch for a block."""
        if self._encoder:
            return self._encoder.encoded(start, out)
        return [(start * self._dtype.itemsize, as_bytes(out))]

    def _nbytes(self, count: int) -> int:
        """The bytes of so many elements."""
        return self._encoder.codec.nbytes(count) if self._encoder else count * self._dtype.itemsize

    @property
    def bad(self) -> int:
        """How many numbers are not finite, or too large for the output dtype."""
        return self._nonfinite.count + self._overflow.count

    def result(self, crew: Workers) -> Written:
        """The finished tensor; raises when its numbers are wrong."""
        if not self._runner.allow_nonfinite:
            self._raise_faults()
        blocks = -(-self._count // BLOCK)
        if self._put != self._nbytes(self._count):
            return Written(self._name, "", self._put)
        if not self._aligned:
            crew.for_each(blocks, self._read_back)
        digest = tensor_digest([self._digests[index] for index in range(blocks)])
        return Written(self._name, digest, self._put, self.bad)

    def _read_back(self, index: int) -> None:
        start = index * BLOCK
        count = min(BLOCK, self._count - start)
        block = as_bytes(self._runner.scratch.raw("written", self._nbytes(count), torch.uint8))
        self._runner.storage.read(self._name, self._nbytes(start), block)
        self._digests[index] = block_digest(block)

    def _note(self, start: int, numbers: Tensor, out: Tensor) -> None:
        """Distinguish numbers that the output dtype cannot hold from those that were not finite before."""
        places = nonfinite_places(out)
        exact = numbers.cpu()[places]
        fits = torch.isfinite(exact)
        with self._lock:
            self._overflow.add(places[fits] + start)
            self._nonfinite.add(places[~fits] + start)
            self._largest = max(self._largest, float(exact[fits].abs().amax()) if fits.any() else 0.0)

    def _raise_faults(self) -> None:
        problems = Collector()
        if self._overflow.count:
            problems.add(self._too_large())
        if self._nonfinite.count:
            problems.add(self._not_finite())
        problems.raise_any()

    def _too_large(self) -> MergeError:
        fault, limit = self._overflow, torch.finfo(self._dtype).max
        name = str(self._dtype).removeprefix("torch.")
        if self._encoder:
            name, limit = self._encoder.encoding, min(limit, self._encoder.codec.largest)
        return MergeError(
            "E403",
            f"tensor '{self._name}': {fault.values} too large for {name}: up to {self._largest:.6g}, "
            f"the limit is {limit:.6g}; the first at index {fault.first}",
            tensor=self._name,
            hint=f"choose out_dtype: {_WIDER.get(self._dtype, 'float64')}, or --allow-nonfinite",
        )

    def _not_finite(self) -> MergecoreError:
        step, fault = self._step, self._nonfinite
        if step.method is None:
            return nonfinite_input(
                self._runner.plan.models[step.inputs[0].model].name, step.inputs[0].tensor.name, fault
            )
        return MergeError(
            "E401",
            f"tensor '{self._name}': {fault.values} not finite after '{step.method}', "
            f"the first at index {fault.first}",
            tensor=self._name,
            hint="check the parameters of this tensor with `mergecore plan --tensor`, or use --allow-nonfinite",
        )


_WIDER = {torch.float16: "bfloat16 or float32", torch.bfloat16: "float32 or float64"}
"""The formats with room for larger numbers."""
