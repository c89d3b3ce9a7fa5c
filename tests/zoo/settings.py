"""How configs are shrunk: sizes to try, rules by the names of keys, and what no rule can know."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

LARGEST = 8_000_000
"""Parameters of a tiny model at most."""

TOKENS = 96


@dataclass(frozen=True)
class Size:
    """The numbers of a tiny model."""

    layers: int
    hidden: int
    heads: int
    groups: int
    head: int
    inner: int


SIZES = (
    Size(4, 32, 4, 2, 8, 48),
    Size(4, 32, 4, 4, 8, 48),
    Size(4, 64, 4, 2, 16, 96),
    Size(4, 64, 4, 4, 16, 64),
    Size(4, 128, 4, 2, 32, 128),
    Size(2, 32, 4, 2, 8, 48),
    Size(8, 64, 8, 4, 8, 96),
    Size(4, 256, 4, 4, 64, 256),
    Size(12, 64, 4, 2, 16, 64),
)

FILLED = (
    r"head_dim|num_key_value_heads|kv_channels|vocab_size|num_layers|pad_token_id|.*_dim|.*_size"
    r"|num_experts|n_routed_experts|n_shared_experts"
)
"""Keys that may be None and then stand for something large."""

_RULES: tuple[tuple[str, str | int], ...] = (
    (r"(.*_)?vocab_size(_.*)?|ngram_vocab_size_base|encoder_hash_byte_group_vocab", TOKENS),
    (r"num_position_embeddings", TOKENS),
    (r"first_k_dense_replace|num_dense_layers", 1),
    (r"((.*_)?num|n|.*encoder|.*decoder|.*_n)_(.*_)?(layers?|blocks)|layers|depth|resampler_depth", "layers"),
    (r"num_self_attends_per_block", "layers"),
    (r"((num|n)_|.*_num_)?(key_value_heads|kv_heads|head_kv|query_groups|n_kv_heads)|kv_n_heads", "groups"),
    (r"(num|n)_.*heads?|num_heads|n_head|.*attention_heads|.*_heads", "heads"),
    (r"(.*_)?(head_dim|d_kv|d_head|attention_head_size|dim_head|headdim|d_state|state_size)", "head"),
    (
        r".*(hidden_size|d_model|n_embd|embed_dim|embedding_size|hidden_dim|model_dim|emb_dim|embedding_dim|emb_size"
        r"|projection_dim|output_dim|lru_width|input_dim)(_.*)?|dim|d_latents",
        "hidden",
    ),
    (
        r"(.*_)?(intermediate_size|ffn_dim|d_ff|dff|n_inner|mlp_dim|dim_ff|ffn_hidden_size|inner_dim|d_inner"
        r"|expert_dim)(_.*)?",
        "inner",
    ),
    (r"(num|n)_.*experts|moe_num_experts|num_experts|zero_expert_num", 4),
    (r".*(experts_per_tok|experts_per_token|top_k|topk|num_selected_experts)", 2),
    (r"n_group|topk_group", 1),
    (r".*_rank", 8),
    (r"max_position_embeddings|n_positions|max_.*positions|max_.*length|n_ctx", 64),
    (r"image_size|max_image_size|resolution", 32),
    (r"codebook_size|num_embeddings", 16),
    (r"conv_dim|base_channels|upsample_initial_channel", 32),
)
_ID_KEYS = r".*token_(id|index)|(.*_)?(pad|eos|bos|unk|mask)_(id|index)"


def shrunk_number(key: str, value: int, size: Size) -> int:
    """The number for a key of a config: never larger than before, and 0 and less stay."""
    if re.fullmatch(_ID_KEYS, key):
        return value % TOKENS if value >= TOKENS else value
    for pattern, new in _RULES:
        if re.fullmatch(pattern, key):
            number = getattr(size, new) if isinstance(new, str) else new
            return min(value, number) if value > 0 else value
    return value


_TOKEN_MAP = {"<image>": 5, "<|extra_200|>": 6, **{f"IMGIMG{i}": 8 + i for i in range(4)}}

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_ROPES = {"full_attention": _ROPE, "sliding_attention": _ROPE}
_STAGES = {
    "embed_dim": [8, 8, 16, 16],
    "num_heads": [1, 1, 2, 2],
    "num_groups": [1, 1, 2, 2],
    "depths": [1, 1, 1, 1],
}
_FILTERS = {"num_filters": 4, "depths": [1, 1, 1, 1, 1, 1, 1]}

SPECIAL: dict[str, dict[str, Any]] = {
    "Apertus1p5ForConditionalGeneration": {
        "image_token_offset": 16,
        "audio_token_offset": 32,
        "audio_config": {"codebook_dim": 32},
    },
    "BambaForCausalLM": {"mamba_d_head": 16},
    "ChameleonForConditionalGeneration": {"vocabulary_map": _TOKEN_MAP},
    "CohereCompassForCausalLM": {"rope_parameters": _ROPES},
    "CohereCompassForConditionalGeneration": {"text_config": {"rope_parameters": _ROPES}},
    "Cosmos3EdgeForConditionalGeneration": {
        "text_config": {"rope_parameters": {**_ROPE, "mrope_section": [2, 1, 1]}}
    },
    "DbrxForCausalLM": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0},
        "ffn_config": {"moe_num_experts": 4, "moe_top_k": 2, "ffn_hidden_size": 48},
    },
    "DeepseekOcr2ForConditionalGeneration": {
        "text_config": {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}
    },
    "DiffusionGemmaForBlockDiffusion": {"text_config": {"global_head_dim": 16, "top_k_experts": 2}},
    "DoryForCausalLM": {
        "num_hidden_layers": 6,
        "n_input_layers": 2,
        "n_recurrent_layers": 2,
        "n_output_layers": 2,
    },
    "Dots3NoteForCausalLM": {"num_attention_heads": 4, "num_key_value_heads": 4},
    "Emu3ForConditionalGeneration": {"vocabulary_map": _TOKEN_MAP},
    "Ernie4_5_VLMoeForConditionalGeneration": {
        "text_config": {
            "rope_parameters": {**_ROPE, "mrope_section": [1, 1, 2]},
            "moe_intermediate_size": [48, 24],
        }
    },
    "FalconH1ForCausalLM": {"mamba_d_ssm": 64, "mamba_d_head": 16},
    "Florence2ForConditionalGeneration": {"vision_config": _STAGES},
    "Gemma3nForCausalLM": {
        "num_hidden_layers": 10,
        "num_kv_shared_layers": 5,
        "intermediate_size": [48] * 10,
    },
    "Gemma4AssistantForCausalLM": {
        "text_config": {
            "model_type": "gemma4_text",
            "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": 0,
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 4,
        }
    },
    "Granite4VisionForConditionalGeneration": {
        "deepstack_layer_map": [[1, 0], [2, 1]],
        "downsample_rate": "1/2",
    },
    "GraniteMoeHybridForCausalLM": {"mamba_d_head": 16},
    "Glm5NextForConditionalGeneration": {"text_config": {"index_topk": 16, "num_key_value_heads": 4}},
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "conv", "full_attention", "conv"]},
    "Mamba2ForCausalLM": {"head_dim": 16},
    "MuseSparkForConditionalGeneration": {
        "audio_config": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
    },
    "PerceiverForMaskedLM": {"d_model": 32, "d_latents": 32, "num_latents": 8},
    "ReformerModelWithLMHead": {"is_decoder": True},
    "VibeVoiceAsrForConditionalGeneration": {
        "acoustic_tokenizer_encoder_config": _FILTERS,
        "semantic_tokenizer_encoder_config": _FILTERS,
    },
}
"""By class: settings that fit together in ways which the names of the keys do not tell."""
