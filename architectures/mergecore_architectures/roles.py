"""What a tensor does, guessed from its name: the spellings of many model families in a few tables.

Read `layer_role` and `outer_role`; a role is a dotted word such as `attn.q`, and `attn` means all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Table = tuple[tuple[str, str], ...]
"""Roles, and patterns of the last module in a name."""


def layer_role(suffix: str, sparse: bool = False) -> str:
    """The role of a tensor with this name in a layer, or nothing; `sparse` models have experts, so routers."""
    modules, leaf = _split(suffix)
    if _is_norm(leaf):
        return "norm"
    if leaf in ("router", "shared_expert_gate", "e_score_correction_bias") or "router" in modules:
        return "router"
    if sparse and leaf == "gate":
        return "router"
    if not modules.isdisjoint(_EXPERTS) or (leaf in _ALL_EXPERTS and "shared_mlp" not in modules):
        return _joined("expert", _find(_MLP, leaf))
    mixer, forward = not modules.isdisjoint(_MIXERS), bool(_FEED_FORWARD.search(suffix))
    if mixer and (role := _find(_MIXER, leaf)):
        return _joined("mixer", role)
    attention = bool(_ATTENTION.search(suffix)) and not forward
    role = _find(_ATTENTION_ONLY, leaf) if attention else None
    if role := role or (None if forward else _find(_ATTENTION_NAMES, leaf)):
        return _joined("attn", role)
    if attention:
        return "attn"
    if role := _find(_MLP, leaf) or _bert_mlp(suffix):
        return _joined("mlp", role)
    return "mlp" if forward else "mixer" if mixer else ""


def outer_role(name: str) -> str:
    """The role of a tensor outside the layers, or nothing."""
    _, leaf = _split(name)
    if _POSITIONS.fullmatch(leaf):
        return "embed.position"
    if leaf in ("token_type_embeddings", "segment_embeddings"):
        return "embed.type"
    if _HEAD.search(name):
        return "head"
    if _CLASSIFIER.search(name):
        return "head.classifier"
    if _is_norm(leaf):
        return "norm"
    return "embed" if _TOKENS.fullmatch(leaf) else ""


def is_token_embedding(name: str) -> bool:
    """Whether the rows of a tensor of this name outside the layers can only be tokens."""
    return bool(re.fullmatch(_WORDS, _split(name)[1]))


def tied_head(names: Iterable[str]) -> str:
    """The name of the head matrix, when of the whole head only other parts are on disk."""
    names = list(names)
    known = (head for part, head in _HEADS if any(re.match(part, name) for name in names))
    return next(known, "lm_head.weight")


def is_vocabulary_head(name: str) -> bool:
    """Whether a tensor of this name yields a number per token, rather than preparing for that."""
    return outer_role(name) == "head" and bool(_OUTPUT.search(name))


def is_after(name: str) -> bool:
    """Whether a tensor outside the layers is applied after them, as a final norm or a head is."""
    role = outer_role(name)
    if role.startswith("head") or _LAST_NORM.search(name):
        return True
    return not _FIRST.search(name) and (role == "norm" or bool(_LAST.search(name)))


def is_list_of_heads(prefix: str) -> bool:
    """Whether what has a number behind this prefix is a head, as where there is one for each codebook."""
    return bool(_LISTS_OF_HEADS.search(prefix))


def modality(name: str) -> str | None:
    """The part beside the text model to which a tensor belongs, if any; `extra` predicts further tokens."""
    words = re.split(r"[._]", name.lower())
    return next((kind for kind, known in _MODALITIES.items() if any(map(known.fullmatch, words))), None)


def _split(name: str) -> tuple[set[str], str]:
    """The modules in a name, and the last of them: the tensor itself where it is not a plain weight or bias."""
    parts = name.split(".")
    leaf = parts[-2] if len(parts) > 1 and parts[-1] in _PARAMETERS else parts[-1]
    return set(parts), re.sub(r"_(bias|blocks|scales)$", "", leaf) if "correction" not in leaf else leaf


_PARAMETERS = ("weight", "bias", "gamma", "beta", "scale", "kernel")


def _is_norm(leaf: str) -> bool:
    return bool(re.search(r"norm|(?<![a-z])ln(?![a-z])", leaf, re.IGNORECASE))


def _find(table: Table, leaf: str) -> str | None:
    return next((role for role, pattern in table if re.fullmatch(pattern, leaf)), None)


def _joined(head: str, tail: str | None) -> str:
    return f"{head}.{tail}" if tail else head


# ---- inside layers -----------------------------------------------------------------------------------------

_ATTENTION = re.compile(r"att(n|entio?n)?(?![a-z])|attention|attn", re.IGNORECASE)
_ATTENTION_NAMES: Table = (
    ("q", r"q_proj|q_lin|query|query_proj|wq|Wq|to_q|q_[ab]_proj|q_b|q_a"),
    ("k", r"k_proj|k_lin|key|key_proj|wk|Wk|to_k"),
    ("v", r"v_proj|v_lin|value|value_proj|wv|Wv|to_v"),
    ("kv", r"kv_a_proj_with_mqa|kv_[ab]_proj|kv_proj|to_kv"),
    ("qkv", r"qkv|qkv_proj|query_key_value|wqkv|Wqkv|W_pack|c_attn|to_qkv"),
    ("o", r"o_proj|out_lin|to_out"),
)
_ATTENTION_ONLY: Table = (
    ("q", "q"),
    ("k", "k"),
    ("v", "v"),
    ("qkv", r"in_proj|in_proj_weight"),
    ("o", r"o|wo|Wo|out_proj|dense|c_proj|proj|linear_proj|proj_out"),
)
_EXPERTS = {"expert", "experts", "local_experts"}
_ALL_EXPERTS = ("input_linear", "output_linear")
_MLP: Table = (
    ("gate", r"gate_proj|w1|wi_0|gate|linear_gate"),
    ("up", r"up_proj|w3|v1|wi|wi_1|c_fc|fc1|fc_in|lin1|dense_h_to_4h|ffn"),
    ("down", r"down_proj|w2|wo|c_proj|fc2|fc_out|lin2|dense_4h_to_h|output_linear|ffn_output|Wo"),
    ("gate_up", r"gate_up_proj|gate_and_up_proj|input_linear|Wi"),
)
_FEED_FORWARD = re.compile(
    r"(^|\.)(mlp|shared_mlp|ffn|feed_forward|feedforward|DenseReluDense|block_sparse_moe)\."
)
_MIXERS = {"mixer", "mamba", "ssm", "linear_attn"}
_MIXER: Table = (
    ("in", r"in_proj(_\w+)?"),
    ("out", r"out_proj"),
    ("x", r"x_proj"),
    ("dt", r"dt_proj|dt"),
    ("conv", r"conv1d|conv"),
    ("A", r"A_log|A"),
    ("D", r"D"),
)


def _bert_mlp(suffix: str) -> str | None:
    if suffix.startswith("intermediate.dense."):
        return "up"
    return "down" if suffix.startswith("output.dense.") else None


# ---- outside layers ----------------------------------------------------------------------------------------

_WORDS = r"wte|embed_in|embed_tokens(_per_layer)?|(tok|token|word)_embeddings?|tokens_embed|shared"
_TOKENS = re.compile(rf"{_WORDS}|embed|embeddings?")
_POSITIONS = re.compile(r"wpe|embed_positions|pos_embed|positions?_embed(dings?)?")
_HEAD = re.compile(
    r"(^|\.)((generator_)?lm_head|lm_loss|embed_out|(cls\.|generator_)?predictions|vocab_\w+|final_logits_bias)(\.|$)"
    r"|^(model\.|transformer\.)?(output|decoder)\.(weight|bias)$|^(model\.)?head\.|(^|\.)output_layer\.weight$"
)
_CLASSIFIER = re.compile(
    r"(^|\.)(classifier|classification_head|pre_classifier|score|qa_outputs|pooler|seq_relationship)(\.|$)"
)

_OUTPUT = re.compile(
    r"(^|\.)((generator_)?lm_head|lm_loss|embed_out|output|head|output_layer|decoder|predictions|vocab_projector)"
    r"\.(weight|bias)$"
    r"|(^|\.)final_logits_bias$"
)
_HEADS = (
    (r"cls\.predictions\.", "cls.predictions.decoder.weight"),
    (r"predictions\.", "predictions.decoder.weight"),
    (r"lm_head\.(dense|layer_norm)\.", "lm_head.decoder.weight"),
    (r"vocab_transform\.", "vocab_projector.weight"),
    (r"generator_predictions\.", "generator_lm_head.weight"),
    (r"head\.dense\.", "decoder.weight"),
    (r"language_model\.model\.", "language_model.lm_head.weight"),
)
_LAST_NORM = re.compile(r"(^|\.)embedding_norm\.")  # LFM2's name for the norm after the layers
_FIRST = re.compile(r"emb|pre_|patch|feature_(projection|extractor)|per_layer")
"""Parts of names of what makes vectors of the input, a norm or a projection of it included."""
_LISTS_OF_HEADS = re.compile(r"(^|\.)(\w*heads|altup_unembed_projections)\.$")
_LAST = re.compile(r"(^|[._])(out|projection|final|logits?)([._]|$)")

# ---- parts -------------------------------------------------------------------------------------------------

_MODALITIES = {
    "extra": re.compile(r"mtp|nextn|medusa|eagle|talker|token2wav|code2wav"),
    "audio": re.compile(r"audio|speech|codec"),
    "vision": re.compile(
        r"connector|image|merger|mm|modal|qformer|resampler|sam|siglip|video|vision|visual|vit|vq\w+"
    ),
}
