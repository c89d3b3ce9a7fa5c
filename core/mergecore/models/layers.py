"""Repeated layers, found from tensor names alone, and the places where config.json counts them.

`find_stacks` and `layer_counts` are the two questions; `split_name` is what the first rests on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, cast

from mergecore.types import Json, Stack

LAYER_COUNT_KEYS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "num_decoder_layers",
    "decoder_layers",
    "num_encoder_layers",
    "encoder_layers",
    "num_transformer_layers",
    "num_hidden_groups",
    "depth",
)
"""Keys under which configs hold a number of layers, the most telling first."""


NestedConfig: TypeAlias = tuple[tuple[str, ...], Mapping[str, Json]]
"""A part of a config: its path from the top, and its keys."""


def split_name(name: str) -> tuple[str, int, str] | None:
    """Prefix, layer and rest of a name with a number in it: `("model.layers.", 3, "mlp.up_proj.weight")`."""
    parts = _LAYERED.fullmatch(name)
    return (parts[1], int(parts[2]), parts[3]) if parts else None


_LAYERED = re.compile(r"((?:[^.]+\.)*?)(0|[1-9][0-9]{0,8})\.(.+)", re.DOTALL)


def find_stacks(names: Iterable[str]) -> tuple[Stack, ...]:
    """The stacks, in order of appearance: prefixes whose numbers are 0, 1, … without a gap."""
    numbers: dict[str, set[int]] = {}
    for name in names:
        if parts := split_name(name):
            numbers.setdefault(parts[0], set()).add(parts[1])
    return tuple(Stack(prefix, len(seen)) for prefix, seen in numbers.items() if max(seen) + 1 == len(seen))


def without_layers_ahead(stack: Stack, names: Iterable[str], config: Mapping[str, Json]) -> Stack:
    """The stack without the layers at its end that predict further tokens, where the config counts them apart."""
    ahead = {
        parts[1]
        for name in names
        if AHEAD.search(name) and (parts := split_name(name)) and parts[0] == stack.prefix
    }
    for _, stated in layer_counts(config):
        if 0 < stated < stack.count and ahead.issuperset(range(stated, stack.count)):
            return Stack(stack.prefix, stated)
    return stack


AHEAD = re.compile(r"(^|\.)(eh_proj|enorm|hnorm|shared_head|mtp\w*|nextn\w*)\.")
"""Tensors of layers that predict tokens further ahead."""


def layer_counts(config: Mapping[str, Json]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Where `config` holds numbers of layers, and the numbers: those of the text model first."""
    for path, section in nested_configs(config):
        for key in LAYER_COUNT_KEYS:
            value = section.get(key)
            if isinstance(value, int) and not isinstance(value, bool):
                yield (*path, key), value


def nested_configs(config: Mapping[str, Json]) -> list[NestedConfig]:
    """The config and the configs nested in it: those of text models first, then from the top on."""
    sections = list(_nested((), config, 3))
    return sorted(sections, key=lambda item: (not is_text(item[0]), len(item[0])))


def is_text(path: tuple[str, ...]) -> bool:
    """Whether `path` leads to the part of a config that describes a text model."""
    return bool(path) and path[-1] in ("text_config", "llm_config", "language_config")


def _nested(path: tuple[str, ...], section: Mapping[str, Json], depth: int) -> Iterator[NestedConfig]:
    yield path, section
    for key, value in section.items():
        if isinstance(value, dict) and depth:
            yield from _nested((*path, key), value, depth - 1)


def nested_config(config: Mapping[str, Json], path: Sequence[str]) -> dict[str, Json]:
    """The part of a config at `path`; an empty one where it has none."""
    section: Json = cast("dict[str, Json]", config)
    for key in path:
        section = section.get(key) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else {}
