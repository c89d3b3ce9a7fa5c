"""What a config says about the meaning of weights, in words that do not depend on who wrote it.

Releases of transformers and authors of models write one thing under several keys, nested or flat, as null or not
at all.  `meaning` reads all of them into one form, so that two configs can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mergecore.models.layers import is_text
from mergecore.models.row_names import subject_of
from mergecore.planning.meaning.config_keys import has_meaning, is_of_use
from mergecore.types import Json

Path = tuple[str, ...]
WINDOW = "window"


@dataclass(frozen=True)
class Said:
    """A value as configs are compared by it, and the key and value that the config has for it."""

    value: Json
    key: str
    shown: Json
    by_default: bool = False


def meaning(config: Mapping[str, Json], *, stacked: bool = False, hoisted: bool = False) -> dict[Path, Said]:
    """By its subject, everything in `config` that gives weights a meaning.

    stacked: leave out what differs between the layers, which a model of chosen layers gets anew.
    hoisted: what is said about a nested text model counts as said about the whole.
    """
    found: dict[Path, Said] = {}
    for path, said in _section(config, (), "", stacked):
        place = tuple(part for part in path if not is_text((part,))) if hoisted else path
        if place:
            found.setdefault(place, said)
    return found


def nests_text(config: Mapping[str, Json]) -> bool:
    """Whether a config has the one of a text model nested in it."""
    return any(is_text((key,)) for key, value in config.items() if isinstance(value, dict))


def _section(
    config: Mapping[str, Json], path: Path, prefix: str, stacked: bool
) -> Iterator[tuple[Path, Said]]:
    """What a config says, and what those nested in it do; that of a text model first, which speaks for the whole."""
    rest = dict(config)
    for key, value in _text_first(rest):
        if isinstance(value, dict) and _is_nested(key, value):
            del rest[key]
            yield (*path, key), Said("a part", f"{prefix}{key}", "given")
            yield from _section(value, (*path, key), f"{prefix}{key}.", stacked)
    for inner, said in (*_rotation(rest), *_window(rest)):
        yield (*path, *inner), Said(said.value, prefix + said.key, said.shown)
    names = [_CANONICAL.get(key, key) for key in rest]
    for key, value in rest.items():
        name = _CANONICAL.get(key, key)
        if name == key and not has_meaning(key, value, stacked=stacked, nested=bool(path)):
            continue
        if isinstance(value, dict) or (stacked and isinstance(value, list)):
            continue
        if names.count(name) > 1 and value is None:
            continue  # written under the other key
        name = key if names.count(name) > 1 and _several(rest, name) else name
        yield (*path, name), Said(_value(name, value, rest), f"{prefix}{key}", value)


def _text_first(config: Mapping[str, Json]) -> list[tuple[str, Json]]:
    return sorted(config.items(), key=lambda item: not is_text((item[0],)))


def _is_nested(key: str, value: Mapping[str, Json]) -> bool:
    return key not in _ROTATION and not is_of_use(key) and not (value and subject_of(key))


# ---- one word for one thing --------------------------------------------------------------------------------

_SYNONYMS = {
    "epsilon of norms": (
        "rms_norm_eps",
        "layer_norm_epsilon",
        "layer_norm_eps",
        "layernorm_epsilon",
        "layernorm_eps",
        "norm_epsilon",
        "norm_eps",
        "rms_norm_epsilon",
        "rms_eps",
    ),
    "activation": ("hidden_act", "activation_function", "hidden_activation", "activation", "act_fn"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "heads of keys": (
        "num_key_value_heads",
        "n_head_kv",
        "num_kv_heads",
        "n_kv_heads",
        "multi_query_group_num",
    ),
    "size of a head": ("head_dim", "kv_channels", "attention_head_dim", "head_size"),
    "experts for a token": ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k"),
    "scale of embeddings": ("scale_embedding", "embedding_multiplier", "scale_emb", "embedding_scale"),
    "scale of logits": ("logits_scaling", "logit_scaling", "logit_scale", "logits_scale"),
    "scale of attention": ("attention_multiplier", "attn_multiplier", "attention_scale"),
    "bias of attention": ("attention_bias", "attn_bias", "qkv_bias", "use_qkv_bias", "add_qkv_bias"),
    "positions": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
    "inner width": ("intermediate_size", "n_inner", "ffn_dim", "d_ff"),
}
_CANONICAL = {key: name for name, keys in _SYNONYMS.items() for key in keys}
_ACTIVATIONS = {
    "swish": "silu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
}


def _several(config: Mapping[str, Json], name: str) -> bool:
    """Whether a config says different things under the keys that often are one."""
    said = [config[key] for key in _SYNONYMS[name] if config.get(key) is not None]
    return any(one != said[0] for one in said)


def _value(name: str, value: Json, config: Mapping[str, Json]) -> Json:
    """A value in one form: names of activations, and what null stands for."""
    if name == "activation" and isinstance(value, str):
        return _ACTIVATIONS.get(value.lower(), value.lower())
    if value is not None:
        return value
    heads = _first(config, _SYNONYMS["heads"])
    if name == "heads of keys":
        return heads
    width = _first(config, ("hidden_size", "n_embd", "d_model"))
    if name == "size of a head" and isinstance(heads, int) and isinstance(width, int) and heads > 0:
        return width // heads
    if name == "inner width" and isinstance(width, int):
        return 4 * width
    return None


def _first(config: Mapping[str, Json], keys: tuple[str, ...]) -> Json:
    return next((config[key] for key in keys if config.get(key) is not None), None)


# ---- sliding windows ---------------------------------------------------------------------------------------


def _window(config: dict[str, Json]) -> list[tuple[Path, Said]]:
    """How far attention reaches; the keys are taken out of `config`."""
    key = next((key for key in ("sliding_window", "sliding_window_size") if key in config), "")
    window = config.pop(key, None)
    use = config.pop("use_sliding_window", None)
    until = config.get("max_window_layers")
    kinds, count = config.get("layer_types"), config.get("num_hidden_layers")
    off = use is False
    if use is None and str(config.get("model_type", "")).startswith(_OFF_BY_DEFAULT):
        off = True
    if isinstance(until, int) and isinstance(count, int) and until >= count:
        off = True
    if isinstance(kinds, list) and not any("sliding" in str(kind) for kind in kinds):
        off = True
    if off or window is None:
        config.pop("max_window_layers", None)
    if not key:
        return [((WINDOW,), Said(None, "use_sliding_window", use))] if use is False else []
    if off:
        why = ("use_sliding_window", use) if use is False else (key, None)
        return [((WINDOW,), Said(None, *why))]
    return [((WINDOW,), Said(window, key, window))]


_OFF_BY_DEFAULT = ("qwen2", "qwen3")


# ---- rotary positions --------------------------------------------------------------------------------------

_THETA = ("rope_theta", "rotary_emb_base", "global_rope_theta", "rotary_base")
_LOCAL = ("rope_local_base_freq", "local_rope_theta")
_PARTIAL = ("partial_rotary_factor", "rotary_pct", "rotary_percent", "rope_pct", "rope_percent")
_ORIGINAL = "original_max_position_embeddings"
_ROTATION = ("rope_parameters", "rope_scaling", *_THETA, *_LOCAL, *_PARTIAL, _ORIGINAL)
_TYPES = {"su": "longrope", "mrope": "default", "none": "default", "": "default"}
_DEFAULTS: dict[str, Json] = {"beta_fast": 32, "beta_slow": 1, "truncate": True, "finetuned": False}

Values = dict[str, tuple[str, Json]]
"""By what it is, the key that holds it and the value."""


def _rotation(config: dict[str, Json]) -> Iterator[tuple[Path, Said]]:
    """How positions turn queries and keys, for each kind of layer; the keys are taken out of `config`."""
    own = {key: config.pop(key) for key in _ROTATION if key in config}
    positions = config.get("max_position_embeddings")
    for kind, values in _by_kind(own).items():
        for name, (key, value) in _plain(values, positions).items():
            yield ("rope", kind, name), Said(value, key, _shown(own, key, value))


def _shown(own: Mapping[str, Json], key: str, value: Json) -> Json:
    return own.get(key) if key == "rope_scaling" else value


def _by_kind(own: Mapping[str, Json]) -> dict[str, Values]:
    """By kind of layer; "" where all are of one."""
    top: Values = {}
    for name, keys in (("theta", _THETA), ("partial", _PARTIAL), (_ORIGINAL, (_ORIGINAL,))):
        key = next((key for key in keys if own.get(key) is not None), "")
        if key:
            top[name] = (key, own[key])
    given = own.get("rope_parameters")
    if isinstance(given, dict):
        return _of_parameters(given, top)
    local = next((key for key in _LOCAL if own.get(key) is not None), "")
    scaling = own.get("rope_scaling")
    values = dict(top)
    if "rope_scaling" in own or "theta" in top:
        values["type"] = ("rope_scaling", "default")
    if isinstance(scaling, dict):
        values |= _named(scaling, "rope_scaling.")
    if not local:
        return {"": values} if values else {}
    turned: Values = {"theta": (local, own[local]), "type": (local, "default")}
    return {"full_attention": values, "sliding_attention": turned}


def _of_parameters(given: Mapping[str, Json], top: Values) -> dict[str, Values]:
    kinds = {kind: value for kind, value in given.items() if isinstance(value, dict)}
    shared = {key: value for key, value in given.items() if not isinstance(value, dict)}
    start: Values = {**top, "type": ("rope_parameters", "default"), **_named(shared, "rope_parameters.")}
    if not kinds:
        return {"": start}
    return {kind: {**start, **_named(value, f"rope_parameters.{kind}.")} for kind, value in kinds.items()}


def _named(values: Mapping[str, Json], prefix: str) -> Values:
    """Values under the names that they have here; a type comes under two keys."""
    names = {"rope_type": "type", "rope_theta": "theta"} | dict.fromkeys(_PARTIAL, "partial")
    ordered = sorted(values.items(), key=lambda item: item[0] == "rope_type")
    return {names.get(key, key): (prefix + key, value) for key, value in ordered if value is not None}


def _plain(values: Values, positions: Json) -> Values:
    """`values` without those that are defaults."""
    kept = {name: said for name, said in values.items() if _DEFAULTS.get(name, _PLAIN) != said[1]}
    key, kind = kept.get("type", ("", None))
    if kind is None:
        return kept
    kind = _TYPES.get(str(kind), str(kind))
    if kind == "linear" and kept.get("factor", ("", 1))[1] == 1:
        kind = "default"
    if kind == "default":
        kept = {name: said for name, said in kept.items() if name in ("theta", "partial", "mrope_section")}
    elif kind in ("yarn", "longrope"):
        kept.setdefault(_ORIGINAL, ("max_position_embeddings", positions))
    return {**kept, "type": (key, kind)}


_PLAIN = object()
