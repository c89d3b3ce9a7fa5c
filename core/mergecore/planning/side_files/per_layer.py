"""What config.json says about single layers, said about the layers of the output instead; read `restack`.

A layer takes its values along, from the config of its own model: its entry of a list, its letter of a pattern, its
number in a list of numbers, whether it is one of the first or last so many.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mergecore.models.layers import nested_config
from mergecore.planning.side_files.places import settle_places
from mergecore.types import Json, Layers

UNSURE = "check that it fits the stacked layers"
"""How a warning ends that is void when a loader was asked."""

_LAYER_INDICES = re.compile(
    r"mlp_only_layers|moe_layers|cross_attention_layers|full_attn_idxs|attn_layer_indices|hybrid_layer_ids"
    r"|local_layer_ids|no_rope_layer_ids|ple_layer_ids|(invalid|non_linear)_ple_layers"
    r"|fullatt_block_indexes|global_attn_indexes|global_attention_blocks|(window|residual)_block_indices"
)
"""Keys whose lists hold numbers of layers, not one value for each."""

_TAPS = re.compile(
    r"deepstack_visual_indexes|intermediate_layers_indices|(backbone_)?out_indices|extract_layers"
)
"""Keys whose lists hold numbers of layers whose results are used elsewhere, by as many modules."""

_OTHER_LISTS = re.compile(
    r"architectures|keys_to_ignore_at_inference|(bad_words|forced_decoder)_ids|\w*token(s|_ids?)"
)
"""Keys whose lists have nothing to do with layers, whatever their length."""

_FIRST_LAYERS = ("first_k_dense_replace", "max_window_layers", "num_dense_layers")
"""Keys that hold a number of leading layers."""

_LAST_LAYERS = ("num_kv_shared_layers",)
"""Keys that hold a number of layers at the end."""


def restack(config: dict[str, Json], layers: Layers) -> list[str]:
    """Change `config`, that of the primary model, to what is true of the layers; what the user should check."""
    if layers.count_key is None:
        return []
    *path, key = layers.count_key
    section = nested_config(config, path)
    before = _length(section[key])
    rows = _Rows(path, before, layers.sources)
    same = [index for _, index in layers.sources] == list(range(before))
    warnings: list[str] = []
    for name, value in list(section.items()):
        if isinstance(value, list) and _TAPS.fullmatch(name):
            section[name], told = rows.tapped(name, value)
            warnings += told
        elif (changed := rows.of(name, value)) is not None:
            section[name] = changed
        elif not same and value and _speaks_of_layers(name, value):
            warnings.append(f"{name} stays {value}; {UNSURE}")
    settle_places(section, path, layers)
    if isinstance(section[key], int):
        section[key] = len(layers.sources)
    return warnings


def restack_heads(generation: dict[str, Json], layers: Layers, primary: Mapping[str, Json]) -> bool:
    """Let `alignment_heads`, pairs of a layer of the decoder and a head, follow the layers; whether any moved."""
    heads = generation.get("alignment_heads")
    if not isinstance(heads, list) or "decoder" not in layers.stack:
        return False
    places: dict[int, list[int]] = {}
    for place, (config, index) in enumerate(layers.sources):
        if config is primary:
            places.setdefault(index, []).append(place)
    pairs = [one for one in heads if isinstance(one, list) and len(one) == 2]
    moved: Json = [[place, head] for layer, head in pairs for place in places.get(_number(layer), [])]
    generation["alignment_heads"] = moved
    return moved != heads


def _number(value: Json) -> int:
    return value if isinstance(value, int) else -1


def _length(value: Json) -> int:
    """The number of layers that a number, a list or a pattern states."""
    assert isinstance(value, (int, list, str))
    return value if isinstance(value, int) else len(value)


def _speaks_of_layers(name: str, value: Json) -> bool:
    return name in (*_FIRST_LAYERS, *_LAST_LAYERS) or (isinstance(value, list) and "layer" in name)


@dataclass(frozen=True)
class _Rows:
    """The layers, and how the values of each of them are found in the config of its model."""

    path: Sequence[str]
    before: int
    layers: Sequence[tuple[Mapping[str, Json], int]]

    def of(self, name: str, value: Json) -> Json:
        """What a key of the primary model says about the output's layers; None where it says nothing about them."""
        if isinstance(value, list) and _LAYER_INDICES.fullmatch(name):
            return self._renumbered(name)
        if isinstance(value, list) and len(value) == self.before and not _OTHER_LISTS.fullmatch(name):
            return self._picked(name, value)
        if name == "attention_types" and len(kinds := _unfolded(value)) == self.before:
            return _folded(self._picked(name, kinds))
        if isinstance(value, str) and len(value) == self.before and name.endswith("pattern"):
            return "".join(str(letter) for letter in self._picked(name, list(value)))
        if isinstance(value, dict) and "layer" in name and all(_is_layer(key, self.before) for key in value):
            return self._by_number(name)
        if name in _FIRST_LAYERS and isinstance(value, int):
            return self._leading(name, value)
        if name in _LAST_LAYERS and isinstance(value, int):
            return self._trailing(name, value)
        return None

    def tapped(self, name: str, value: list[Json]) -> tuple[list[Json], list[str]]:
        """The layers whose results are used, where they still are as many; and what the user should know."""
        moved = self._renumbered(name)
        if [index for i, (_, index) in enumerate(self.layers) if i in moved] == value:
            return moved, []
        return value, [
            f"{name} stays {value}, and these are other layers now: choose layers so that each of those is there once, "
            "or see whether these are meant"
        ]

    def _picked(self, name: str, primary: list[Json]) -> list[Json]:
        """For each layer its entry; the primary model's where its model has no such list."""
        picked: list[Json] = []
        for source, index in self.layers:
            values = self._value(source, name)
            values = _unfolded(values) if name == "attention_types" else values
            row = list(values) if isinstance(values, (list, str)) and index < len(values) else primary
            picked.append(copy.deepcopy(row[min(index, len(row) - 1)]))
        return picked

    def _renumbered(self, name: str) -> list[Json]:
        """The layers whose number is in the list of their model."""
        kept: list[Json] = []
        for i, (source, index) in enumerate(self.layers):
            values = self._value(source, name)
            if isinstance(values, list) and index in values:
                kept.append(i)
        return kept

    def _by_number(self, name: str) -> dict[str, Json]:
        """The entries of the layers that have one, under their new numbers."""
        kept: dict[str, Json] = {}
        for i, (source, index) in enumerate(self.layers):
            values = self._value(source, name)
            if isinstance(values, dict) and str(index) in values:
                kept[str(i)] = copy.deepcopy(values[str(index)])
        return kept

    def _leading(self, name: str, primary: int) -> int | None:
        """How many of the first layers are of the kind that the key counts; None when others are too."""
        flags = []
        for source, index in self.layers:
            value = self._value(source, name)
            flags.append(index < (value if isinstance(value, int) else primary))
        return _leading(flags)

    def _trailing(self, name: str, primary: int) -> int | None:
        """The same, from the end."""
        flags = []
        for source, index in self.layers:
            value = self._value(source, name)
            flags.append(index >= self.before - (value if isinstance(value, int) else primary))
        return _leading(flags[::-1])

    def _value(self, source: Mapping[str, Json], name: str) -> Json:
        return nested_config(source, self.path).get(name)


def _unfolded(value: Json) -> list[Json]:
    """The kinds of layers that `[[[kind, …], times], …]` states; nothing where a value has another form."""
    kinds: list[Json] = []
    for item in value if isinstance(value, list) else ():
        if not (isinstance(item, list) and len(item) == 2):
            return []
        run, times = item
        if not (isinstance(run, list) and isinstance(times, int) and times * len(run) <= _MOST_LAYERS):
            return []
        kinds += run * times
    return kinds


_MOST_LAYERS = 10_000


def _folded(kinds: list[Json]) -> list[Json]:
    """The same the other way round, with the shortest run that gives them all."""
    count = len(kinds)
    size = next(n for n in range(1, count + 1) if count % n == 0 and kinds == kinds[:n] * (count // n))
    return [[kinds[:size], count // size]]


def _leading(flags: Sequence[bool]) -> int | None:
    """The number of flags before the first that is not set; None when there are set ones after it."""
    count = next((i for i, flag in enumerate(flags) if not flag), len(flags))
    return None if any(flags[count:]) else count


def _is_layer(key: str, count: int) -> bool:
    return key.isdecimal() and int(key) < count
