"""Steps of a plan: how one output tensor is made, and from what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergecore.types.models import TensorInfo
from mergecore.types.outputs import OutputTensor
from mergecore.types.tensors.data import BLOCK as BLOCK

if TYPE_CHECKING:
    from mergecore.types.params import Params


@dataclass(frozen=True)
class TensorInput:
    """One input of a step: which model, which tensor."""

    model: int
    """Index into `Plan.models`."""
    tensor: TensorInfo
    """The tensor, and where its numbers come from."""

    @property
    def reads(self) -> tuple[tuple[int, str], ...]:
        """Model and name of every stored tensor that is read for it."""
        found = self.tensor.data.reads
        return tuple((self.model if model is None else model, one.name) for one, model in found)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape it has in the step."""
        return self.tensor.shape


@dataclass(frozen=True)
class Depth:
    """Where a layer stands in its slice: `index` of `count`; the position of a gradient follows from it."""

    index: int
    count: int

    @property
    def t(self) -> float:
        """0 at the first layer, 1 at the last; a lone layer stands at 1."""
        return self.index / (self.count - 1) if self.count > 1 else 1.0


@dataclass(frozen=True)
class Step:
    """How output tensors are made, nearly always a single one.  Without a method it is a copy of the input."""

    outputs: tuple[OutputTensor, ...]
    """At least one.  The first gives the step its name, and the seed its random numbers."""
    inputs: tuple[TensorInput, ...]
    """The tensors that are made into one, in the order of the models."""
    method: str | None = None
    """The merge method by name; None for a copy."""
    params: Params | None = None
    """Its parameters for this tensor."""
    base: TensorInput | None = None
    """The tensor of the base, where it is none of the inputs."""
    depth: Depth | None = None
    """Where its layer stands in its slice; None outside the layers."""
    role: str = ""
    """What the tensor does, such as `attn.q`; empty where that is not known."""
    note: str = ""
    """Why it is copied, or what is unusual."""
    matrices: tuple[TensorInput, ...] = ()
    """Matrices of any shape that the method reads beside its inputs, row by row."""

    @property
    def name(self) -> str:
        """That of the first output."""
        return self.outputs[0].name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the numbers it works on: that of its inputs; of its first output where it has none."""
        return self.inputs[0].shape if self.inputs else self.outputs[0].shape

    @property
    def operands(self) -> tuple[TensorInput, ...]:
        """What the method works on: the inputs, and the base after them."""
        return (*self.inputs, self.base) if self.base else self.inputs

    @property
    def everything(self) -> tuple[TensorInput, ...]:
        """All that is read for it: inputs, base, and what the method reads beside them."""
        return (*self.operands, *self.matrices)


CANDIDATES = 2**21
"""Elements that the search for one cut may hold in memory at once."""
