"""Which layer of which model stands where, drawn with a seed; read `drawn` and `drawn_freely`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

from mergecore.compute import uniform_numbers
from mergecore.errors import ConfigError

Layer: TypeAlias = tuple[int, int]
"""The index of a model, and that of one of its layers."""


def drawn(counts: Sequence[int], weights: Sequence[float], seed: int) -> list[Layer]:
    """For each layer of the first model a model that has it, by their weights; the layer keeps its place.

    Raises:
        ConfigError: E105 when no model of weight has a layer.
    """
    layers = []
    for layer, number in enumerate(_numbers(seed, "model", counts[0])):
        having = [weight if count > layer else 0.0 for count, weight in zip(counts, weights, strict=True)]
        if not any(having):
            what = f"no model with a weight has a layer {layer}, and the first model has {counts[0]} layers"
            raise ConfigError("E105", what, hint="give the first model a weight, or list a shorter one first")
        layers.append((_chosen(having, number), layer))
    return layers


def drawn_freely(counts: Sequence[int], weights: Sequence[float], seed: int) -> list[Layer]:
    """Of each model its share of layers, each drawn from all that it has, in an order that is drawn as well.

    Raises:
        ConfigError: E105 when that makes no layer.
    """
    layers = []
    for model, (count, weight) in enumerate(zip(counts, weights, strict=True)):
        numbers = _numbers(seed, f"layers of {model}", int(count * weight))
        layers += [(model, int(number * count)) for number in numbers]
    if not layers:
        what = "the shares give no layer: of each model, its number of layers times its weight is taken"
        raise ConfigError("E105", what, hint="write larger weights, such as 0.5")
    numbers = _numbers(seed, "order", len(layers))
    for last, number in zip(range(len(layers) - 1, 0, -1), numbers, strict=False):
        other = int(number * (last + 1))
        layers[last], layers[other] = layers[other], layers[last]
    return layers


def _numbers(seed: int, purpose: str, count: int) -> list[float]:
    """Numbers in [0, 1), the first of which are the same for any count."""
    found: list[float] = uniform_numbers(seed, "layershuffle", purpose, 0, count).tolist()
    return found


def _chosen(weights: Sequence[float], number: float) -> int:
    """The index whose part of the sum of all weights `number`, of 0 to 1, falls into."""
    ends = list(accumulate(weights))
    return next(i for i, end in enumerate(ends) if number * ends[-1] < end)


def runs(layers: Sequence[Layer]) -> list[tuple[int, int, int]]:
    """Layers of one model that follow each other, taken together: the model, the first layer, and the one behind."""
    found: list[tuple[int, int, int]] = []
    for model, layer in layers:
        if found and found[-1][0] == model and found[-1][2] == layer:
            found[-1] = (model, found[-1][1], layer + 1)
        else:
            found.append((model, layer, layer + 1))
    return found
