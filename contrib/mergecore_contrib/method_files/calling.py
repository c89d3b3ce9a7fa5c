"""What all styles share: parameters of a signature, and the tensors that a function is called with."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mergecore import MergeMethod, Params, PluginError
from mergecore_contrib.method_files.faults import blaming

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.types import Step

REQUIRED: Any = object()
"""The default of a parameter that has none."""

Base: TypeAlias = Literal["required", "optional", "unused"]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function: its type, its default, and whether each model has a value of its own."""

    name: str
    type: Any
    default: Any = REQUIRED
    per_model: bool = False


@dataclass(frozen=True)
class Inputs:
    """The tensors of one call: those of the models, and the base where there is one; float32 or float64."""

    name: str
    models: Sequence[Tensor]
    base: Tensor | None


Call: TypeAlias = "Callable[[Inputs, Mapping[str, Any]], Tensor]"
"""Makes the result from the tensors and from the values of the parameters by their names."""


@dataclass(frozen=True, kw_only=True)
class Function:
    """A method as its file defines it.

    base: "required" or "optional": the base is handed over apart from the models.  "first": it is the first
        of the models where there is one.  "unused": a base that is not listed as a model plays no part.
    """

    name: str
    call: Call
    parameters: Sequence[Parameter] = ()
    base: Base | Literal["first"] = "unused"
    models: tuple[int, int | None] = (1, None)
    module: str = ""
    """The name of the module it stands in, whose docstring may say what it does."""
    summary: str = ""
    paper: str | None = None


def as_method(one: Function, params_class: type[Params], file: Path, version: str) -> MergeMethod[Any]:
    """The merge method that calls a function of the `file` with whole tensors; `version` tells of that."""
    apart = one.base in ("required", "optional")

    def merge(group: TensorGroup, params: Params) -> Tensor:
        from mergecore_contrib.method_files.random import Seeded

        inputs = _inputs(group, one)
        values = {parameter.name: getattr(params, field_of(parameter)) for parameter in one.parameters}
        seed = int(group.uniform(2, "seed of torch").double() @ _digits())
        with blaming(file, one.name, group.name):
            with Seeded(seed):
                made = one.call(inputs, values)
            return _checked(made, group)

    merge.__doc__ = one.summary or None
    merge.__module__ = one.module
    return MergeMethod(
        name=one.name,
        merge=merge,
        params=params_class,
        summary=textwrap.shorten(one.summary, 59, placeholder=" ..."),
        family="From files",
        space="apart" if apart else "weight",
        base="optional" if one.base == "first" else one.base,
        models=one.models,
        paper=one.paper,
        reproducible="same-machine",
        needs_whole_tensors=True,
        extra_memory=_extra_memory,
        version=version,
    )


def _checked(made: Any, group: TensorGroup) -> Tensor:
    """What a function returned, as a tensor of the group."""
    import torch

    wanted = f"a tensor of {list(group.shape)} is expected"
    if not isinstance(made, torch.Tensor):
        kind = "nothing" if made is None else type(made).__name__
        raise PluginError("E605", f"it returned {kind}; {wanted}")
    odd = made.is_complex() or made.is_meta or made.layout is not torch.strided
    if odd or tuple(made.shape) != tuple(group.shape):
        kind = str(made.dtype if made.is_complex() else made.layout).removeprefix("torch.")
        told = "numbers without values" if made.is_meta else f"{list(made.shape)} of {kind}" if odd else ""
        raise PluginError("E605", f"it returned {told or list(made.shape)}; {wanted}")
    return made.detach().to(group.device, group.dtype)


def _digits() -> Tensor:
    """What makes a number below 2**48 of two in [0, 1) with 24 bits each."""
    import torch

    return torch.tensor([2.0**24, 2.0**48], dtype=torch.float64)


def _inputs(group: TensorGroup, function: Function) -> Inputs:
    """Copies of the tensors, as they are stored; a base that is needed is 0 where adapters have none."""
    import torch

    whole = torch.empty((group.n, math.prod(group.shape)), dtype=group.dtype, device=group.device)
    base: Tensor | None = torch.zeros_like(whole[0]) if function.base in ("required", "optional") else None
    bases = []

    def see(block: Block) -> None:
        whole[:, block.start : block.stop] = block.x
        if base is not None and block.base is not None:
            bases.append(block.index)
            base[block.start : block.stop] = block.base

    group.visit(see)
    models = [one.view(group.shape) for one in whole]
    there = base is not None and (bases or function.base == "required")
    return Inputs(group.name, models, base.view(group.shape) if base is not None and there else None)


def field_of(parameter: Parameter) -> str:
    """Its name in the class of parameters, which has names of its own."""
    return f"value_of_{parameter.name}"


def _extra_memory(step: Step) -> tuple[int, int]:
    """Bytes of the base and of what a function may make of the tensors: as much as they are, and some more."""
    width = 8 if any(one.tensor.dtype == "F64" for one in step.operands) else 4
    return 0, width * (len(step.inputs) + 3) * math.prod(step.shape)
