"""Runs one step of a plan: reads, merges, rounds once, checks, writes, digests.  Weights are touched here only."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from mergecore.blocks import BLOCK
from mergecore.digests import block_digest, tensor_digest
from mergecore.dtypes import torch_dtype
from mergecore.engine import TensorGroup
from mergecore.errors import InputError, MergecoreError, MergeError, PluginError
from mergecore.reading import Fault, Scratch, StepInputs, WeightFiles, as_bytes, has_nonfinite, read_elements
from mergecore.types import Blocks, Crew, MergeMethod, Plan, Step, StepResult, TensorInput

if TYPE_CHECKING:
    from mergecore.plugins import Plugin


class Storage(Protocol):
    """Takes the bytes of tensors in any order, from any thread."""

    def write(self, name: str, start: int, data: memoryview) -> None:
        """Keep `data`, the bytes of tensor `name` from byte `start` on."""

    def read(self, name: str, start: int, into: memoryview) -> None:
        """Fill `into` with bytes of tensor `name` that were written before, from byte `start` on."""


@dataclass(frozen=True)
class Runner:
    """What every step of a run shares."""

    plan: Plan
    methods: Mapping[str, MergeMethod[Any]]
    providers: Mapping[str, Plugin]
    files: WeightFiles
    storage: Storage
    device: torch.device
    allow_nonfinite: bool = False
    scratch: Scratch = field(init=False)

    def __post_init__(self) -> None:
        """Give each thread its own buffers."""
        object.__setattr__(self, "scratch", Scratch(self.device))

    def __call__(self, step: Step, crew: Crew) -> StepResult:
        """Make the output tensor of `step`."""
        output = _Output(self, step)
        if step.method is None:
            self._copy(step, crew, output)
        else:
            self._merge(step, self.methods[step.method], crew, output)
        return output.result(crew)

    def _merge(self, step: Step, method: MergeMethod[Any], crew: Crew, output: _Output) -> None:
        delta = method.space == "delta" and step.base is not None
        tensors = [*step.inputs, step.base] if delta and step.base else list(step.inputs)
        wide = any(one.tensor.dtype == "F64" for one in tensors)
        group = TensorGroup(
            name=step.name,
            shape=step.shape,
            n=len(step.inputs),
            inputs=StepInputs(
                self.files,
                self.scratch,
                [(self._words(one), one.tensor) for one in tensors],
                self.allow_nonfinite,
            ),
            sink=output,
            crew=crew,
            scratch=self.scratch,
            dtype=torch.float64 if wide else torch.float32,
            delta=delta,
            seed=self.plan.seed,
            depth=step.depth,
            role=step.role,
        )
        try:
            merged = method.merge(group, step.params)
            if isinstance(merged, Tensor):
                group.put_whole(merged)
            elif not isinstance(merged, Blocks):
                raise PluginError(
                    "E605", f"the method returned {type(merged).__name__}, not blocks or a tensor"
                )
        except PluginError as error:
            raise self._blame(step, error.code, error.what) from error
        except MergecoreError:
            raise
        except Exception as error:
            raise self._blame(step, "E604", f"{type(error).__name__}: {error}") from error

    def _copy(self, step: Step, crew: Crew, output: _Output) -> None:
        source, *others = step.inputs
        total = source.tensor.count

        def work(index: int) -> None:
            start = index * BLOCK
            stop = min(start + BLOCK, total)
            raw = read_elements(self.files, self.scratch, source.tensor, start, stop)
            for other in others:
                self._compare(source, other, start, raw.clone())
            output.put(
                start, read_elements(self.files, self.scratch, source.tensor, start, stop) if others else raw
            )

        crew.each(-(-total // BLOCK), work)

    def _compare(self, source: TensorInput, other: TensorInput, start: int, wanted: Tensor) -> None:
        """Raise E233 when the elements of `other` from `start` on are not those of `source`."""
        found = read_elements(self.files, self.scratch, other.tensor, start, start + wanted.numel())
        if other.tensor.dtype != source.tensor.dtype or not torch.equal(found, wanted):
            raise InputError(
                "E233",
                f"tensor '{source.tensor.name}' is {source.tensor.dtype}, which is never averaged, and differs "
                f"between {self.plan.models[source.model].name} and {self.plan.models[other.model].name}",
                tensor=source.tensor.name,
                hint="make it equal in all models, or leave one out",
            )

    def _words(self, one: TensorInput) -> str:
        return f"{self.plan.models[one.model].name}: tensor '{one.tensor.name}'"

    def _blame(self, step: Step, code: str, what: str) -> PluginError:
        plugin = self.providers.get(step.method or "")
        origin = f" of plugin '{plugin.name}' ({plugin.origin})" if plugin else ""
        return PluginError(
            code,
            f"method '{step.method}'{origin} failed on tensor '{step.name}': {what}",
            tensor=step.name,
            plugin=plugin.name if plugin else None,
            hint="report it to the authors of the plugin",
        )


class _Output:
    """One output tensor: its bytes on their way out, their digests, and what is wrong with them."""

    def __init__(self, runner: Runner, step: Step) -> None:
        self._runner = runner
        self._step = step
        self._dtype = torch_dtype(step.dtype)
        self._count = torch.Size(step.shape).numel()
        self._digests: dict[int, bytes] = {}
        self._aligned = True
        self._lock = threading.Lock()
        self._fault = Fault()
        self._overflow = 0.0

    def put(self, start: int, numbers: Tensor) -> None:
        """Round `numbers` once to the output dtype, check them and write them."""
        out = numbers
        if numbers.dtype != self._dtype or numbers.device.type != "cpu" or not numbers.is_contiguous():
            out = self._runner.scratch.raw("output", numbers.numel(), self._dtype)
            out.copy_(numbers)
        if self._dtype.is_floating_point and self._dtype.itemsize > 1 and has_nonfinite(out):
            self._note(start, numbers, out)
        data = as_bytes(out)
        self._runner.storage.write(self._step.name, start * self._dtype.itemsize, data)
        if start % BLOCK == 0 and numbers.numel() == min(BLOCK, self._count - start):
            self._digests[start // BLOCK] = block_digest(data)
        else:
            self._aligned = False

    def result(self, crew: Crew) -> StepResult:
        """The finished tensor; raises when its numbers are wrong."""
        blocks = -(-self._count // BLOCK)
        if self._fault.count and not self._runner.allow_nonfinite:
            raise self._wrong()
        if not self._aligned:
            crew.each(blocks, self._read_back)
        digest = tensor_digest([self._digests[index] for index in range(blocks)])
        return StepResult(self._step.name, digest, self._count * self._dtype.itemsize, self._fault.count)

    def _read_back(self, index: int) -> None:
        start = index * BLOCK
        size = min(BLOCK, self._count - start)
        raw = self._runner.scratch.raw("output", size, self._dtype)
        self._runner.storage.read(self._step.name, start * self._dtype.itemsize, as_bytes(raw))
        self._digests[index] = block_digest(as_bytes(raw))

    def _note(self, start: int, numbers: Tensor, out: Tensor) -> None:
        bad = (~torch.isfinite(out)).nonzero().view(-1)
        exact = numbers.reshape(-1)[bad.to(numbers.device)].double().cpu()
        finite = exact[torch.isfinite(exact)]
        with self._lock:
            self._fault.add(len(bad), start + int(bad[0]))
            if len(finite):
                self._overflow = max(self._overflow, float(finite.abs().max()))

    def _wrong(self) -> MergeError:
        step, fault = self._step, self._fault
        values = "1 value" if fault.count == 1 else f"{fault.count} values"
        if self._overflow:
            name = str(self._dtype).removeprefix("torch.")
            limit = torch.finfo(self._dtype).max
            return MergeError(
                "E403",
                f"tensor '{step.name}': {values} too large for {name}: up to {self._overflow:.4g}, "
                f"the limit is {limit:.6g}; the first at index {fault.first}",
                tensor=step.name,
                hint="choose out_dtype: bfloat16 or float32, or --allow-nonfinite",
            )
        return MergeError(
            "E401",
            f"tensor '{step.name}': {values} not finite after '{step.method or 'copy'}', "
            f"the first at index {fault.first}",
            tensor=step.name,
            hint="check the parameters of this tensor with `mergecore plan --tensor`, or use --allow-nonfinite",
        )
