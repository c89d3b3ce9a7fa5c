"""The shapes, configs and tokenizers of tiny models, as their files on the hub have them; read `FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

HIDDEN, INNER, HEADS, EXPERTS = 8, 16, 2, 4
PIXELS, PATCH = 4, 2

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Family:
    """How tiny models of a family are made, from the number of layers and of tokens."""

    config: Callable[[int, int], dict[str, Any]]
    shapes: Callable[[int, int], Shapes]
    tokens: tuple[str, ...]
    special_names: Mapping[str, str]
    tokenizer: Callable[[Mapping[str, int]], dict[str, Any]]
    heads: tuple[str, ...]
    """What a model lacks where it is tied to its embeddings."""

    @property
    def special(self) -> frozenset[str]:
        """The tokens that play a part."""
        return frozenset(self.special_names.values())


# ---- decoders ----------------------------------------------------------------------------------------------


def _decoder_config(layers: int, tokens: int) -> dict[str, Any]:
    return {
        "vocab_size": tokens,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": 64,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": False,
    }


def _llama_config(layers: int, tokens: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **_decoder_config(layers, tokens),
    }


def _moe_config(layers: int, tokens: int) -> dict[str, Any]:
    experts = {"num_local_experts": EXPERTS, "num_experts_per_tok": 2}
    return {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        **_decoder_config(layers, tokens),
        **experts,
    }


def _decoder(layers: int, tokens: int, inside: Shapes) -> Shapes:
    """A decoder whose layers have these tensors beside attention and norms."""
    attention: Shapes = {f"self_attn.{part}_proj.weight": (HIDDEN, HIDDEN) for part in "qkvo"}
    norms: Shapes = {f"{name}.weight": (HIDDEN,) for name in ("input_layernorm", "post_attention_layernorm")}
    layer = {**attention, **inside, **norms}
    return {
        "model.embed_tokens.weight": (tokens, HIDDEN),
        **{f"model.layers.{index}.{name}": shape for index in range(layers) for name, shape in layer.items()},
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (tokens, HIDDEN),
    }


def _llama(layers: int, tokens: int) -> Shapes:
    parts: Shapes = {f"mlp.{part}_proj.weight": (INNER, HIDDEN) for part in ("gate", "up")}
    return _decoder(layers, tokens, {**parts, "mlp.down_proj.weight": (HIDDEN, INNER)})


def _moe(layers: int, tokens: int) -> Shapes:
    widths = {"w1": (INNER, HIDDEN), "w2": (HIDDEN, INNER), "w3": (INNER, HIDDEN)}
    inside: Shapes = {"block_sparse_moe.gate.weight": (EXPERTS, HIDDEN)}
    for expert in range(EXPERTS):
        for part, shape in widths.items():
            inside[f"block_sparse_moe.experts.{expert}.{part}.weight"] = shape
    return _decoder(layers, tokens, inside)


# ---- encoders ----------------------------------------------------------------------------------------------


def _linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str) -> Shapes:
    return {f"{name}.weight": (HIDDEN,), f"{name}.bias": (HIDDEN,)}


def _bert_config(layers: int, tokens: int) -> dict[str, Any]:
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": tokens,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "pad_token_id": 0,
    }


def _bert(layers: int, tokens: int) -> Shapes:
    embeddings = "bert.embeddings."
    found: Shapes = {
        f"{embeddings}word_embeddings.weight": (tokens, HIDDEN),
        f"{embeddings}position_embeddings.weight": (64, HIDDEN),
        f"{embeddings}token_type_embeddings.weight": (2, HIDDEN),
        **_norm(f"{embeddings}LayerNorm"),
    }
    for index in range(layers):
        layer = f"bert.encoder.layer.{index}."
        for part in ("query", "key", "value"):
            found |= _linear(f"{layer}attention.self.{part}", HIDDEN, HIDDEN)
        found |= _linear(f"{layer}attention.output.dense", HIDDEN, HIDDEN)
        found |= _norm(f"{layer}attention.output.LayerNorm")
        found |= _linear(f"{layer}intermediate.dense", INNER, HIDDEN)
        found |= _linear(f"{layer}output.dense", HIDDEN, INNER)
        found |= _norm(f"{layer}output.LayerNorm")
    head = "cls.predictions."
    found |= _linear(f"{head}transform.dense", HIDDEN, HIDDEN)
    return {**found, **_norm(f"{head}transform.LayerNorm"), f"{head}bias": (tokens,)}


# ---- a model that sees -------------------------------------------------------------------------------------


def _vlm_config(layers: int, tokens: int) -> dict[str, Any]:
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "projection_dim": HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "image_size": PIXELS,
        "patch_size": PATCH,
    }
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": len(TEXT),
        "vision_feature_layer": -1,
        "vision_config": vision,
        "text_config": {"model_type": "llama", **_decoder_config(layers, tokens)},
        "tie_word_embeddings": False,
    }


def _vlm(layers: int, tokens: int) -> Shapes:
    text = {f"language_model.{name}": shape for name, shape in _llama(layers, tokens).items()}
    tower = "vision_tower.vision_model."
    patches = (PIXELS // PATCH) ** 2
    found: Shapes = {
        f"{tower}embeddings.class_embedding": (HIDDEN,),
        f"{tower}embeddings.patch_embedding.weight": (HIDDEN, 3, PATCH, PATCH),
        f"{tower}embeddings.position_embedding.weight": (patches + 1, HIDDEN),
        **_norm(f"{tower}pre_layrnorm"),
        **_norm(f"{tower}post_layernorm"),
    }
    for index in range(layers):
        layer = f"{tower}encoder.layers.{index}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= _linear(f"{layer}self_attn.{part}", HIDDEN, HIDDEN)
        found |= _norm(f"{layer}layer_norm1") | _norm(f"{layer}layer_norm2")
        found |= _linear(f"{layer}mlp.fc1", INNER, HIDDEN) | _linear(f"{layer}mlp.fc2", HIDDEN, INNER)
    found |= _linear("multi_modal_projector.linear_1", HIDDEN, HIDDEN)
    found |= _linear("multi_modal_projector.linear_2", HIDDEN, HIDDEN)
    return {**text, **found}


# ---- tokenizers --------------------------------------------------------------------------------------------

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
MERGES = ("t h", "th e", "Ġ the", "i n", "a n", "an d")


def _byte_pairs(ids: Mapping[str, int]) -> dict[str, Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": dict(ids),
        "merges": list(MERGES),
    }
    return {
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": model,
    }


def _word_pieces(ids: Mapping[str, int]) -> dict[str, Any]:
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": dict(ids),
    }
    return {
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": model,
    }


TEXT = ("<s>", "</s>", "Ġ", *LETTERS, *(merge.replace(" ", "") for merge in MERGES))
MASKED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{one}" for one in LETTERS))
ENDS = {"bos_token": "<s>", "eos_token": "</s>"}
PARTS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}

FAMILIES: Mapping[str, Family] = {
    "llama": Family(_llama_config, _llama, TEXT, ENDS, _byte_pairs, ("lm_head.weight",)),
    "moe": Family(_moe_config, _moe, TEXT, ENDS, _byte_pairs, ("lm_head.weight",)),
    "bert": Family(_bert_config, _bert, MASKED, PARTS, _word_pieces, ()),
    "vlm": Family(
        _vlm_config,
        _vlm,
        (*TEXT, "<image>"),
        {**ENDS, "image_token": "<image>"},
        _byte_pairs,
        ("language_model.lm_head.weight",),
    ),
}
"""By name."""
