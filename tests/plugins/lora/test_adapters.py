"""Models with adapters in configs: what is added where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from adapter_configs import UP, Q, assert_refused, factors, merged, write_adapter
from tiny import HIDDEN, llama, read_config, read_tensors
from torch import Tensor

import mergecore
from mergecore import RunOptions
from mergecore.errors import MergecoreError
from mergecore.types import Json

pytestmark = pytest.mark.usefixtures("folder")


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
