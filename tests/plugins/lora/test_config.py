"""What adapter_config.json says, and which adapters are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from mergecore.errors import MergecoreError
from mergecore_plugins.lora.config import (
    _REASONS,
    _RESIDUAL,
    _VARIANTS,
    KINDS,
    PROMPTS,
    ROUTED,
    AdapterConfig,
    read_config,
)


def read(**values: Any) -> AdapterConfig:
    return read_config({"peft_type": "LORA", "r": 8, "lora_alpha": 16, **values}, "a/adapter_config.json")


def test_ranks_and_alphas_are_looked_up_as_peft_does() -> None:
    """The first pattern that ends the name counts, at a dot: alpha / r, or alpha / sqrt(r)."""
    config = read(
        rank_pattern={"q_proj": 4, r"layers\.1\.mlp\..*": 2, "proj": 99},
        alpha_pattern={"v_proj": 3, "^a.b": 5},
    )
    assert config.rank_of("model.layers.0.self_attn.q_proj") == 4
    assert config.rank_of("model.layers.1.mlp.up_proj") == 2
    assert config.rank_of("model.layers.0.self_attn.xq_proj") == 8
    assert config.scale_of("model.layers.0.self_attn.q_proj") == 16 / 4
    assert config.scale_of("model.layers.0.self_attn.v_proj") == 3 / 8
    assert read(use_rslora=True, r=4).scale_of("x") == 8.0


def test_what_is_left_out_or_null_has_the_value_of_peft() -> None:
    config = read_config({"rank_pattern": None, "use_dora": None}, "a")
    assert (config.kind, config.rank, config.alpha, config.dora) == ("LORA", 8, 8.0, False)


def test_rows_of_tokens_are_of_the_embeddings_if_no_module_is_named() -> None:
    assert read(trainable_token_indices=[1, 2]).token_rows == {"embed_tokens": (1, 2)}
    assert read(trainable_token_indices={"wte": [3]}).token_rows == {"wte": (3,)}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"r": 0}, "'r' is 0; a whole number above 0 is expected"),
        ({"r": True}, "'r' is True; a whole number above 0 is expected"),
        ({"r": "8"}, "'r' is '8'; a whole number above 0 is expected"),
        ({"lora_alpha": "x"}, "'lora_alpha' is 'x'; a number is expected"),
        ({"use_dora": 1}, "'use_dora' is 1; true or false is expected"),
        ({"peft_type": 3}, "'peft_type' is 3; text is expected"),
        ({"rank_pattern": [1]}, r"'rank_pattern' is \[1\]; a mapping of patterns to whole numbers above 0"),
        ({"rank_pattern": {"q": 0}}, "'rank_pattern: q' is 0; whole numbers above 0"),
        ({"alpha_pattern": {"q": "x"}}, "'alpha_pattern: q' is 'x'; numbers"),
        ({"rank_pattern": {"(q": 1}}, r"'rank_pattern': '\(q': not a regular expression"),
        ({"modules_to_save": 3}, "'modules_to_save' is 3; a list of names is expected"),
        ({"trainable_token_indices": [-1]}, r"'trainable_token_indices' is \[-1\]; a list of rows"),
    ],
)
def test_values_of_a_wrong_kind_are_told(values: dict[str, Any], told: str) -> None:
    with pytest.raises(MergecoreError, match=rf"a/adapter_config\.json: .*{told}") as caught:
        read(**values)
    assert (caught.value.code, caught.value.exit_code) == ("E250", 3)


def test_a_config_must_be_an_object() -> None:
    with pytest.raises(MergecoreError, match="a: a JSON object is expected"):
        read_config([], "a")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING changes the input of the model, not its weights"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING changes the input of the model, not its weights"),
        ({"peft_type": "P_TUNING"}, "P_TUNING changes the input of the model, not its weights"),
        ({"peft_type": "XLORA"}, "XLORA chooses among adapters for each input"),
        (
            {"alora_invocation_tokens": [1]},
            r"aLoRA \('alora_invocation_tokens'\) cannot be merged: it acts from",
        ),
        ({"use_qalora": True}, r"QALoRA \('use_qalora'\) cannot be merged"),
        ({"use_bdlora": {"nblocks": 2}}, r"BD-LoRA \('use_bdlora'\) cannot be merged"),
        ({"kasa_config": {"beta": 1}}, r"KaSA \('kasa_config'\) cannot be merged"),
        ({"arrow_config": {"top_k": 1}}, r"Arrow \('arrow_config'\) cannot be merged"),
        ({"layer_replication": [[0, 2]]}, r"layer replication \('layer_replication'\) cannot be merged"),
        ({"megatron_config": {"a": 1}}, r"Megatron LoRA \('megatron_config'\) cannot be merged"),
        (
            {"init_lora_weights": "pissa_niter_4"},
            "begins with 'pissa_niter_4': its start is random and not stored, so its base cannot be made again",
        ),
        ({"init_lora_weights": "loftq"}, "begins with 'loftq': it was trained on a quantised base"),
        ({"init_lora_weights": "corda"}, "begins with 'corda': the base was changed by statistics"),
        ({"init_lora_weights": "lora_ga"}, "begins with 'lora_ga': the base was changed by gradients"),
    ],
)
def test_adapters_that_no_change_of_weights_stands_for_are_refused_by_name(
    values: dict[str, Any], told: str
) -> None:
    with pytest.raises(MergecoreError, match=rf"a/adapter_config\.json: .*{told}.*Hint: ") as caught:
        read(**values)
    assert (caught.value.code, caught.value.exit_code) == ("E251", 3)


def test_what_begins_otherwise_can_be_saved_as_a_plain_adapter() -> None:
    with pytest.raises(
        MergecoreError, match=r"Hint: save it as a plain LoRA: save_pretrained\(\.\.\., path_initial_model"
    ):
        read(init_lora_weights="lora_ga")


# ---- what PEFT knows ---------------------------------------------------------------------------------------


def test_every_kind_of_peft_is_read_or_refused_with_a_reason() -> None:
    """A kind that a newer PEFT adds must be looked at."""
    from peft.utils.peft_types import PeftType

    assert {one.value for one in PeftType} <= {*KINDS, *PROMPTS, *ROUTED, *_REASONS}


READ = {
    "peft_type",
    "base_model_name_or_path",
    "revision",
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "fan_in_fan_out",
    "bias",
    "lora_bias",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "ensure_weight_tying",
    "init_lora_weights",
}
IN_THE_FILE = {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"}
"""Which modules were trained; the names of the tensors say it."""
OF_TRAINING = {
    "task_type",
    "auto_mapping",
    "peft_version",
    "inference_mode",
    "lora_dropout",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "velora_config",
    "monteclora_config",
    "megatron_core",
    "qalora_group_size",
    "runtime_config",
}
"""How it was trained or is loaded: PEFT merges the same whatever they say."""


def test_every_setting_of_lora_is_read_refused_or_of_no_matter() -> None:
    """A setting that a newer PEFT adds must be looked at."""
    import dataclasses

    from peft import LoraConfig

    refused = {key for key, _, _ in _VARIANTS}
    assert {one.name for one in dataclasses.fields(LoraConfig)} == READ | IN_THE_FILE | OF_TRAINING | refused


def test_every_way_to_begin_that_changes_the_base_is_known() -> None:
    """PEFT takes these words for `init_lora_weights`; the others leave the base alone."""
    import typing

    from peft import LoraConfig

    words = _literals(typing.get_type_hints(LoraConfig)["init_lora_weights"])
    alone = {"gaussian", "eva", "orthogonal", "mica"}
    assert words - {"pissa_niter_[number of iters]"} <= alone | {*_RESIDUAL}


def _literals(hint: Any) -> set[str]:
    import typing

    args = typing.get_args(hint)
    return {one for one in args if isinstance(one, str)}.union(
        *map(_literals, (a for a in args if not isinstance(a, (str, bool))))
    )
