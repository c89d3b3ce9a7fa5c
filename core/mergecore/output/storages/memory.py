"""The output in the memory of this process: tensors by name, no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mergecore.errors import PluginError
from mergecore.files.dtypes import torch_dtype
from mergecore.output.storages.elsewhere import check_whole
from mergecore.types import OutputTensor, Plan, Slot, StepResult
from mergecore.types.execution import Reopened

if TYPE_CHECKING:
    from torch import Tensor


def in_dtypes(plan: Plan) -> Plan:
    """A plan whose tensors are all made in their dtypes, as memory holds them, whatever a file would encode."""
    if not any(slot.encoding for slot in plan.layout.slots.values()):
        return plan
    slots = {one.name: Slot(0, 0, one.nbytes) for one in plan.outputs}
    return replace(plan, layout=replace(plan.layout, slots=slots))


class Memory:
    """Tensors being made in memory; each is there from its first byte on."""

    def __init__(self, outputs: Sequence[OutputTensor]) -> None:
        self._outputs = {one.name: one for one in outputs}
        self._tensors: dict[str, Tensor] = {}
        self.done: Mapping[str, str] = {}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the plan, on the host, in the order of its steps; all are finished."""
        return {name: self._of(name) for name in self._outputs}

    def take_over(self, made: Mapping[str, Tensor]) -> None:
        """Have tensors that need not be made."""
        self._tensors |= made
        self.done = dict.fromkeys(made, "")

    def write(self, name: str, start: int, data: memoryview | bytes | bytearray) -> None:
        """Keep `data`, the bytes of tensor `name` from byte `start` on.  Safe from any thread."""
        self._bytes(name)[start : start + memoryview(data).nbytes] = memoryview(data).cast("B")

    def read(self, name: str, start: int, into: memoryview) -> None:
        """Fill `into` with bytes of tensor `name` that were written before, from byte `start` on."""
        into.cast("B")[:] = self._bytes(name)[start : start + into.nbytes]

    def finish(self, result: StepResult) -> None:
        """Take note that all tensors of a step are written.

        Raises:
            PluginError: E402 when bytes are missing.
        """
        for one in result.outputs:
            check_whole(one, self._of(one.name).nbytes)

    def elsewhere(self) -> Reopened:
        """Memory is of this process alone.

        Raises:
            PluginError: E605.
        """
        what = "the result is made in the memory of this process, which other processes do not see"
        raise PluginError("E605", what, hint="use the executor 'threads', or write a folder")

    def _of(self, name: str) -> Tensor:
        import torch

        if name not in self._tensors:
            one = self._outputs[name]
            self._tensors.setdefault(name, torch.empty(one.shape, dtype=torch_dtype(one.dtype)))
        return self._tensors[name]

    def _bytes(self, name: str) -> memoryview:
        import torch

        flat = self._of(name).reshape(-1)
        return memoryview(flat.view(torch.uint8).numpy().data) if flat.numel() else memoryview(b"")
