"""Which keys of a config.json give weights a meaning, and which are about files, tokens, training or use.

Whatever is not known to be without meaning has one.
"""

from __future__ import annotations

import re

from mergecore.models.layers import LAYER_COUNT_KEYS
from mergecore.types import Json

_FILES = (
    r"_(?!(sliding_window_pattern|remove_final_layer_norm|frame_rate)$)\w*|name_or_path|architectures|auto_map|model_type"
    r"|(\w+_)?(transformers|diffusers|peft|torch|tokenizers|unsloth|model|config|format)_version|(torch_)?dtype"
    r"|keys_to_ignore\w*|quantization_config|prune\w*"
)
_TOKENS = (
    r"(\w+_)?token_(ids?|index|indices)|(bos|eos|pad|unk|sep|cls|mask|boi|eoi|image|audio|video)_token"
    r"|\w*special_tokens|vocab_size|(id2)?label(2id)?|num_labels|tie_\w+"
)
_TRAINING = (
    r"(?!token_dropout$)\w*dropout\w*|(\w*_)?p?drop|\w*layerdrop|\w*drop_?path(_rate)?|(\w+_)?drop(_connect)?_rate"
    r"|\w*initializer\w*|init_(std|xavier_std|device|config|method|range|scale|gain|codebook)"
    r"|init_(cell_selection_weights_to_zero|layernorm_from_vision_encoder|div_is_residual|nonlinearity)"
    r"|(\w+_)?loss(_\w+)?|(\w+_)?aux_coef|seq_aux|apply_spec_augment|mask_(time|feature)_(prob|length|min_masks)"
    r"|freeze_\w+|gradient_(checkpointing|accumulation)\w*|(finetuning_)?tasks?|task_specific_params|unsloth_\w+"
)
_USE = (
    r"use_cache|use_bfloat16|torchscript|pretraining_tp|trust_remote_code|\w*_implementation(_\w+)?|return_dict\w*"
    r"|output_(attentions|a3_attentions|hidden_states|past|router_logits|auxiliary_logits|retrieved|segmentation|scores)"
    r"|use_flash_att\w+|flash_attn"
)
_GENERATION = (
    r"(max|min)_length|(\w+_)?(max|min)_new_tokens|do_sample|temperature|top_[kp]|typical_p|num_beam\w*|\w*_penalty"
    r"|\w*no_repeat_ngram_size|early_stopping|num_return_sequences|bad_words_ids|forced_\w+|(begin_)?suppress_tokens"
    r"|prefix|remove_invalid_values|chunk_size_feed_forward"
)
_NO_MEANING = re.compile("|".join((_FILES, _TOKENS, _TRAINING, _USE, _GENERATION)))
_NAMES = ("name", "version")
"""Those of the model where they stand at the top; further down, of a function or of a kind of attention."""

_OF_LAYERS = re.compile(r"\w*(layer|block|stage)s?(_\w+)?")
_COUNTS = re.compile(
    r"(\w+_)?num_(hidden_)?(layers|blocks|stages)|num_(nextn_predict|mtp)_layers|(\w+_)?(en|de)coder_(layers|blocks)"
    r"|n_(input|recurrent|output)_layers|num_layers_per_stack|" + "|".join(LAYER_COUNT_KEYS)
)
"""Keys that count modules, which tensors show."""


def is_of_use(key: str) -> bool:
    """Whether a key, wherever it stands, is about files, tokens, training or use: weights mean the same without it."""
    return bool(_NO_MEANING.fullmatch(key))


def has_meaning(key: str, value: Json, *, stacked: bool, nested: bool) -> bool:
    """Whether a value gives weights a meaning.

    stacked: leave out what differs between the layers.
    nested: the value stands in a config within the config.
    """
    if is_of_use(key) or (key in _NAMES and not nested):
        return False
    if key == "problem_type":
        return value is not None  # else it follows from the labels
    if not _OF_LAYERS.fullmatch(key) or "norm" in key:
        return True
    if isinstance(value, list):
        return not stacked
    return not stacked and not _COUNTS.fullmatch(key)
