"""The steps that make the tensors of a mixture; read `steps_of`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mergecore.files import DTYPES
from mergecore.types import (
    ExpertNames,
    ExpertPart,
    MoeFamily,
    OutputTensor,
    Step,
    TensorData,
    TensorInfo,
    TensorInput,
)
from mergecore_plugins.moe.dense import OUTER, PARTS, Dense
from mergecore_plugins.moe.parts import Changed, Constant, OfModel, in_a_row, side_by_side


@dataclass(frozen=True)
class Source:
    """An expert: whose feed-forward blocks it gets, and what is done to them."""

    dense: Dense
    model: int
    """Index into the models of the plan."""
    noise: float = 0.0
    factor: float = 1.0


@dataclass(frozen=True)
class Building:
    """A mixture that is being built."""

    base: Dense
    family: MoeFamily
    names: ExpertNames
    experts: Sequence[Source]
    shared: Sequence[Source]
    dtype: str | None
    """That of all tensors; None for those of the base."""
    seed: int

    def steps(self, routers: Mapping[str, Step]) -> list[Step]:
        """All steps, in the order of the model; `routers` are those of the routers, by name."""
        made = [*self._outer(first=True)]
        for index in range(len(self.base.layers)):
            made += self._layer(index, routers)
        return [*made, *self._outer(first=False)]

    @property
    def matrices(self) -> Sequence[tuple[str, int]]:
        """The routers of a layer by name, and how many rows they have."""
        gate = self.names.shared_gate
        return [(self.names.router, len(self.experts)), *([(gate, 1)] if gate and self.shared else [])]

    def router_dtype(self, layer: int) -> str:
        """The format of the routers of a layer."""
        return "F32" if self.family.exact_router else self._of_experts(layer, "gate")

    def name(self, layer: int, name: str) -> str:
        """The whole name of a tensor of a layer."""
        return f"model.layers.{layer}.{name}"

    def _outer(self, first: bool) -> Iterator[Step]:
        for name, whole in OUTER.items():
            if name in self.base.outer and (name == "embed_tokens.weight") == first:
                role = {"embed_tokens.weight": "embed", "lm_head.weight": "head"}.get(name, "norm")
                yield self._copied(whole, self.base.outer[name], role)

    def _layer(self, layer: int, routers: Mapping[str, Step]) -> Iterator[Step]:
        tensors, zeros = self.base.layers[layer], self.family.zeros
        if self.family.optional & zeros and not zeros & tensors.keys():
            zeros = zeros - self.family.optional
        for name, own in self.family.layer.items():
            if name in tensors:
                yield self._copied(self.name(layer, own), tensors[name])
            elif name in zeros:
                weight = tensors[name.replace(".bias", ".weight")]
                yield self._zeros(self.name(layer, own), self._dtype(weight), weight.shape[:1])
        for router, _ in self.matrices:
            step = routers[self.name(layer, router)]
            if step.name == self.name(
                layer, router
            ):  # one that makes several stands where the first of them is
                yield step
        for name, shape in self.names.zeros.items():
            whole = tuple(len(self.experts) if size < 0 else size for size in shape)
            yield self._zeros(self.name(layer, name), "F32", whole)
        yield from self._experts(layer)
        yield from self._shared(layer)

    def _copied(self, name: str, tensor: TensorInfo, role: str = "") -> Step:
        made = OutputTensor(name, self._dtype(tensor), tensor.shape)
        return Step((made,), (TensorInput(0, tensor),), role=role)

    def _zeros(self, name: str, dtype: str, shape: tuple[int, ...]) -> Step:
        zeros = TensorInfo(name, Constant(dtype, shape))
        return Step((OutputTensor(name, dtype, shape),), (TensorInput(0, zeros),), note="zeros")

    def _dtype(self, tensor: TensorInfo) -> str:
        return self.dtype or tensor.dtype if DTYPES[tensor.dtype].floating else tensor.dtype

    # ---- experts ----

    def _experts(self, layer: int) -> Iterator[Step]:
        for pattern, parts in self.names.experts.items():
            if "{expert}" not in pattern:
                yield self._joined(self.name(layer, pattern), layer, parts, self.experts)
                continue
            for index, source in enumerate(self.experts):
                name = self.name(layer, pattern.format(expert=index))
                yield self._joined(name, layer, parts, [source], index)

    def _joined(
        self,
        name: str,
        layer: int,
        parts: Sequence[ExpertPart],
        sources: Sequence[Source],
        index: int | None = None,
    ) -> Step:
        """The parts of one expert, or those of all, in one tensor."""
        rows = [
            self._part(source, layer, part, f"experts.{number if index is None else index}")
            for number, source in enumerate(sources)
            for part in parts
        ]
        columns = rows[0].shape[1]
        height = sum(one.shape[0] for one in rows[: len(parts)])
        shape = (height, columns) if index is not None else (len(sources), height, columns)
        return self._of(name, in_a_row(rows, shape), layer, parts[0], sources)

    def _shared(self, layer: int) -> Iterator[Step]:
        if not self.shared:
            return
        for pattern, parts in self.names.shared.items():
            name = self.name(layer, pattern)
            rows = []
            for part in parts:
                each = [
                    self._part(source, layer, part, f"shared.{number}")
                    for number, source in enumerate(self.shared)
                ]
                rows += [side_by_side(each)] if part == "down" else each
            shape = (sum(one.shape[0] for one in rows), rows[0].shape[1])
            yield self._of(name, in_a_row(rows, shape), layer, parts[0], self.shared)

    def _of(
        self, name: str, data: TensorData, layer: int, part: ExpertPart, sources: Sequence[Source]
    ) -> Step:
        made = OutputTensor(name, self._of_experts(layer, part), data.shape)
        return Step((made,), (TensorInput(sources[0].model, TensorInfo(name, data)),))

    def _part(self, source: Source, layer: int, part: ExpertPart, word: str) -> TensorData:
        """A matrix of an expert, with what the document wants done to it."""
        data = source.dense.layers[layer][PARTS[part]].data
        factor = source.factor if part == "down" else 1.0
        if source.noise or factor != 1.0:
            data = Changed((data,), f"{self.name(layer, word)}.{part}", self.seed, source.noise, factor)
        return OfModel(data, source.model)

    def _of_experts(self, layer: int, part: ExpertPart) -> str:
        return self._dtype(self.base.layers[layer][PARTS[part]])
