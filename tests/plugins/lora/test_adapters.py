"""Models with adapters in configs: what is added where, and every reason to refuse an adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import Cli
from safetensors.torch import save_file
from tiny import HIDDEN, llama, read_config, read_tensors, write_llama
from torch import Tensor

import mergecore
from mergecore import RunOptions
from mergecore.errors import MergecoreError, Problems
from mergecore.types import Json, Stored, TensorInfo
from mergecore_plugins.lora.config import AdapterConfig
from mergecore_plugins.lora.fitting import fit
from mergecore_plugins.lora.names import AdapterTensor, Use

Q = "model.layers.0.self_attn.q_proj"
UP = "model.layers.1.mlp.up_proj"


def factors(rank: int = 2, seed: int = 5) -> dict[str, Tensor]:
    """The tensors of an adapter on two layers, as PEFT names them."""
    generator = torch.Generator().manual_seed(seed)
    numbers = llama(2)
    made = {}
    for module in (Q, UP):
        out, into = numbers[f"{module}.weight"].shape
        made[f"base_model.model.{module}.lora_A.weight"] = torch.randn(rank, into, generator=generator)
        made[f"base_model.model.{module}.lora_B.weight"] = torch.randn(out, rank, generator=generator)
    return made


def write_adapter(folder: Path, tensors: dict[str, Tensor] | None = None, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(factors() if tensors is None else tensors, folder / "adapter_model.safetensors")
    values = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "base", **config}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base `base`, a fine-tune `other` and an adapter `ad`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_llama(Path("base"), 2, seed=1)
    write_llama(Path("other"), 2, seed=2)
    write_adapter(Path("ad"))
    return tmp_path


def merged(*models: Json, out: str = "out", **further: Json) -> dict[str, Tensor]:
    listed: list[Json] = [{"model": model} for model in models]
    config: dict[str, Json] = {
        "merge_method": "linear",
        "models": listed,
        "parameters": {"weight": 1},
        **further,
    }
    return read_tensors(mergecore.merge(config, out, run_options=RunOptions(overwrite=True)))


def by_hand(base: dict[str, Tensor], tensors: dict[str, Tensor], scale: float = 2.0) -> dict[str, Tensor]:
    """W + alpha / r · B A in float64, rounded once."""
    made = dict(base)
    for module in (Q, UP):
        a, b = (tensors[f"base_model.model.{module}.lora_{one}.weight"].double() for one in "AB")
        made[f"{module}.weight"] = (base[f"{module}.weight"].double() + scale * (b @ a)).float()
    return made


def equal(found: dict[str, Tensor], wanted: dict[str, Tensor], within: float = 2e-6) -> bool:
    return found.keys() == wanted.keys() and all(
        torch.allclose(found[name], wanted[name], rtol=0, atol=within) for name in wanted
    )


BASE = llama(2, seed=1)


@pytest.mark.parametrize(
    "model",
    ["base+ad", {"model": "base", "lora": "ad"}, {"model": "base", "adapter": "ad"}, {"adapter": "ad"}],
)
def test_an_adapter_is_added_to_its_base(model: Json) -> None:
    assert equal(merged(model), by_hand(BASE, factors()))


def test_an_adapter_counts_in_a_merge_like_any_model() -> None:
    """The mean of base+ad and other, computed from numbers that were not rounded between."""
    mean = {name: (one + llama(2, seed=2)[name]) / 2 for name, one in by_hand(BASE, factors()).items()}
    assert equal(merged("base+ad", "other"), mean)


def test_several_adapters_are_added_one_after_the_other_and_scaled() -> None:
    write_adapter(Path("ad2"), factors(seed=6))
    once = by_hand(BASE, factors())
    assert equal(merged("base+ad+ad2"), by_hand(once, factors(seed=6)))
    scaled: Json = {"model": "base", "adapters": [{"path": "ad", "scale": 0.25}, "ad2"]}
    assert equal(merged(scaled), by_hand(by_hand(BASE, factors(), 0.5), factors(seed=6)))


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: name.removeprefix("base_model.model."),
        lambda name: name.replace(".weight", ".default.weight"),
        lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda name: f"module.{name}",
        lambda name: name.replace("base_model.model.model.", "base_model.model."),
    ],
)
def test_names_of_other_trainers_are_understood(renamed: Callable[[str], str]) -> None:
    write_adapter(Path("ad"), {renamed(name): one for name, one in factors().items()})
    assert equal(merged("base+ad"), by_hand(BASE, factors()))


def test_every_range_of_a_tensor_has_the_same_numbers(tmp_path: Path) -> None:
    """Blocks of one row, of parts of rows, the whole: with one thread or four, in one budget or another."""
    wanted = merged(
        "base+ad", merge_method="ties", base_model="other", parameters={"density": 0.5, "weight": 1}
    )
    config: dict[str, Json] = {
        "merge_method": "ties",
        "base_model": "other",
        "models": [{"model": "base+ad"}],
        "parameters": {"density": 0.5, "weight": 1},
    }
    for threads in (1, 4):
        options = RunOptions(threads=threads, overwrite=True)
        made = read_tensors(mergecore.merge(config, "again", run_options=options))
        assert all(torch.equal(made[name], wanted[name]) for name in wanted)


def test_slices_take_layers_of_a_model_with_an_adapter() -> None:
    sources: Json = [
        {"sources": [{"model": "base+ad", "layer_range": [1, 2]}]},
        {"sources": [{"model": "base", "layer_range": [0, 2]}]},
    ]
    config: dict[str, Json] = {"merge_method": "passthrough", "slices": sources}
    made = read_tensors(mergecore.merge(config, "stack"))
    wanted = by_hand(BASE, factors())
    assert torch.allclose(made["model.layers.0.mlp.up_proj.weight"], wanted[f"{UP}.weight"], atol=2e-6)
    assert torch.equal(made["model.layers.1.self_attn.q_proj.weight"], BASE[f"{Q}.weight"])


def test_the_plan_names_base_and_adapter() -> None:
    plan = mergecore.plan({"merge_method": "passthrough", "models": [{"model": {"adapter": "ad"}}]})
    assert plan.models[0].mapped == "2 tensors changed by 'ad' on 'base'"


def test_another_base_than_the_adapter_names_is_said() -> None:
    plan = mergecore.plan({"merge_method": "passthrough", "models": [{"model": "other+ad"}]})
    assert any("ad: it was trained on 'base', and is put on 'other'" in one for one in plan.warnings)


# ---- tokens ------------------------------------------------------------------------------------------------


def test_embeddings_with_more_rows_come_with_their_tokenizer() -> None:
    rows = BASE["model.embed_tokens.weight"].shape[0] + 3
    tables = {name: torch.ones(rows, HIDDEN) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    saved = {f"base_model.model.{name}": one for name, one in tables.items()}
    write_adapter(Path("ad"), factors() | saved, modules_to_save=["embed_tokens", "lm_head"])
    Path("ad/tokenizer_config.json").write_text("{}")
    made = merged("base+ad")
    assert made["lm_head.weight"].shape == (rows, HIDDEN)
    assert read_config(Path("out"))["vocab_size"] == rows


def test_a_head_of_another_size_than_the_embeddings_is_refused() -> None:
    rows = BASE["lm_head.weight"].shape[0] + 3
    saved = {"base_model.model.lm_head.weight": torch.ones(rows, HIDDEN)}
    write_adapter(Path("ad"), factors() | saved, modules_to_save=["lm_head"])
    sizes = f"it was trained with {rows} tokens, and the base has {rows - 3}; name the base, with"
    assert_refused("E252", rf"'lm_head\.weight' \[{rows}, {HIDDEN}\].*{sizes}")


# ---- what is wrong -----------------------------------------------------------------------------------------


def assert_refused(code: str, told: str, model: Json = "base+ad") -> None:
    with pytest.raises(MergecoreError, match=told) as caught:
        merged(model)
    first = caught.value.first if isinstance(caught.value, Problems) else caught.value
    assert (first.code, first.exit_code) == (code, 3)
    assert not Path("out").exists()


def without(word: str) -> dict[str, Tensor]:
    return {name: one for name, one in factors().items() if word not in name}


def test_an_adapter_without_a_factor_is_refused() -> None:
    write_adapter(Path("ad"), without("q_proj.lora_B"))
    assert_refused("E250", rf"ad: '{Q}' has no lora_B\. Hint: copy the adapter again")


def test_a_rank_that_the_weights_do_not_have_is_refused() -> None:
    write_adapter(Path("ad"), r=3)
    assert_refused(
        "E250",
        rf"ad: '{Q}': A \[2, 4\] and B \[4, 2\] are not of rank 3, which adapter_config\.json.*must match the weights",
    )


def test_a_truncated_adapter_is_refused() -> None:
    path = Path("ad/adapter_model.safetensors")
    path.write_bytes(path.read_bytes()[:-4])
    assert_refused("E206", "ad/adapter_model.safetensors: ")


def test_a_base_that_only_the_adapter_names_must_be_there() -> None:
    write_adapter(Path("ad"), base_model_name_or_path="far")
    assert_refused(
        "E701",
        r"'ad' names 'far' as its base, which is not there: .*Hint: name the place of the base: 'BASE\+ad'",
        {"adapter": "ad"},
    )


def test_an_old_adapter_is_read_without_unpickling() -> None:
    wanted = merged("base+ad")
    Path("ad/adapter_model.safetensors").unlink()
    torch.save(factors(), "ad/adapter_model.bin")
    made = merged("base+ad")
    assert all(torch.equal(made[name], wanted[name]) for name in wanted)


def test_a_pickle_that_runs_something_is_refused_and_not_run() -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return Path.touch, (Path("HIT"),)

    Path("ad/adapter_model.safetensors").unlink()
    torch.save({**factors(), "x": Runs()}, "ad/adapter_model.bin")
    with pytest.raises(
        MergecoreError, match=r"ad/adapter_model\.bin: the pickle asks for '[\w.]+', which"
    ) as caught:
        merged("base+ad")
    assert (caught.value.code, caught.value.exit_code) == ("E304", 4)
    assert not Path("HIT").exists()


def test_an_adapter_without_weights_is_refused() -> None:
    Path("ad/adapter_model.safetensors").unlink()
    assert_refused("E250", "ad: the adapter has no adapter_model.safetensors")


def test_a_model_in_place_of_an_adapter_is_refused() -> None:
    assert_refused(
        "E250",
        r"other: not an adapter: there is no adapter_config\.json\. Hint: after '\+', an adapter",
        "base+other",
    )


def test_an_adapter_in_place_of_a_model_is_refused() -> None:
    assert_refused("E201", r"ad: a PEFT adapter of 'base', not a model\. Hint: write 'base\+ad', or", "ad")


def test_an_adapter_that_names_no_base_needs_one() -> None:
    write_adapter(Path("ad"), base_model_name_or_path=None)
    assert_refused(
        "E250", r"'ad': the adapter does not name its base\. Hint: write 'BASE\+ad'", {"adapter": "ad"}
    )


def test_a_base_that_is_not_there_is_named() -> None:
    write_adapter(Path("ad"), base_model_name_or_path="nobody/nothing")
    with pytest.raises(MergecoreError, match="nobody/nothing"):
        mergecore.plan(
            {"merge_method": "passthrough", "models": [{"model": {"adapter": "ad"}}]},
            options=mergecore.PlanOptions(offline=True),
        )


def test_an_adapter_of_other_modules_is_refused() -> None:
    renamed = {name.replace("self_attn", "attention"): one for name, one in factors().items()}
    write_adapter(Path("ad"), renamed)
    assert_refused(
        "E252", r"ad: the base has no 'model\.layers\.0\.attention\.q_proj\.weight'\. Hint: it belongs"
    )


def test_an_adapter_of_another_size_is_refused() -> None:
    wide = {name: torch.cat([one, one], dim=1 if "_A" in name else 0) for name, one in factors().items()}
    write_adapter(Path("ad"), wide)
    assert_refused("E252", rf"ad: the adapter was trained on '{Q}\.weight' \[8, 8\], the base has \[4, 4\]")


def test_factors_of_a_convolution_with_groups_are_refused() -> None:
    """PEFT's A takes all channels and its B those of one group: the product is a convolution without groups."""
    Path("convolution").mkdir()
    save_file({"conv.weight": torch.ones(8, 2, 3, 3)}, "convolution/model.safetensors")
    saved = {"lora_A": torch.ones(4, 4, 3, 3), "lora_B": torch.ones(8, 2, 1, 1)}
    names = {f"base_model.model.conv.{word}.weight": one for word, one in saved.items()}
    write_adapter(Path("ad"), names, r=4)
    told = r"'conv\.weight' is a convolution with 2 groups, and the factors join them: no weight of it does the same"
    assert_refused("E251", rf"{told}\. Hint: load the adapter with PEFT beside the model", "convolution+ad")


def test_two_names_of_one_factor_are_refused() -> None:
    name = f"base_model.model.{Q}.lora_A.weight"
    again = {name.removeprefix("base_model.model."): factors()[name]}
    write_adapter(Path("ad"), factors() | again)
    assert_refused(
        "E250", rf"two tensors are the lora_A of '{Q}': '.*', '.*'\. Hint: remove one of them from the file"
    )


def test_another_kind_of_adapter_is_refused_by_name() -> None:
    write_adapter(Path("ad"), peft_type="FANCY")
    assert_refused("E251", r"ad/adapter_config\.json: adapters of the kind FANCY are not supported")


def test_a_trained_bias_needs_a_bias_in_the_base() -> None:
    bias = {f"base_model.model.{Q}.lora_B.bias": torch.ones(HIDDEN)}
    write_adapter(Path("ad"), factors() | bias, lora_bias=True)
    assert_refused("E252", rf"the trained bias of '{Q}' has no place: .*Hint: leave 'lora_bias' out when you")


def test_as_many_rows_of_tokens_are_needed_as_are_named() -> None:
    rows = {"base_model.model.model.embed_tokens.trainable_tokens_delta": torch.ones(2, HIDDEN)}
    write_adapter(Path("ad"), factors() | rows, trainable_token_indices=[1, 2, 3])
    told = rf"\[2, {HIDDEN}\] were trained, and 'trainable_token_indices' names 3 rows"
    assert_refused("E250", told)


def test_a_magnitude_is_for_dora_only() -> None:
    write_adapter(Path("ad"), factors() | {f"base_model.model.{Q}.lora_magnitude_vector": torch.ones(4)})
    assert_refused("E250", rf"ad: '{Q}' has a lora_magnitude_vector, and 'use_dora' is not set")


def test_there_is_a_parameter_for_every_adapter_of_a_module() -> None:
    prefix = "base_model.model.model.layers.0.mlp"
    inner = {f"{prefix}.base_layer.lora_{one}.weight": torch.ones(2, 2) for one in "AB"}
    outer = {f"{prefix}.lora_{one}.weight": torch.ones(2, 2) for one in "AB"}
    write_adapter(Path("ad"), inner | outer, target_parameters=["mlp.w"])
    assert_refused("E250", "'model.layers.0.mlp' has more adapters than 'target_parameters' names")


def test_a_source_of_adapters_is_needed(cli: Cli) -> None:
    Path("c.yml").write_text("merge_method: passthrough\nmodels: [{model: base+ad}]\n")
    outcome = cli("merge", "c.yml", "out", "--no-plugin", "adapters")
    assert outcome.code == 3
    assert "'base+ad': no installed plugin opens a model with an adapter" in outcome.err


def test_experts_that_are_cut_in_columns_cannot_be_placed() -> None:
    """A layout that begins an expert within a row of the stacked tensor is nobody's; it is refused."""
    pieces = {"one": [(0, "experts.w", 3, 12)]}
    a, b, one = (
        TensorInfo(name, Stored(name, "F32", shape, Path(), 0))
        for name, shape in (("a", (4, 6)), ("b", (4, 4)), ("one", (2, 6)))
    )
    parts = [AdapterTensor("experts", Use.A, a), AdapterTensor("experts", Use.B, b)]
    config = AdapterConfig("LORA", rank=2, alpha=2, target_parameters=("experts.w",))
    with pytest.raises(
        MergecoreError,
        match=r"is not stored as it was when the adapter was trained.*merge it with PEFT, and name the",
    ):
        fit(parts, config, {"one": one}, {}, lambda shapes: pieces, "ad")


def test_a_nan_is_found_before_anything_is_written() -> None:
    tensors = factors()
    tensors[f"base_model.model.{UP}.lora_B.weight"][1, 1] = torch.nan
    write_adapter(Path("ad"), tensors)
    assert_refused("E234", rf"tensor 'base_model\.model\.{UP}\.lora_B\.weight': 1 value is not finite")


def test_everything_that_is_wrong_is_said_at_once() -> None:
    write_adapter(Path("ad"), without("q_proj.lora_B") | {"x.lora_A.weight": torch.ones(2, 3)})
    write_adapter(Path("ad2"), use_qalora=True)
    with pytest.raises(Problems) as caught:
        merged("base+ad", "other+ad2")
    told = str(caught.value)
    assert "has no lora_B" in told
    assert "'x' has no lora_B" in told
    assert "QALoRA" in told


# ---- two runs ----------------------------------------------------------------------------------------------


def test_a_changed_adapter_makes_another_merge() -> None:
    config: dict[str, Json] = {"merge_method": "passthrough", "models": [{"model": "base+ad"}]}
    mergecore.merge(config, "kept")
    write_adapter(Path("ad"), lora_alpha=5)
    with pytest.raises(MergecoreError, match=r"out|kept") as caught:
        mergecore.merge(config, "kept")
    assert caught.value.code == "E501"
    manifest = json.loads(Path("kept/mergecore-manifest.json").read_text())
    assert [part["reference"] for part in manifest["models"][0]["parts"]] == ["ad"]
