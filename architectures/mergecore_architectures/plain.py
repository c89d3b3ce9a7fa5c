"""Families whose models can be told from their config and the names and shapes of their tensors; read `lists_of`.

Importing transformers takes seconds and decides nothing where a checkpoint has exactly the tensors that its config
asks for, and the config says nothing out of the ordinary.  Whatever is not sure is left to transformers: nothing here
finds a fault, and a test compares all of it with what transformers says.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from mergecore.types import Json

Config = Mapping[str, Json]
Shape = tuple[int, ...]
Lists = dict[str, list[Json]]

_LLAMA = {
    "self_attn.q_proj.weight": "attention hidden",
    "self_attn.k_proj.weight": "keys hidden",
    "self_attn.v_proj.weight": "keys hidden",
    "self_attn.o_proj.weight": "hidden attention",
    "mlp.gate_proj.weight": "inner hidden",
    "mlp.up_proj.weight": "inner hidden",
    "mlp.down_proj.weight": "hidden inner",
    "input_layernorm.weight": "hidden",
    "post_attention_layernorm.weight": "hidden",
}
_BIASES = {
    f"self_attn.{one}_proj.bias": size for one, size in zip("qkv", ("attention", "keys", "keys"), strict=True)
}
_HEAD_NORMS = {"self_attn.q_norm.weight": "head", "self_attn.k_norm.weight": "head"}
_FEED_NORMS = {f"{when}_feedforward_layernorm.weight": "hidden" for when in ("pre", "post")}
_PHI3 = {
    "self_attn.qkv_proj.weight": "qkv hidden",
    "self_attn.o_proj.weight": "hidden attention",
    "mlp.gate_up_proj.weight": "gates hidden",
    "mlp.down_proj.weight": "hidden inner",
    "input_layernorm.weight": "hidden",
    "post_attention_layernorm.weight": "hidden",
}
_GPT2 = {
    "ln_1.weight": "hidden",
    "ln_1.bias": "hidden",
    "attn.c_attn.weight": "hidden qkv",
    "attn.c_attn.bias": "qkv",
    "attn.c_proj.weight": "hidden hidden",
    "attn.c_proj.bias": "hidden",
    "ln_2.weight": "hidden",
    "ln_2.bias": "hidden",
    "mlp.c_fc.weight": "hidden inner",
    "mlp.c_fc.bias": "inner",
    "mlp.c_proj.weight": "inner hidden",
    "mlp.c_proj.bias": "hidden",
}


@dataclass(frozen=True)
class _Family:
    """Its class, and the tensors of a layer and around the layers, with the words for their sizes."""

    cls: str
    layer: Mapping[str, str]
    states: tuple[str, ...] = ()
    """The keys that its class does not derive from others when the config lacks them."""
    tied: bool = False
    """Whether the embeddings are the head where the config is silent."""
    lists: Callable[[Config, int], Lists] = lambda config, count: {}
    """The lists with a value per layer that the class derives where the config has none."""
    prefix: str = "model."
    """What stands before all names but that of the head, and may be missing on disk."""
    stack: str = "layers."
    around: Mapping[str, str] = field(
        default_factory=lambda: {
            "embed_tokens.weight": "vocabulary hidden",
            "norm.weight": "hidden",
        }
    )


def _alternating(config: Config, count: int) -> Lists:
    return {"layer_types": [_SLIDING if (i + 1) % 2 else _FULL for i in range(count)]}


def _every_sixth(config: Config, count: int) -> Lists:
    period = config.get("sliding_window_pattern", 6)
    if not _is_size(period):
        return {}
    return {"layer_types": [_SLIDING if (i + 1) % period else _FULL for i in range(count)]}


def _from_a_layer_on(config: Config, count: int) -> Lists:
    window, first = config.get("sliding_window", 4096), config.get("max_window_layers", 28)
    if not config.get("use_sliding_window") or window is None:
        return {"layer_types": [_FULL] * count}
    if not isinstance(first, int):
        return {}
    return {"layer_types": [_SLIDING if i >= first else _FULL for i in range(count)]}


def _without_rope(config: Config, count: int) -> Lists:
    period = config.get("no_rope_layer_interval", 4)
    if not _is_size(period):
        return {}
    given = config.get("no_rope_layers")
    rope = given if isinstance(given, list) else [int((i + 1) % period != 0) for i in range(count)]
    slides = bool(config.get("use_sliding_window")) and config.get("sliding_window") is not None
    kinds: list[Json] = [_SLIDING if slides and not one else _FULL for one in rope]
    return {"no_rope_layers": [*rope], "layer_types": kinds}


_SLIDING, _FULL = "sliding_attention", "full_attention"

_STATED = ("num_key_value_heads", "head_dim")

_FAMILIES = {
    "llama": _Family("LlamaForCausalLM", _LLAMA),
    "mistral": _Family("MistralForCausalLM", _LLAMA, _STATED[:1]),
    "granite": _Family("GraniteForCausalLM", _LLAMA),
    "qwen2": _Family("Qwen2ForCausalLM", _LLAMA | _BIASES, _STATED[:1], lists=_from_a_layer_on),
    "qwen3": _Family("Qwen3ForCausalLM", _LLAMA | _HEAD_NORMS, _STATED, lists=_from_a_layer_on),
    "gemma": _Family("GemmaForCausalLM", _LLAMA, _STATED, tied=True),
    "gemma2": _Family("Gemma2ForCausalLM", _LLAMA | _FEED_NORMS, _STATED, tied=True, lists=_alternating),
    "gemma3_text": _Family(
        "Gemma3ForCausalLM", _LLAMA | _FEED_NORMS | _HEAD_NORMS, _STATED, tied=True, lists=_every_sixth
    ),
    "phi3": _Family("Phi3ForCausalLM", _PHI3),
    "smollm3": _Family("SmolLM3ForCausalLM", _LLAMA, _STATED[:1], tied=True, lists=_without_rope),
    "gpt2": _Family(
        "GPT2LMHeadModel",
        _GPT2,
        tied=True,
        prefix="transformer.",
        stack="h.",
        around={
            "wte.weight": "vocabulary hidden",
            "wpe.weight": "positions hidden",
            "ln_f.weight": "hidden",
            "ln_f.bias": "hidden",
        },
    ),
}


def lists_of(config: Config, shapes: Mapping[str, Shape]) -> Lists | None:
    """The lists with a value per layer that a loader has of a model, given or derived, if it surely loads.

    It does when it is of a family here, has all tensors of its class and no other, and a config without surprises;
    otherwise None.
    """
    lists, sizes = kinds_of(config), _sizes(config)
    if lists is None or sizes is None:
        return None
    family = _FAMILIES[str(config["model_type"])]
    there = {name: shape for name, shape in shapes.items() if not _is_buffer(name, family)}
    expected = _tensors(family, config, sizes)
    if not any(name.startswith(family.prefix) for name in there):
        expected = {name.removeprefix(family.prefix): shape for name, shape in expected.items()}
    return lists if there == expected else None


def _is_buffer(name: str, family: _Family) -> bool:
    """Whether it is one of the masks that old releases saved, which loaders leave out."""
    return family.stack == "h." and name.endswith(".attn.bias")


def kinds_of(config: Config) -> Lists | None:
    """The lists of a config of such a family, given or derived; None where they are unknown."""
    family, sizes = _FAMILIES.get(str(config.get("model_type"))), _sizes(config)
    if family is None or sizes is None or not _is_sound(config, family):
        return None
    derived = family.lists(config, sizes["layers"])
    given: Lists = {}
    for key in ("layer_types", "no_rope_layers"):
        value = config.get(key)
        if value is None:
            continue
        if key not in derived or not isinstance(value, list) or len(value) != sizes["layers"]:
            return None
        if any(one not in ((_SLIDING, _FULL) if key == "layer_types" else (0, 1)) for one in value):
            return None
        given[key] = value
    complete = derived.keys() == family.lists({}, 1).keys()
    return derived | given if complete else None


def takes_lists(config: Config) -> bool:
    """Whether the installed transformers reads such lists in a config of this family: what its source says."""
    return "layer_types" in source_of(str(config.get("model_type")), "configuration")


def source_of(model_type: str, kind: str) -> str:
    """The source of the module of transformers for a family, "" where it has none; nothing is imported."""
    found = importlib.util.find_spec("transformers")
    roots = (found.submodule_search_locations if found else None) or []
    name = model_type.removesuffix("_text")
    texts = [
        file.read_text(encoding="utf-8", errors="replace")
        for root in roots
        for file in [Path(root, "models", name, f"{kind}_{name}.py")]
        if file.is_file()
    ]
    return "".join(texts)


# ---- tensors -----------------------------------------------------------------------------------------------


def _tensors(family: _Family, config: Config, sizes: Mapping[str, int]) -> dict[str, Shape]:
    """Every tensor on disk."""

    def shape(words: str) -> Shape:
        return tuple(sizes[word] for word in words.split())

    expected = {family.prefix + name: shape(words) for name, words in family.around.items()}
    one = {name: shape(words) for name, words in family.layer.items()}
    for layer in range(sizes["layers"]):
        expected |= {f"{family.prefix}{family.stack}{layer}.{name}": size for name, size in one.items()}
    if not config.get("tie_word_embeddings", family.tied):
        expected["lm_head.weight"] = shape("vocabulary hidden")
    return expected


def _sizes(config: Config) -> dict[str, int] | None:
    """The numbers that decide the shapes; None where the config leaves one to the class."""
    if config.get("model_type") == "gpt2":
        names = ("n_layer", "n_embd", "n_head", "vocab_size", "n_positions")
        inner = config.get("n_inner")
    else:
        names = (
            "num_hidden_layers",
            "hidden_size",
            "num_attention_heads",
            "vocab_size",
            "max_position_embeddings",
        )
        inner = config.get("intermediate_size", 0)
    found = [value for name in names if _is_size(value := config.get(name))]
    if len(found) < len(names):
        return None
    layers, hidden, heads, vocabulary, positions = found
    inner = 4 * hidden if inner is None else inner
    keys, head = config.get("num_key_value_heads"), config.get("head_dim")
    keys = heads if keys is None else keys
    head = hidden // heads if head is None else head
    if not (_is_size(inner) and _is_size(keys) and _is_size(head)) or hidden % heads or heads % keys:
        return None
    if layers > _MOST_LAYERS:
        return None
    return {
        "layers": layers,
        "hidden": hidden,
        "vocabulary": vocabulary,
        "positions": positions,
        "attention": heads * head,
        "keys": keys * head,
        "qkv": (heads + 2 * keys) * head,
        "head": head,
        "inner": inner,
        "gates": 2 * inner,
    }


_MOST_LAYERS = 10_000
"""More than that is not plausible, and a config is not to be trusted."""


def _is_size(value: Json) -> TypeGuard[int]:
    return type(value) is int and 0 < value < 1 << 40


# ---- config ------------------------------------------------------------------------------------------------


def _is_sound(config: Config, family: _Family) -> bool:
    """Whether there is nothing in a config that its class may object to."""
    return (
        config.get("architectures") == [family.cls]
        and all(_is_size(config.get(key)) for key in family.states)
        and bool(source_of(str(config["model_type"]), "modeling"))
        and all(_is_harmless(key, value, config) for key, value in config.items())
    )


def _is_harmless(key: str, value: Json, config: Config) -> bool:
    if key in ("rope_scaling", "rope_parameters"):
        return value is None or _is_rope(value, str(config.get("model_type")))
    if isinstance(value, dict):
        return key in ("id2label", "label2id", "task_specific_params")
    if isinstance(value, list) and not key.endswith("_token_id"):
        return key in ("architectures", "keys_to_ignore_at_inference", "layer_types", "no_rope_layers")
    if key in _WANTED:
        return _WANTED[key](value)
    if key.endswith("_token_id"):
        return value is None or _are_ids(value, config.get("vocab_size") if key == "pad_token_id" else None)
    if key.endswith(
        ("_eps", "_epsilon", "_range", "_dropout", "_pdrop", "_theta", "_multiplier", "_base_freq")
    ):
        return _is_number(value)
    return key not in _TELLING or not value


def _are_ids(value: Json, vocabulary: Json) -> bool:
    """Whether these are ids; below `vocabulary` if that is a number, as the embedding wants the id of padding."""
    ids = value if isinstance(value, list) and vocabulary is None else [value]
    most = vocabulary if isinstance(vocabulary, int) else 1 << 40
    return all(type(one) is int and -1 <= one < most for one in ids)


def _is_number(value: Json) -> bool:
    return type(value) in (int, float)


def _is_flag(value: Json) -> bool:
    return type(value) is bool


def _is_rope(value: Json, model_type: str) -> bool:
    """Whether it states an ordinary way to turn keys and queries, and all that belongs to it."""
    if not isinstance(value, dict):
        return False
    if value.keys() == {_SLIDING, _FULL} and model_type == "gemma3_text":
        return all(_is_rope(one, "") for one in value.values())
    kind = str(value.get("rope_type", value.get("type")))
    needs = {"default": (), "linear": ("factor",), "llama3": _LLAMA3}.get(kind)
    if needs is None or (needs and model_type == "phi3"):
        return False
    return all(_is_number(value.get(key)) for key in needs)


_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")

_TELLING = (
    "attention_bias",
    "mlp_bias",
    "add_cross_attention",
    "pruned_heads",
    "num_labels",
    "use_bidirectional_attention",
)
"""Keys that ask for other tensors when they are set."""

_FORMATS = ("float32", "float16", "bfloat16")
_ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

_WANTED: Mapping[str, Callable[[Json], bool]] = {
    "tie_word_embeddings": _is_flag,
    "use_cache": _is_flag,
    "use_sliding_window": _is_flag,
    "sliding_window": lambda value: value is None or _is_size(value),
    "partial_rotary_factor": lambda value: value == 1,
    "dtype": lambda value: value is None or value in _FORMATS,
    "torch_dtype": lambda value: value is None or value in _FORMATS,
    "hidden_act": lambda value: value in _ACTIVATIONS,
    "hidden_activation": lambda value: value is None or value in _ACTIVATIONS,
    "activation_function": lambda value: value in _ACTIVATIONS,
}
