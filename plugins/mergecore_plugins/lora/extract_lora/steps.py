"""One step for each tensor of the fine-tune: what it becomes, and how much of its change is lost; read `steps_of`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mergecore.files import MERGEABLE, promoted
from mergecore.types import OutputTensor, Step, TensorInfo, TensorInput
from mergecore_plugins.lora.extract_lora.choosing import Choice, Layer
from mergecore_plugins.lora.extract_lora.methods import FactorParams, MeasureParams
from mergecore_plugins.lora.extract_lora.pairs import Pair, Pairs
from mergecore_plugins.lora.extract_lora.settings import HEADER, Extraction
from mergecore_plugins.lora.making.kinds import is_randomised
from mergecore_plugins.lora.making.peft import PREFIX
from mergecore_plugins.lora.making.tensors import part

FACTS, FACTS_FILE = "extraction.", "extraction.safetensors"
"""How the names begin of what is not a tensor of the adapter: the facts of each tensor of the fine-tune."""


def steps_of(choice: Choice, found: Pairs, asked: Extraction) -> list[Step]:
    """All steps; none but those of the facts where no more is asked for."""
    return list(_Steps(choice, found, asked))


@dataclass(frozen=True)
class _Steps:
    choice: Choice
    found: Pairs
    asked: Extraction

    def __iter__(self) -> Iterator[Step]:
        for layer in self.choice.layers:
            yield self._factored(layer)
        for module, pairs in self.choice.saved.items():
            for pair in pairs:
                if not self.asked.only_facts:
                    yield _copied(pair, PREFIX + pair.name, f"stored whole in {module}")
        seen = set()
        for pair in (one for pairs in self.choice.saved.values() for one in pairs):
            if pair.name not in seen:
                seen.add(pair.name)
                yield from _measured(pair, lost=False)
        for pair in self.choice.biases:
            if not self.asked.only_facts:
                yield self._bias(pair)
            yield from _measured(pair, lost=False)
        for pair, why in self.choice.left:
            yield from _measured(pair, lost=True, note=why)

    def _factored(self, layer: Layer) -> Step:
        pair = layer.pair
        assert pair.before
        shape = _matrix(layer)
        params = FactorParams(
            kind=layer.kind,
            rank=layer.rank,
            randomised=self._randomised(layer, shape),
            experts=pair.now.shape[0] if layer.kind == "experts" else 1,
            turned=layer.turned,
            rounded=_rounded(pair) if self.asked.only_facts else "",
        )
        made = [] if self.asked.only_facts else self._factors(layer)
        matrices: tuple[TensorInput, ...] = ()
        if layer.kind == "experts":
            count = params.experts
            parts = [(model, i) for model in (0, 1) for i in range(count)]
            matrices = tuple(
                TensorInput(model, part((pair.now, pair.before)[model], shape, i)) for model, i in parts
            )
        return Step(
            outputs=(*made, _facts(pair, layer.rank)),
            inputs=(TensorInput(0, part(pair.now, shape)),),
            base=TensorInput(1, part(pair.before, shape)),
            method="low_rank",
            params=params,
            role=pair.role,
            matrices=matrices,
            note=f"rank {layer.rank} of {min(shape)}, {'randomised' if params.randomised else 'exact'}",
        )

    def _randomised(self, layer: Layer, shape: tuple[int, int]) -> bool:
        if self.asked.method == "auto":
            return is_randomised(layer.rank, shape)
        return self.asked.method == "randomised"

    def _bias(self, pair: Pair) -> Step:
        layers = [one for one in self.choice.layers if one.pair.module == pair.module]
        if not self.choice.has_bias_layers or pair.before is None:
            module, _, parameter = pair.name.rpartition(".")
            inner = ".base_layer" * len(layers)
            return _copied(pair, f"{PREFIX}{module}{inner}.{parameter}", "a bias as it was trained")
        return Step(
            outputs=(
                OutputTensor(f"{PREFIX}{pair.module}.lora_B.bias", HEADER[self.asked.dtype], pair.now.shape),
            ),
            inputs=(TensorInput(0, pair.now), TensorInput(1, pair.before)),
            method="difference",
            params=MeasureParams(),
            role=pair.role,
        )

    def _factors(self, layer: Layer) -> list[OutputTensor]:
        """The factors as PEFT calls them."""
        shape, rank = layer.pair.now.shape, layer.rank
        module = PREFIX + layer.pair.module + ".base_layer" * layer.depth
        if layer.kind == "embedding":
            return [one for name in (layer.pair.module, *layer.tied) for one in self._of_tokens(layer, name)]
        if layer.kind == "experts":
            count, (out, into) = shape[0], (shape[2], shape[1]) if layer.turned else (shape[1], shape[2])
            shapes: list[tuple[int, ...]] = [(count * rank, into), (out, rank * count)]
        elif layer.turned:
            shapes = [(rank, shape[0]), (shape[1], rank)]
        else:
            shapes = [(rank, *shape[1:]), (shape[0], rank, *(1 for _ in shape[2:]))]
        return [
            self._tensor(f"{module}.lora_{word}.weight", one) for word, one in zip("AB", shapes, strict=True)
        ]

    def _of_tokens(self, layer: Layer, name: str) -> list[OutputTensor]:
        """Those of a module with a row for each token: embeddings, or a head."""
        (rows, columns), rank = layer.pair.now.shape, layer.rank
        made: list[tuple[str, tuple[int, ...]]] = [("A.weight", (rank, columns)), ("B.weight", (rows, rank))]
        if self.found.modules[name].kind == "embedding":
            made = [("embedding_A", (rank, rows)), ("embedding_B", (columns, rank))]
        return [self._tensor(f"{PREFIX}{name}.lora_{word}", shape) for word, shape in made]

    def _tensor(self, name: str, shape: tuple[int, ...]) -> OutputTensor:
        return OutputTensor(name, HEADER[self.asked.dtype], shape)


def _copied(pair: Pair, name: str, note: str) -> Step:
    made = OutputTensor(name, pair.now.dtype, pair.now.shape)
    return Step((made,), (TensorInput(0, pair.now),), role=pair.role, note=note)


def _measured(pair: Pair, *, lost: bool, note: str = "") -> Iterator[Step]:
    """What a tensor that is not factored has changed, where that is known."""
    if pair.before is None or not _comparable(pair.now, pair.before) or pair.now.count == 0:
        return
    flat = (pair.now.count,)
    yield Step(
        outputs=(_facts(pair, 2),),
        inputs=(TensorInput(0, part(pair.now, flat)),),
        base=TensorInput(1, part(pair.before, flat)),
        method="measure",
        params=MeasureParams(lost=lost, rounded="" if lost else _rounded(pair)),
        role=pair.role,
        note=note,
    )


def _comparable(now: TensorInfo, before: TensorInfo) -> bool:
    return now.dtype == before.dtype or {now.dtype, before.dtype} <= {*MERGEABLE}


def _rounded(pair: Pair) -> str:
    """The format of the fine-tune, where that does not hold the numbers of the base; else empty."""
    assert pair.before
    now, before = pair.now.dtype, pair.before.dtype
    holds = {now, before} <= {*MERGEABLE} and promoted([now, before]) != now
    return now if holds else ""


def _facts(pair: Pair, values: int) -> OutputTensor:
    return OutputTensor(FACTS + pair.name, "F64", (1, 1, 3, max(2, values)))


def _matrix(layer: Layer) -> tuple[int, int]:
    """Rows and columns of a weight as it is stored; of one expert."""
    shape = layer.pair.now.shape
    if layer.kind == "experts":
        return shape[1], shape[2]
    return shape[0], math.prod(shape[1:])
