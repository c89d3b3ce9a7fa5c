"""What families have in common: names of tensors, and keys of config.json that several of them read."""

from __future__ import annotations

from mergecore.errors import some
from mergecore.types import ExpertPart, Json, Mixture


def as_they_are(*names: str) -> dict[str, str]:
    """Tensors that a family calls as dense models do."""
    return {name: name for name in names}


NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
ATTENTION = tuple(f"self_attn.{part}_proj.weight" for part in "qkvo")
BIASES = tuple(f"self_attn.{part}_proj.bias" for part in "qkv")
ALL_BIASES = (*BIASES, "self_attn.o_proj.bias")
HEAD_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")

LLAMA = as_they_are(*NORMS, *ATTENTION)
"""The layer of a Llama, without its feed-forward block."""


def each(
    prefix: str, gate: str = "gate_proj", up: str = "up_proj", down: str = "down_proj"
) -> dict[str, tuple[ExpertPart, ...]]:
    """One tensor for each matrix."""
    return {
        f"{prefix}.{gate}.weight": ("gate",),
        f"{prefix}.{up}.weight": ("up",),
        f"{prefix}.{down}.weight": ("down",),
    }


EXPERTS = each("mlp.experts.{expert}")
FUSED: dict[str, tuple[ExpertPart, ...]] = {
    "mlp.experts.gate_up_proj": ("gate", "up"),
    "mlp.experts.down_proj": ("down",),
}


def windows(mixture: Mixture) -> tuple[int | None, bool]:
    """The sliding window of the layers that have one, and whether others have none."""
    config = mixture.config
    kinds, window = config.get("layer_types"), config.get("sliding_window")
    size = window if isinstance(window, int) and not isinstance(window, bool) else None
    if config.get("use_sliding_window") is False:
        return None, False
    if isinstance(kinds, list) and kinds:
        sliding = [kind == "sliding_attention" for kind in kinds]
        return (size, not all(sliding)) if any(sliding) else (None, False)
    return size, False


def window_keys(mixture: Mixture) -> dict[str, Json]:
    """What families with windows say of them."""
    size, mixed = windows(mixture)
    listed: dict[str, Json] = {"layer_types": mixture.config.get("layer_types")} if mixed else {}
    return {
        "sliding_window": size,
        "max_window_layers": 0 if size else mixture.config.get("num_hidden_layers"),
        **listed,
    }


def unlike_windows(mixture: Mixture) -> list[str]:
    """Why a family with one window for all layers cannot express a model."""
    size, mixed = windows(mixture)
    return [f"all of its layers have the same window, and only some have one of {size} here"] if mixed else []


def no_windows(mixture: Mixture) -> list[str]:
    """Why a family without windows cannot express a model."""
    size, _ = windows(mixture)
    return [f"it has no place for sliding_window: {size}"] if size else []


def whole_heads(mixture: Mixture) -> list[str]:
    """Why a family whose heads share the width of the model cannot express one."""
    heads, width, hidden = (
        mixture.config.get(key) for key in ("num_attention_heads", "head_dim", "hidden_size")
    )
    if isinstance(heads, int) and isinstance(width, int) and heads * width != hidden:
        return [f"its heads are as wide as the model together, and {heads} heads of {width} are not {hidden}"]
    return []


def whole_rope(mixture: Mixture) -> list[str]:
    """Why a family that turns whole heads cannot express a model."""
    rope = mixture.config.get("rope_parameters")
    part = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
    part = part or mixture.config.get("partial_rotary_factor")
    return [f"it has no place for partial_rotary_factor: {part}"] if part not in (None, 1, 1.0) else []


def len_of(mixture: Mixture) -> int:
    """The number of layers."""
    count = mixture.config.get("num_hidden_layers")
    assert isinstance(count, int)
    return count


def has_biases(mixture: Mixture) -> bool:
    """Whether any projection of the attention has a bias."""
    return not mixture.layer.isdisjoint(ALL_BIASES)


def inner(mixture: Mixture) -> Json:
    """The width of a feed-forward block."""
    return mixture.config.get("intermediate_size")


def biases_that_vllm_lacks(mixture: Mixture, *known: str) -> list[str]:
    """What to say of biases of the attention that the class of vLLM has not, but for the `known` ones."""
    lost = sorted(mixture.layer & {*ALL_BIASES} - {*known})
    return [f"vLLM leaves {some(lost, 4)} out of models of this family without a word"] if lost else []
