"""Tensors that some checkpoints store and no loader needs: it makes them itself from the config.

Whether they are there depends on the release that wrote a checkpoint.  They are no weights: one is taken as it is,
from the first model that has it.
"""

from __future__ import annotations

import re

from mergecore.types import TensorInfo

_NAMES = re.compile(
    r"(.*\.)?(position_ids|token_type_ids|num_batches_tracked|(\w+_)?inv_freq|masked_bias|_float_tensor"
    r"|(cos|sin)_cached|(cos|sin)_cache|relative_position_index|relative_coords_table|causal_mask|attn_mask)"
)
_MASKS = re.compile(r"(.*\.)?(attn|attention|self_attn|self_attention)\.(bias|mask)")
_INTEGERS = ("position_ids", "token_type_ids", "num_batches_tracked", "relative_position_index")


def is_buffer(tensor: TensorInfo) -> bool:
    """Whether a tensor is known as one that loaders make themselves: by its name, its shape and its format."""
    if _MASKS.fullmatch(tensor.name):
        return len(tensor.shape) == 4 and tensor.shape[:2] == (1, 1) and tensor.shape[2] == tensor.shape[3]
    if not _NAMES.fullmatch(tensor.name):
        return False
    if tensor.name.endswith(_INTEGERS):
        return tensor.dtype in ("I64", "I32", "I16", "U8", "I8") or len(tensor.shape) < 3
    return True
