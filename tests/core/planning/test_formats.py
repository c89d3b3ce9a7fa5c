"""The number format of each output tensor: what is float32 on purpose among 16-bit tensors stays so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from tiny import llama, llama_config, read_tensors, registry, write_checkpoint
from torch import Tensor

from mergecore import merge, plan
from mergecore.types import Plan
from mergecore.types.plans import PlanOptions

BIAS = "model.layers.1.mlp.gate.e_score_correction_bias"
NORM = "model.norm.weight"
Config = dict[str, Any]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bias(value: float = 7.0) -> Tensor:
    """Values that bfloat16 cannot tell apart: its step at 7 is 1/32."""
    return value + torch.arange(16.0) / 1024


def write(name: str, rest: torch.dtype = torch.bfloat16) -> None:
    """A Llama in `rest` with a bias in float32."""
    tensors = {key: one.to(rest) for key, one in llama(2, seed=len(name)).items()}
    tensors[BIAS] = bias()
    config = llama_config(2, torch_dtype=str(rest).removeprefix("torch."))
    write_checkpoint(Path(name), tensors, config)


def rewrite(name: str, changed: dict[str, Tensor]) -> None:
    tensors = {**read_tensors(Path(name)), **changed}
    config = llama_config(2, torch_dtype="bfloat16")
    write_checkpoint(Path(name), tensors, config)


def linear(*models: str, **more: Any) -> Config:
    return {
        "merge_method": "linear",
        "models": [{"model": one, "parameters": {"weight": 0.5}} for one in models],
        **more,
    }


def stack(*models: str, **more: Any) -> Config:
    slices = [{"sources": [{"model": one, "layer_range": [0, 2]}]} for one in models]
    return {"merge_method": "passthrough", "slices": slices, **more}


def planned(config: Config, **options: Any) -> Plan:
    return plan(config, registry=registry(), options=PlanOptions(**options))


def formats(made: Plan) -> dict[str, str]:
    return {step.name: step.outputs[0].dtype for step in made.steps}


def test_what_all_models_keep_in_float32_stays_so_and_is_told() -> None:
    write("a")
    write("bb")
    made = planned(linear("a", "bb", dtype="bfloat16"))
    found = formats(made)
    assert found.pop(BIAS) == "F32"
    assert set(found.values()) == {"BF16"}
    assert made.warnings == (
        "1 tensor stays in float32, not bfloat16, since the models or their loader keep it so on purpose: "
        f"'{BIAS}'; 'keep_f32: false' rounds them too",
    )
    merge(linear("a", "bb", dtype="bfloat16"), "out", registry=registry())
    assert read_tensors(Path("out"))[BIAS].equal(bias())


@pytest.mark.parametrize("key", ["dtype", "out_dtype"])
@pytest.mark.parametrize("word", ["bfloat16", "float16"])
def test_it_does_so_for_every_16_bit_format_and_key(key: str, word: str) -> None:
    write("a")
    assert formats(planned(linear("a", **{key: word})))[BIAS] == "F32"


def test_copies_and_stacks_keep_it_too() -> None:
    write("a")
    write("bb")
    found = formats(planned(stack("a", "bb", dtype="bfloat16")))
    assert {name for name, dtype in found.items() if dtype == "F32"} == {BIAS, BIAS.replace("1", "3")}
    rewrite("bb", {"extra": torch.ones(3)})
    found = formats(planned(linear("a", "bb", dtype="bfloat16"), unexpected="copy"))
    assert found["extra"] == "F32"


def test_a_model_that_is_float32_throughout_does_not_change_that() -> None:
    write("a")
    write("bb", torch.float32)
    found = formats(planned(linear("a", "bb", dtype="bfloat16")))
    assert {name for name, dtype in found.items() if dtype == "F32"} == {BIAS}


def test_models_that_are_float32_throughout_are_rounded() -> None:
    write("a", torch.float32)
    made = planned(linear("a", dtype="bfloat16"))
    assert set(formats(made).values()) == {"BF16"}
    assert made.warnings == ()


def test_a_tensor_that_one_model_stores_in_16_bits_is_rounded() -> None:
    write("a")
    write("bb")
    rewrite("bb", {BIAS: bias().bfloat16()})
    assert formats(planned(linear("a", "bb", dtype="bfloat16")))[BIAS] == "BF16"


def test_the_config_can_insist() -> None:
    write("a")
    made = planned(linear("a", dtype="bfloat16", keep_f32=False))
    assert formats(made)[BIAS] == "BF16"
    made = planned(linear("a", dtype={"glob:*.e_score_*": "bfloat16", "*": "bfloat16"}))
    assert formats(made)[BIAS] == "BF16"
    assert made.warnings == ()
    assert formats(planned(linear("a", dtype="float64")))[BIAS] == "F64"


def test_a_mapping_gives_each_tensor_the_format_of_the_first_filter_that_matches() -> None:
    write("a")
    made = planned(linear("a", dtype={"role:norm": "float32", "model.norm": "float16", "mlp": "float16"}))
    found = formats(made)
    assert (found[NORM], found["model.layers.0.mlp.up_proj.weight"]) == ("F32", "F16")
    assert found["model.embed_tokens.weight"] == "BF16"  # none matches: as it is stored
    assert made.warnings == ("dtype: 'model.norm' matches no tensor",)


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        ({"norm": "float"}, "unknown dtype 'float'"),
        ({}, "dtype is an empty mapping. Hint: write a dtype, or {FILTER: DTYPE, '*': DTYPE}"),
        ({"re:(": "float32"}, "not a regular expression"),
        ({"norm": 16}, "'dtype' is 16; text is expected"),
    ],
)
def test_a_wrong_mapping_is_refused(dtype: Any, text: str) -> None:
    write("a")
    assert any(text in one for one in refused(linear("a", dtype=dtype)))


# ---- what the loader wants ---------------------------------------------------------------------------------


def test_what_the_loader_holds_in_float32_is_not_rounded() -> None:
    """Two models of float32 alone: transformers would hold router and bias of this class in float32."""
    from zoo.classes import Entry, tiny_model

    for name in "ab":
        tiny_model(Entry("glm4_moe", "Glm4MoeForCausalLM"), torch.float32).save_pretrained(name)
    made = planned(linear("a", "b", dtype="bfloat16"))
    kept = {name.split(".", 3)[3] for name, dtype in formats(made).items() if dtype == "F32"}
    assert kept == {"mlp.gate.weight", "mlp.gate.e_score_correction_bias"}


def test_transformers_is_asked_for_families_that_want_float32_somewhere_only() -> None:
    from mergecore_architectures.transformers_models import may_keep_f32

    assert may_keep_f32({"model_type": "glm4_moe"})
    assert may_keep_f32({"model_type": "llava", "text_config": {"model_type": "deepseek_v3"}})
    assert not may_keep_f32({"model_type": "llama"})
    assert not may_keep_f32({"model_type": "../../x"})
    assert not may_keep_f32({})


# ---- inputs in several formats -----------------------------------------------------------------------------


def test_an_output_in_several_formats_that_nobody_asked_for_is_told() -> None:
    write("a")
    write("bb", torch.float16)
    made = planned(stack("a", "bb"))
    (told,) = [one for one in made.warnings if "several formats" in one]
    assert " in bfloat16 (" in told
    assert " in float16 (" in told
    assert not [one for one in planned(stack("a", "bb", dtype="bfloat16")).warnings if "several" in one]
    assert not [one for one in planned(stack("a", "a")).warnings if "several" in one]
