"""What `adapter_config.json` says, as far as merging needs it; kinds that cannot be merged are refused by name.

Read `read_config` first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from mergecore.errors import ConfigError, InputError
from mergecore.files import searcher
from mergecore.types import Json
from mergecore_plugins.lora.kinds import defined

NAME = "adapter_config.json"


@dataclass(frozen=True)
class AdapterConfig:
    """An adapter's own account of itself; keys that do not matter to a merge are left out."""

    kind: str
    """What PEFT calls `peft_type`, such as LORA."""
    base: str | None = None
    base_revision: str | None = None
    rank: int = 8
    alpha: float = 8
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    rslora: bool = False
    dora: bool = False
    fan_in_fan_out: bool = False
    trained_bias: str = "none"
    lora_bias: bool = False
    modules_to_save: tuple[str, ...] = ()
    target_parameters: tuple[str, ...] = ()
    token_rows: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The rows of embeddings that were trained, by the names of their modules."""
    tied: bool = False
    """Whether a head that is tied to embeddings was trained with them."""
    residual: str | None = None
    """How the base was changed before training, such as "pissa"; None when it was not."""
    raw: Mapping[str, Json] = field(default_factory=dict, compare=False)

    def rank_of(self, module: str) -> int:
        """The rank of a module, by its name in the model that was trained."""
        return int(_by_pattern(self.rank_pattern, module, self.rank))

    def scale_of(self, module: str) -> float:
        """What the product of a module's two factors is multiplied by."""
        alpha, rank = _by_pattern(self.alpha_pattern, module, self.alpha), self.rank_of(module)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def _by_pattern(patterns: Mapping[str, float], module: str, default: float) -> float:
    """The value of the first pattern that ends a module's name, as PEFT looks it up."""
    for pattern, value in patterns.items():
        if searcher(rf"^(.*\.)?({pattern})$")(module):
            return value
    return default


def read_config(value: Json, place: str) -> AdapterConfig:
    """The config of an adapter, whose JSON is `value`.

    Raises:
        InputError: E250 when a key has a wrong value, E251 when adapters of its kind cannot be merged.
    """
    if not isinstance(value, dict):
        raise InputError("E250", "a JSON object is expected", place=place)
    reader = _Reader(value, place)
    kind = reader.text("peft_type", "LORA").upper()
    refuse_kind(value, kind, place)
    if kind not in LOW_RANK:
        return _other(reader, kind)
    rank = reader.whole("r", 8)
    return AdapterConfig(
        kind=kind,
        base=reader.text("base_model_name_or_path", "") or None,
        base_revision=reader.text("revision", "") or None,
        rank=rank,
        alpha=reader.number("lora_alpha", 8),
        rank_pattern=reader.numbers("rank_pattern", whole=True),
        alpha_pattern=reader.numbers("alpha_pattern"),
        rslora=reader.flag("use_rslora"),
        dora=reader.flag("use_dora"),
        fan_in_fan_out=reader.flag("fan_in_fan_out"),
        trained_bias=reader.text("bias", "none"),
        lora_bias=reader.flag("lora_bias"),
        modules_to_save=reader.texts("modules_to_save"),
        target_parameters=reader.texts("target_parameters"),
        token_rows=reader.rows("trainable_token_indices"),
        tied=reader.flag("ensure_weight_tying"),
        residual=_residual(value, place),
        raw=value,
    )


def _other(reader: _Reader, kind: str) -> AdapterConfig:
    """The config of another kind than LoRA, whose ranks and patterns have meanings of their own."""
    near = kind == "ADALORA"
    return AdapterConfig(
        kind=kind,
        base=reader.text("base_model_name_or_path", "") or None,
        base_revision=reader.text("revision", "") or None,
        rank=reader.whole("init_r", 12) if near else 8,
        alpha=reader.number("lora_alpha", 8) if near else 8,
        fan_in_fan_out=reader.flag("fan_in_fan_out"),
        trained_bias=reader.text("bias", "none"),
        modules_to_save=reader.texts("modules_to_save"),
        token_rows=reader.rows("trainable_token_indices"),
        raw=reader.values,
    )


# ---- what cannot be merged ---------------------------------------------------------------------------------

_VARIANTS: tuple[tuple[str, str, str], ...] = (
    (
        "alora_invocation_tokens",
        "aLoRA",
        "it acts from a certain token on only, so no fixed weight does the same",
    ),
    ("use_qalora", "QALoRA", "it belongs to the groups of one quantised base"),
    ("use_bdlora", "BD-LoRA", "its factors are stored for several devices"),
    ("arrow_config", "Arrow", "it chooses among several adapters for each token"),
    ("kasa_config", "KaSA", "it cuts the base to its largest singular values first"),
    ("layer_replication", "layer replication", "its layers are copies that the base does not have"),
    ("megatron_config", "Megatron LoRA", "its layers are those of Megatron"),
)
"""Keys that make an adapter something else than a change of weights, what it is called, and why it is refused."""

LOW_RANK = ("LORA", "TRAINABLE_TOKENS")
KINDS = (*LOW_RANK, "ADALORA", "IA3", "LN_TUNING", "VERA", *defined.KINDS)
"""Kinds that are read."""
PROMPTS = (
    "PROMPT_TUNING",
    "PREFIX_TUNING",
    "P_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "CPT",
    "ADAPTION_PROMPT",
    "CARTRIDGE",
)
"""Kinds that add something to the input or to attention and leave the weights alone."""
_REASONS = {
    "SHIRA": ": it does not store which numbers of a weight it changes",
    "LILY": ": PEFT itself cannot merge it",
    "PVERA": ": it is random",
    "ADAMSS": ": it cuts the base into parts by a decomposition and a clustering that are not stored",
    "SHADOW": ": it is a network beside the model, and changes no weight",
    **dict.fromkeys(("OSF", "PSOFT"), ": its fixed part is a decomposition of the base that is not stored"),
    **dict.fromkeys(
        ("FROD", "RANDLORA", "TINYLORA", "UNILORA", "VBLORA"),
        ": its layers share what each makes its weights of",
    ),
}
ROUTED = ("XLORA", "POLY", "MIXED")
"""Kinds that mix several adapters by the input."""


def refuse_kind(value: Mapping[str, Json], kind: str, place: str) -> None:
    """Raise E251 for an adapter that no change of weights stands for."""
    if kind in PROMPTS:
        what = f"{kind} changes the input of the model, not its weights; it cannot be merged"
        raise InputError("E251", what, place=place, hint="load it with PEFT beside the merged model")
    if kind in ROUTED:
        what = f"{kind} chooses among adapters for each input; it cannot be merged"
        raise InputError("E251", what, place=place, hint="load it with PEFT beside the merged model")
    if kind not in KINDS:
        what = f"adapters of the kind {kind} are not supported{_REASONS.get(kind, '')}"
        raise InputError("E251", what, place=place, hint=MERGE_WITH_PEFT)
    for key, name, reason in _VARIANTS:
        if value.get(key):
            raise InputError(
                "E251", f"{name} ('{key}') cannot be merged: {reason}", place=place, hint=MERGE_WITH_PEFT
            )


MERGE_WITH_PEFT = "merge it with PEFT if PEFT can, and name the result"
_RESIDUAL = {
    "pissa": "",
    "olora": "",
    "loftq": "it was trained on a quantised base that is not stored",
    "corda": "the base was changed by statistics of data that are not stored",
    "lora_ga": "the base was changed by gradients that are not stored",
}
"""Ways of beginning that change the base, and why the change cannot be repeated; empty where it can."""


def _residual(value: Mapping[str, Json], place: str) -> str | None:
    begun = value.get("init_lora_weights", True)
    if not isinstance(begun, str):
        return None
    word = begun.lower()
    reason = "its start is random and not stored" if word.startswith("pissa_niter") else _RESIDUAL.get(word)
    if reason is None:
        return None
    if reason:
        what = f"the adapter begins with '{begun}': {reason}, so its base cannot be made again"
        hint = "save it as a plain LoRA: save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        raise InputError("E251", what, place=place, hint=hint)
    return word


# ---- values ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reader:
    """Values of a config, each of the type it must have; a null counts as left out."""

    values: Mapping[str, Json]
    place: str

    def text(self, key: str, default: str) -> str:
        found = self._found(key, default)
        if not isinstance(found, str):
            raise self._wrong(key, "text")
        return found

    def flag(self, key: str) -> bool:
        found = self._found(key, False)
        if not isinstance(found, bool):
            raise self._wrong(key, "true or false")
        return found

    def whole(self, key: str, default: int) -> int:
        found = self._found(key, default)
        if not isinstance(found, int) or isinstance(found, bool) or found < 1:
            raise self._wrong(key, "a whole number above 0")
        return found

    def number(self, key: str, default: float) -> float:
        found = self._found(key, default)
        if not _is_number(found):
            raise self._wrong(key, "a number")
        return float(cast("float", found))

    def numbers(self, key: str, *, whole: bool = False) -> Mapping[str, Any]:
        found = self._found(key, {})
        kind = "whole numbers above 0" if whole else "numbers"
        if not isinstance(found, dict):
            raise self._wrong(key, f"a mapping of patterns to {kind}")
        for pattern, one in found.items():
            if not _is_number(one) or (whole and (not isinstance(one, int) or one < 1)):
                raise self._wrong(f"{key}: {pattern}", kind, one)
            self._check_pattern(key, pattern)
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        found = self._found(key, [])
        if isinstance(found, str):
            return (found,)
        if isinstance(found, list) and all(isinstance(one, str) for one in found):
            return tuple(cast("list[str]", found))
        raise self._wrong(key, "a list of names")

    def rows(self, key: str) -> dict[str, tuple[int, ...]]:
        found = self._found(key, {})
        if isinstance(found, list):
            found = {"embed_tokens": found}
        if not isinstance(found, dict) or not all(map(_are_rows, found.values())):
            raise self._wrong(key, "a list of rows, or one for each module")
        return {module: tuple(cast("list[int]", rows)) for module, rows in found.items()}

    def _found(self, key: str, default: Json) -> Json:
        found = self.values.get(key)
        return default if found is None else found

    def _check_pattern(self, key: str, pattern: str) -> None:
        try:
            searcher(pattern)
        except ConfigError as error:
            raise InputError("E250", f"'{key}': '{pattern}': {error.what}", place=self.place) from None

    def _wrong(self, key: str, expected: str, found: Json | None = None) -> InputError:
        value = self.values.get(key) if found is None else found
        return InputError("E250", f"'{key}' is {value!r}; {expected} is expected", place=self.place)


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _are_rows(value: Json) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
