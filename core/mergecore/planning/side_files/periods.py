"""Kinds of layers that come round again, such as every sixth that attends to everything; read `settle_periods`.

Layers that moved may break the period.  Then a key that states it is untrue and goes, since the list of kinds says what
is so; and programs that take the period for granted will read the model wrongly, and the user is warned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mergecore.models.layers import nested_config
from mergecore.types import Json, Layers

_KEYS: dict[str, tuple[str, ...]] = {
    "layer_types": (
        "sliding_window_pattern",
        "full_attention_interval",
        "global_attn_every_n_layers",
        "layer_group_size",
    ),
    "no_rope_layers": ("no_rope_layer_interval",),
    "moe_layers": ("interleave_moe_layer_step",),
    "layers_block_type": (),
    "mlp_layer_types": (),
}
"""Lists of the kinds of layers, and the keys that state their period; also with an underscore before them."""

_NUMBERS_OF_LAYERS = ("moe_layers",)
"""Those that hold the numbers of the layers of one kind."""

_FAMILIES: dict[str, tuple[str, int]] = {
    "afmoe": ("layer_types", 4),
    "beam": ("layer_types", 6),
    "cohere2": ("layer_types", 4),
    "cohere2_moe": ("layer_types", 4),
    "cwm": ("layer_types", 4),
    "exaone4": ("layer_types", 4),
    "exaone_moe": ("layer_types", 4),
    "gemma2": ("layer_types", 2),
    "gemma3_text": ("layer_types", 6),
    "gemma3n_text": ("layer_types", 5),
    "gemma4_text": ("layer_types", 6),
    "gpt_oss": ("layer_types", 2),
    "granite_swa": ("layer_types", 4),
    "granitemoe_swa": ("layer_types", 4),
    "llama4_text": ("no_rope_layers", 4),
    "minimax": ("layer_types", 2),
    "modernbert": ("layer_types", 3),
    "modernbert-decoder": ("layer_types", 3),
    "olmo3": ("layer_types", 4),
    "olmo_hybrid": ("layer_types", 4),
    "qwen3_5_moe_text": ("layer_types", 4),
    "qwen3_5_text": ("layer_types", 4),
    "qwen3_next": ("layer_types", 4),
    "smollm3": ("no_rope_layers", 4),
}
"""The periods of families whose configs need not state them."""


def settle_periods(
    primary: Mapping[str, Json],
    config: dict[str, Json],
    layers: Layers,
    known: Mapping[str, Json],
) -> list[str]:
    """Take keys out of `config` that state a period which the layers no longer have; what the user should know.

    primary: the config that `config` was made from.  known: lists with a value for each of its layers, as a loader has
        them.
    """
    if layers.count_key is None:
        return []
    path = layers.count_key[:-1]
    section, before = nested_config(config, path), nested_config(primary, path)
    stated = before.get(layers.count_key[-1])
    count = len(stated) if isinstance(stated, (list, str)) else stated
    if not isinstance(count, int):
        return []
    told = []
    names = [name for name in (*known, *before, *section) if _is_of_kinds(name)]
    for about in dict.fromkeys([*_KEYS, *names]):
        cycle = _cycle(about, before, count, known)
        if cycle is None:
            continue
        moved = [_kind(cycle, nested_config(source, path), index) for source, index in layers.sources]
        kinds = _kinds(about, section, len(moved)) or moved
        wrong = next((i for i, kind in enumerate(kinds) if kind != cycle.at(i)), None)
        if wrong is not None:
            if about in section:
                _drop(section, cycle, kinds)
            told.append(_told(cycle, wrong, len(kinds), count, about in section))
    return [*told, *_settle_leading(section, {**known, **before})]


def _settle_leading(section: dict[str, Json], before: Mapping[str, Json]) -> list[str]:
    """The same of a number of layers before those with a sliding window, where the list says otherwise."""
    key = "max_window_layers"
    if not section.get("use_sliding_window") or not _leads(before, key) or _leads(section, key):
        return []
    if not isinstance(section.get("layer_types"), list):
        return []
    del section[key]
    return [
        f"{key} can no longer say which layers have a sliding window, since they are not the last, and is left out; "
        "transformers reads layer_types, programs that know only the number will compute something else. To keep it, "
        "choose layers so that those with a window come last"
    ]


def _leads(section: Mapping[str, Json], key: str) -> bool:
    """Whether the layers from the number under `key` on, and no others, have a sliding window."""
    kinds, first = section.get("layer_types"), section.get(key)
    return (
        isinstance(kinds, list)
        and isinstance(first, int)
        and all((kind == "sliding_attention") == (i >= first) for i, kind in enumerate(kinds))
    )


@dataclass(frozen=True)
class _Cycle:
    """The kinds of the layers of the primary model, and how soon they come round again."""

    about: str
    kinds: Sequence[Json]
    period: int

    def at(self, layer: int) -> Json:
        """The kind of a layer for those who go by the period; None where the primary model does not show it."""
        place = layer % self.period
        if place < len(self.kinds):
            return self.kinds[place]
        hidden = place == self.period - 1 and all(kind == self.kinds[0] for kind in self.kinds)
        return None if hidden else self.kinds[-1]


def _is_of_kinds(name: str) -> bool:
    return name.endswith(("layer_types", "layers_block_type", "block_types", "rope_layers"))


def _cycle(about: str, section: Mapping[str, Json], count: int, known: Mapping[str, Json]) -> _Cycle | None:
    """The period of a list of kinds; None where there is none."""
    stated = next((value for value in map(section.get, _keys(about)) if _period(value)), None)
    family, default = _FAMILIES.get(str(section.get("model_type")), ("", 0))
    kinds = _kinds(about, section, count) or _kinds(about, known, count)
    if not kinds and stated is not None:
        kinds = [_by_rule(stated, layer) for layer in range(count)]
    if len(kinds) != count or not kinds:
        return None
    for period in (_period(stated), default if family == about else 0, *range(1, count // 2 + 1)):
        if period and all(kind == kinds[i % period] for i, kind in enumerate(kinds)):
            return _Cycle(about, kinds, period) if period > 1 else None
    return None


def _keys(about: str) -> list[str]:
    return [prefix + key for key in _KEYS.get(about, ()) for prefix in ("", "_")]


def _period(stated: Json) -> int:
    """The period that a key states by its number, or by a letter for each layer; 0 for none."""
    if isinstance(stated, str):
        return len(stated)
    return stated if isinstance(stated, int) and not isinstance(stated, bool) and stated > 0 else 0


def _by_rule(stated: Json, layer: int) -> Json:
    """The kind that a key alone gives a layer: the last of each period is another one."""
    if isinstance(stated, str):
        return stated[layer % len(stated)]
    return (layer + 1) % _period(stated) == 0


def _kinds(about: str, section: Mapping[str, Json], count: int) -> list[Json]:
    """The kinds of `count` layers that a section of a config lists; nothing where it does not."""
    value = section.get(about)
    if not isinstance(value, list):
        return []
    if about in _NUMBERS_OF_LAYERS:
        return [layer in value for layer in range(count)]
    return value if len(value) == count else []


def _kind(cycle: _Cycle, source: Mapping[str, Json], index: int) -> Json:
    """The kind of a layer in its own model, whose config may be silent: then as in the primary model."""
    value = source.get(cycle.about)
    if isinstance(value, list) and cycle.about in _NUMBERS_OF_LAYERS:
        return index in value
    if isinstance(value, list) and index < len(value):
        return value[index]
    return cycle.at(index)


def _drop(section: dict[str, Json], cycle: _Cycle, kinds: Sequence[Json]) -> None:
    """Take out the keys that state the period; those that write it in letters are written out."""
    for key in _keys(cycle.about):
        value = section.get(key)
        if isinstance(value, str):
            letters = {kind: value[i % len(value)] for i, kind in enumerate(cycle.kinds)}
            section[key] = "".join(letters.get(kind, "") for kind in kinds)
            value = section[key]
        if _period(value) and not (isinstance(value, str) and len(value) == len(kinds)):
            del section[key]


def _told(cycle: _Cycle, wrong: int, made: int, count: int, listed: bool) -> str:
    period = cycle.period
    way_out = f"choose layers so that each keeps its place modulo {period}"
    if count >= period:
        whole = count // period
        way_out += f", such as [0, {period * whole}] and [{period * (whole // 2)}, {count}]"
    who = (
        "transformers reads the list; programs"
        if listed
        else "the config has no list that says so, and programs"
    )
    return (
        f"{cycle.about}: the kinds of layers no longer come round every {period} layers, from layer {wrong} of {made} "
        f"on; {who} that know only the period, as llama.cpp and MLX do for many families, will compute something else. "
        f"To keep it, {way_out}"
    )


def cache_fault(config: Mapping[str, Json]) -> list[str]:
    """That a decoder is deeper than its encoder, where transformers sizes the cache by the latter."""
    decoder = config.get("num_decoder_layers")
    encoder = config.get("num_layers", config.get("num_encoder_layers"))
    if not (isinstance(decoder, int) and isinstance(encoder, int) and decoder > encoder):
        return []
    return [
        f"the decoder has {decoder} layers and the encoder {encoder}: transformers, up to 5.24 at least, makes a "
        f"cache for {encoder} layers, so that generating fails (IndexError) unless use_cache is false; an encoder "
        "with as many layers avoids that"
    ]
