"""What a dense model consists of, whatever its files call it; read `dense_of`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from mergecore.errors import InputError, some
from mergecore.types import Checkpoint, Joined, Json, Planner, Segment, TensorInfo

PARTS = {"gate": "mlp.gate_proj.weight", "up": "mlp.up_proj.weight", "down": "mlp.down_proj.weight"}
"""The matrices of a gated feed-forward block, as dense models call them."""

OUTER = {
    "embed_tokens.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}
"""The tensors outside the layers: without the name of the module that holds the layers, and in a mixture."""

_COMPUTED = re.compile(r"(self_attn\.)?rotary_emb\.inv_freq|self_attn\.(masked_)?bias")
"""Tensors that old files have, and that every loader computes."""


@dataclass(frozen=True)
class Dense:
    """A dense model: its tensors under the names that most families use, those stored as one told apart."""

    model: Checkpoint
    config: Mapping[str, Json]
    """Its config.json, with what its loader takes for what is not said."""
    outer: Mapping[str, TensorInfo]
    layers: tuple[Mapping[str, TensorInfo], ...]
    known: bool = True
    """Whether a loader is known, so that `config` says all."""
    faults: tuple[str, ...] = field(default=())
    """Why it is no stack of equal layers."""

    @cached_property
    def layer(self) -> frozenset[str]:
        """The names of the tensors of a layer."""
        return frozenset(self.layers[0]) if self.layers else frozenset()

    @property
    def family(self) -> str:
        """The type that its config states."""
        return str(self.config.get("model_type") or "a model without model_type")


def dense_of(model: Checkpoint, planner: Planner) -> Dense:
    """A model as a stack of equal layers.

    Raises:
        InputError: E222 when it has no layers, or several stacks of them.
    """
    description = planner.describe(model)
    stack = description.main
    if stack is None or not stack.count:
        what = "it has no stack of layers of which one could tell that it is the one to get experts"
        hint = "a mixture of experts is made of models of text"
        raise InputError("E222", what, place=model.name, hint=hint)
    completed = planner.completed(model)
    config = completed or _as_llama(model, planner)
    outer: dict[str, TensorInfo] = {}
    layers: list[dict[str, TensorInfo]] = [{} for _ in range(stack.count)]
    above = re.sub(r"[^.]+\.$", "", stack.prefix)  # model. of model.layers.
    for name, tensor in model.tensors.items():
        facts = description.tensors[name]
        inner = facts.stack == stack.prefix and facts.layer is not None
        suffix = facts.suffix if inner else name.removeprefix(above)
        if _COMPUTED.fullmatch(suffix):
            continue
        if inner and facts.layer is not None:
            layers[facts.layer] |= _apart(suffix, tensor, config)
        else:
            outer[suffix] = tensor
    faults = (*_unequal(layers), *_foreign(outer))
    return Dense(model, config, outer, tuple(layers), completed is not None, faults)


def _as_llama(model: Checkpoint, planner: Planner) -> Mapping[str, Json]:
    """The config of a model of a type that nobody knows: what it does not say is as in its tensors, or in a Llama."""
    named: dict[str, Json] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    filled = planner.completed(replace(model, config={**model.config, **named})) or {}
    inner = next((one.shape[0] for name, one in model.tensors.items() if name.endswith(PARTS["gate"])), None)
    return {**filled, **({"intermediate_size": inner} if inner else {}), **model.config}


def _unequal(layers: list[dict[str, TensorInfo]]) -> Iterator[str]:
    first = layers[0]
    for index, layer in enumerate(layers):
        if other := [*(first.keys() ^ layer.keys())]:
            yield f"layer {index} differs from layer 0 by {some(sorted(other), 3)}"
            return


def _foreign(outer: Mapping[str, TensorInfo]) -> Iterator[str]:
    if other := [name for name in outer if name not in OUTER]:
        yield f"the model has {some(other, 3)} beside its layers"


# ---- tensors stored as one ---------------------------------------------------------------------------------


def _apart(suffix: str, tensor: TensorInfo, config: Mapping[str, Json]) -> dict[str, TensorInfo]:
    """The tensors that one of a layer holds, by their names."""
    module, _, leaf = suffix.rpartition(".")
    counts = _rows(module, tensor.shape[0], config) if tensor.shape else {}
    if sum(counts.values()) != (tensor.shape[0] if tensor.shape else 0):
        return {suffix: tensor}
    found, at = {}, 0
    for part, count in counts.items():
        found[f"{part}.{leaf}"] = rows_of(tensor, at, count)
        at += count
    return found


def _rows(module: str, rows: int, config: Mapping[str, Json]) -> dict[str, int]:
    """How many rows of a tensor each part of it has, one behind the other; nothing for one that has no parts."""
    if module == "mlp.gate_up_proj":
        return {"mlp.gate_proj": rows // 2, "mlp.up_proj": rows - rows // 2}
    if module in ("self_attn.qkv_proj", "self_attn.W_pack"):
        heads, shared, width = head_counts(config)
        sizes = {"q": heads * width, "k": shared * width, "v": shared * width}
        return {f"self_attn.{part}_proj": count for part, count in sizes.items()}
    return {}


def head_counts(config: Mapping[str, Json]) -> tuple[int, int, int]:
    """Heads, heads of keys and values, and the width of one."""
    heads = number(config, "num_attention_heads") or 1
    shared = number(config, "num_key_value_heads") or heads
    return heads, shared, number(config, "head_dim") or (number(config, "hidden_size") or 0) // heads


def number(config: Mapping[str, Json], key: str) -> int | None:
    """A whole number of a config; None where it has another value."""
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def rows_of(tensor: TensorInfo, first: int, count: int) -> TensorInfo:
    """Rows of a tensor."""
    width = math.prod(tensor.shape[1:])
    shape = (count, *tensor.shape[1:])
    data = Joined(tensor.dtype, shape, (Segment(0, tensor.data, first * width, count * width),))
    return TensorInfo(tensor.name, data)
