"""The steps of a merge of changes, made into steps that make an adapter; read `steps_of`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mergecore import MergeMethod, Params
from mergecore.errors import Collector, ConfigError
from mergecore.types import Checkpoint, OutputTensor, Step, TensorInfo, TensorInput
from mergecore_plugins.lora.combine_lora.adapter_config import saved_module
from mergecore_plugins.lora.combine_lora.aligning import Aligned
from mergecore_plugins.lora.combine_lora.methods import COPIED, OF_CHANGES, CombinedParams, matrix_of
from mergecore_plugins.lora.combine_lora.reading import Factors
from mergecore_plugins.lora.making.kinds import is_randomised
from mergecore_plugins.lora.making.peft import PREFIX, PeftParams
from mergecore_plugins.lora.making.tensors import Zeros, part
from mergecore_plugins.lora.modules import in_order

FACTS, FACTS_FILE = "combination.", "combination.safetensors"
"""How the names begin of what is no tensor of the adapter: the facts of each change."""


def steps_of(
    merge: Sequence[Step],
    models: Sequence[Checkpoint],
    found: Aligned,
    method: MergeMethod[Any],
    asked: PeftParams,
) -> list[Step]:
    """All steps, from those that would merge whole changes.

    Raises:
        ConfigError: E105 for a rank that the merge method cannot give.
    """
    made = _Steps(models, found, method, asked)
    problems = Collector()
    steps: list[Step] = []
    for step in merge:
        with problems.collecting():
            steps += made.of(step)
    problems.raise_any()
    return [*steps, *made.zero_biases(), *made.frozen()]


@dataclass(frozen=True)
class _Steps:
    models: Sequence[Checkpoint]
    found: Aligned
    method: MergeMethod[Any]
    asked: PeftParams

    def of(self, step: Step) -> Iterator[Step]:
        """What becomes of a step of the merge: nothing where it copies what no adapter changes."""
        name = step.name
        if step.method is None and self._is_zero(step.inputs[0]):
            return
        if name in self.found.changes:
            yield self._factored(step, self.found.changes[name])
            return
        if name.removesuffix(".bias") in self.found.biases and name not in self.found.wholes:
            made = f"{name.removesuffix('.bias')}.lora_B.bias"
        else:
            made = self._whole(name)
        yield replace(step, outputs=(replace(step.outputs[0], name=PREFIX + made),))

    # ---- factors ----

    def _factored(self, step: Step, first: Factors) -> Step:
        dtype = step.outputs[0].dtype
        summed = self._is_summed(step)
        rank = self._rank(step, first, summed=summed)
        outputs = (*self._outputs(step.name, first, rank, dtype), _facts(step.name, rank))
        params = self._params(step, first, rank)
        how = "from factors" if summed else "from whole changes"
        note = f"{step.method or 'one adapter'} {how}, rank {rank}"
        if summed:
            scales, matrices = self._matrices(step)
            params = params.model_copy(update={"scales": scales, "randomised": False})
            return Step(outputs, (), "factors", params, None, step.depth, step.role, note, matrices)
        space: Literal["delta", "apart"] = "apart" if params.method.space == "apart" else "delta"
        own = OF_CHANGES[space, params.method.needs_whole_tensors]
        base = None if step.base is None or self._is_zero(step.base) else step.base
        return replace(step, outputs=outputs, method=own, params=params, base=base, note=note)

    def _is_summed(self, step: Step) -> bool:
        """Whether the factors of the result follow from those of the inputs."""
        if step.method is None:
            return True
        from_adapter = step.base is not None and not self._is_zero(step.base)
        return self.method.merge_factors is not None and not from_adapter

    def _is_zero(self, one: TensorInput) -> bool:
        return isinstance(one.tensor.data, Zeros)

    def _params(self, step: Step, first: Factors, rank: int) -> CombinedParams:
        shape = first.shape
        made = CombinedParams(
            name=step.name,
            kind=first.kind,
            shape=shape,
            rank=rank,
            experts=first.experts,
            method=self.method if step.method else COPIED,
            params=step.params or Params(),
            inputs=len(step.inputs),
        )
        randomised = self.asked.method == "randomised"
        if self.asked.method == "auto":
            randomised = is_randomised(rank, made.matrix)
        return made.model_copy(update={"randomised": randomised})

    def _rank(self, step: Step, first: Factors, *, summed: bool) -> int:
        taken = [self._factors(one) for one in (*step.inputs, *([step.base] if step.base else []))]
        total = max(1, sum(one.rank for one in taken if one))
        full = min(matrix_of(first.kind, first.shape, first.experts))
        asked = self.asked.rank
        if asked == "exact" and not summed:
            what = (
                f"{self.method.name} leaves nothing of low rank, so there is no exact rank for '{step.name}'"
            )
            raise ConfigError(
                "E105", what, hint="give a number, or 'full'; methods that add factors can be exact"
            )
        if asked == "full":
            return min(total, full) if summed else full
        if asked is None or asked == "exact":
            return min(total, full)
        return min(asked, full, total) if summed else min(asked, full)

    def _factors(self, one: TensorInput) -> Factors | None:
        """What the adapter that is this input has for the weight; None where it leaves it alone."""
        name = self.models[one.model].name
        adapter = next((found for found in self.found.adapters if found.name == name), None)
        return adapter.changes.get(one.tensor.name) if adapter else None

    def _matrices(self, step: Step) -> tuple[tuple[tuple[int, float], ...], tuple[TensorInput, ...]]:
        """The factors A and B of each input that is not zero, and which input it is, with its scale."""
        scales, matrices = [], []
        for index, one in enumerate(step.inputs):
            if factors := self._factors(one):
                scales.append((index, factors.scale))
                matrices += [TensorInput(one.model, _flat(each)) for each in (factors.a, factors.b)]
        return tuple(scales), tuple(matrices)

    def _outputs(self, name: str, first: Factors, rank: int, dtype: str) -> list[OutputTensor]:
        stem = PREFIX + first.stem
        words = ("lora_A.weight", "lora_B.weight")
        if first.kind == "embedding":
            words = ("lora_embedding_A", "lora_embedding_B")
            shapes: list[tuple[int, ...]] = [(rank, first.shape[0]), (first.shape[1], rank)]
        elif first.kind == "experts":
            stem += ".base_layer" * self._depth(name)
            shapes = [(first.experts * rank, first.shape[-1]), (first.shape[-2], rank * first.experts)]
        else:
            shapes = [(rank, *first.shape[1:]), (first.shape[0], rank, *first.b.shape[2:])]
        return [
            OutputTensor(f"{stem}.{word}", dtype, shape) for word, shape in zip(words, shapes, strict=True)
        ]

    def _depth(self, parameter: str) -> int:
        """How many other parameters of its module are wrapped around this one."""
        module = self.found.changes[parameter].stem
        names = in_order(
            name for name, one in self.found.changes.items() if one.kind == "experts" and one.stem == module
        )
        return len(names) - 1 - names.index(parameter)

    # ---- everything else ----

    def _whole(self, name: str) -> str:
        """How PEFT calls a tensor that was trained whole, inside of what it wraps around its module."""
        wanted = {module for one in self.found.adapters for module in one.config.modules_to_save}
        module, _, parameter = name.rpartition(".")
        if saved_module(name, wanted) is None and f"{module}.weight" in self.found.changes:
            return f"{module}.base_layer.{parameter}"
        return name

    def zero_biases(self) -> Iterator[Step]:
        """Biases that do nothing, of layers without any, where others have one: PEFT gives one to each."""
        for name in self.found.changes if self.found.biases else ():
            module = name.removesuffix(".weight")
            if module not in self.found.biases:
                first = self.found.changes[name]
                bias = TensorInfo(f"{module}.bias", Zeros(first.b.dtype, first.b.shape[:1]))
                made = OutputTensor(f"{PREFIX}{first.stem}.lora_B.bias", bias.dtype, bias.shape)
                yield Step((made,), (TensorInput(0, bias),), note="no adapter changes it")

    def frozen(self) -> Iterator[Step]:
        """Weights of the base that the files of adapters hold, beside their changes."""
        for name, holders in self.found.frozen.items():
            if self.found.changes[name].kind == "experts":
                continue
            adapters = [self.found.adapters[i] for i in holders]
            numbers = {model.name: i for i, model in enumerate(self.models)}
            inputs = tuple(TensorInput(numbers[one.name], one.frozen[name]) for one in adapters)
            shape = inputs[0].shape
            if any(one.shape != shape or one.tensor.dtype != inputs[0].tensor.dtype for one in inputs):
                inputs = inputs[:1]
            module = name.rpartition(".")[0]
            made = OutputTensor(f"{PREFIX}{module}.base_layer.weight", inputs[0].tensor.dtype, shape)
            yield Step(
                (made,), inputs, "same", Params(), note="the weight of the base, as the adapters have it"
            )


def _flat(tensor: TensorInfo) -> TensorInfo:
    return part(tensor, (tensor.shape[0], math.prod(tensor.shape[1:])))


def _facts(name: str, values: int) -> OutputTensor:
    return OutputTensor(FACTS + name, "F64", (1, 1, 3, max(2, values)))
