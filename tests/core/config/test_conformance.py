"""Configs whose meaning is fixed by what other merge tools make of them, by their number in the specification.

ONE and ZERO are Llamas of four layers whose every number is 1 or 0; the method is linear without normalisation
unless said otherwise.  Where a config was misread silently elsewhere, it is an error here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import HIDDEN, VOCABULARY, listing, llama, read_config, read_tensors, registry, write_llama
from torch import Tensor

from mergecore import merge
from mergecore.config.parameters.settings import value_at
from mergecore.errors import MergecoreError

Config = dict[str, Any]


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_llama(tmp_path / "ONE", 4, 1.0)
    write_llama(tmp_path / "ZERO", 4, 0.0)
    monkeypatch.chdir(tmp_path)


def merged(config: Config) -> dict[str, Tensor]:
    """The tensors that a config gives; float32, and linear without normalisation unless it says otherwise."""
    if "merge_method" not in config:
        config = {"merge_method": "linear", **config}
        config["parameters"] = {"normalize": False, **config.get("parameters", {})}
    return read_tensors(merge({"dtype": "float32", **config}, Path("out"), registry=registry()))


def error(config: Config) -> str:
    before = listing(Path())
    with pytest.raises(MergecoreError) as caught:
        merged(config)
    assert listing(Path()) == before
    return f"{caught.value.code} {caught.value}"


def source(model: str, first: int, end: int, **parameters: Any) -> Config:
    return {"model": f"./{model}", "layer_range": [first, end], "parameters": parameters}


def number(tensors: Mapping[str, Tensor], name: str) -> float:
    """The one number that a tensor consists of."""
    [value] = set(tensors[name].flatten().tolist())
    return float(value)


def norm(layer: int) -> str:
    return f"model.layers.{layer}.input_layernorm.weight"


def q_proj(layer: int) -> str:
    return f"model.layers.{layer}.self_attn.q_proj.weight"


EMBED, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"


def test_1_a_gradient_runs_over_the_layers_and_the_rest_stands_at_its_start() -> None:
    found = merged(
        {"slices": [{"sources": [source("ONE", 0, 4, weight=[0, 1]), source("ZERO", 0, 4, weight=1)]}]}
    )
    assert [number(found, norm(k)) for k in range(4)] == pytest.approx([0, 1 / 3, 2 / 3, 1], rel=1e-7)
    assert [number(found, name) for name in (EMBED, NORM, HEAD)] == [0, 0, 0]


def test_2_a_slice_of_one_layer_takes_the_end_of_a_gradient() -> None:
    slices = [{"sources": [source("ONE", k, k + 1, weight=[0.25, 1])]} for k in range(4)]
    found = merged({"slices": slices})
    assert [number(found, norm(k)) for k in range(4)] == [1, 1, 1, 1]
    assert [number(found, name) for name in (EMBED, NORM, HEAD)] == [0.25, 0.25, 0.25]


def test_3_filters_see_the_names_of_the_inputs_and_the_first_that_matches_counts() -> None:
    cases = [{"filter": "layers.1.", "value": 5}, {"filter": "self_attn", "value": 2}, {"value": 3}]
    found = merged({"slices": [{"sources": [source("ONE", 0, 2, weight=cases)]}] * 2})
    assert [number(found, q_proj(k)) for k in range(4)] == [2, 5, 2, 5]
    assert [number(found, norm(k)) for k in range(4)] == [3, 5, 3, 5]
    assert [number(found, name) for name in (EMBED, HEAD)] == [3, 3]


def test_4_what_is_written_for_a_slice_goes_before_what_is_written_for_all() -> None:
    slices = [
        {"sources": [source("ONE", 0, 2)], "parameters": {"weight": 2}},
        {"sources": [source("ONE", 2, 4)], "parameters": {"weight": 3}},
    ]
    found = merged({"slices": slices, "parameters": {"weight": 7}})
    assert [number(found, norm(k)) for k in range(4)] == [2, 2, 3, 3]
    assert [number(found, name) for name in (EMBED, NORM, HEAD)] == [2, 3, 3]


def test_5_what_no_filter_of_a_model_matches_falls_to_the_next_level() -> None:
    own = {"weight": [{"filter": "self_attn", "value": 2}]}
    shared = {"weight": [{"filter": "nope", "value": 1}, {"value": 9}]}
    found = merged({"models": [{"model": "./ONE", "parameters": own}], "parameters": shared})
    assert number(found, q_proj(0)) == 2
    assert number(found, "model.layers.0.mlp.up_proj.weight") == 9


def test_6_a_parameter_of_the_method_under_a_model_is_refused() -> None:
    """Elsewhere it is ignored, and the weights are normalised."""
    config: Config = {
        "merge_method": "linear",
        "models": [{"model": "./ONE", "parameters": {"weight": 4, "normalize": False}}],
    }
    assert error(config).startswith("E109 'normalize' is a parameter of linear as a whole, not of one model")
    del config["models"][0]["parameters"]["normalize"]
    assert number(merged(config), HEAD) == 1


def test_7_what_is_written_for_a_module_goes_before_what_is_written_for_all() -> None:
    module = {"models": [{"model": "./ONE"}], "parameters": {"weight": 3, "normalize": 0}}
    found = merged({"merge_method": "linear", "modules": {"default": module}, "parameters": {"weight": 9}})
    assert {number(found, name) for name in found} == {3}


def test_8_whole_models_of_other_depths_are_refused(tmp_path: Path) -> None:
    write_llama(tmp_path / "SHORT", 2, 1.0)
    entries = [{"model": f"./{name}", "parameters": {"weight": 1}} for name in ("ONE", "SHORT")]
    assert "the models have different numbers of layers: ./ONE 4, ./SHORT 2" in error({"models": entries})


def test_9_layers_that_a_model_does_not_have_are_refused() -> None:
    """Elsewhere the merge begins, and fails at the first layer that is missing."""
    config = {"merge_method": "passthrough", "slices": [{"sources": [source("ONE", 2, 6)]}]}
    assert error(config).startswith("E113 layer_range [2, 6] is beyond ./ONE, which has 4 layers")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what transformers deprecates is not our concern
def test_10_stacked_layers_are_a_model_that_transformers_reads_in_full(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    write_llama(tmp_path / "TWO", 2, seed=3)
    config = {
        "merge_method": "passthrough",
        "slices": [{"sources": [source("TWO", 0, 2)]}, {"sources": [source("TWO", 1, 2)]}],
    }
    found = merged(config)
    assert read_config(Path("out"))["num_hidden_layers"] == 3
    assert set(found) == set(llama(3))
    loaded: Any = AutoModelForCausalLM.from_pretrained("out", output_loading_info=True)
    model, report = loaded
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.model.layers[2].mlp.up_proj.weight.equal(
        llama(2, seed=3)["model.layers.1.mlp.up_proj.weight"]
    )


def test_11_a_weight_that_is_missing_is_told_with_its_model() -> None:
    entries: list[Config] = [{"model": "./ONE", "parameters": {"weight": 1}}, {"model": "./ZERO"}]
    assert error({"models": entries}).startswith(
        "E105 missing required parameter 'weight' of linear for model ./ZERO. Hint: write"
    )


def test_12_a_base_that_is_no_source_of_a_slice_is_refused() -> None:
    config = {
        "merge_method": "task_arithmetic",
        "base_model": "./ZERO",
        "slices": [{"sources": [source("ONE", 0, 4, weight=1)]}],
    }
    assert error(config).startswith("E110 task_arithmetic needs base_model './ZERO' among the sources")


def test_13_a_slice_may_have_a_base_of_its_own() -> None:
    config = {
        "merge_method": "task_arithmetic",
        "slices": [
            {"base_model": "./ZERO", "sources": [source("ONE", 0, 4, weight=0.5), source("ZERO", 0, 4)]}
        ],
    }
    found = merged(config)
    assert {number(found, name) for name in found} == {0.5}  # 0 + 0.5 (1 - 0)


def test_19_a_tied_base_and_an_untied_model_give_a_head(tmp_path: Path) -> None:
    """Elsewhere the config still says that the head is tied, and some readers then throw it away."""
    write_llama(tmp_path / "TIED", 4, 0.0, tie_word_embeddings=True)
    entries = [
        {"model": "./TIED", "parameters": {"weight": 1}},
        {"model": "./ONE", "parameters": {"weight": 0.5}},
    ]
    found = merged({"models": entries, "base_model": "./TIED"})
    assert number(found, HEAD) == 0.5
    assert read_config(Path("out"))["tie_word_embeddings"] is False


def test_21_shards_hold_no_more_than_they_may() -> None:
    sizes = {name: one.numel() * 4 for name, one in llama(4).items()}
    limit = sum(sizes.values()) // 4
    config = {"models": [{"model": "./ONE", "parameters": {"weight": 1}}], "output": {"shard_size": limit}}
    found = merged(config)
    assert set(found) == set(sizes)
    files = sorted(Path("out").glob("*.safetensors"))
    assert [file.name for file in files] == [f"model-{i:05d}-of-00005.safetensors" for i in range(1, 6)]
    for file in files:
        header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        assert file.stat().st_size - header <= limit
    index = (Path("out") / "model.safetensors.index.json").read_text()
    assert f'"total_size": {sum(sizes.values())}' in index


@pytest.mark.parametrize(
    ("knots", "t", "expected"),
    [([0, 1, 5], 0.75, 3.0), ([7], 0.3, 7.0), ([0, 1, 5], 1, 5.0), ([0, 1, 5], 0, 0.0)],
)
def test_22_gradients_are_interpolated(knots: list[float], t: float, expected: float) -> None:
    assert value_at(knots, t) == expected


@pytest.mark.parametrize("tied", [False, True])
def test_23_a_model_passes_through_as_it_is(tmp_path: Path, tied: bool) -> None:
    write_llama(tmp_path / "SOME", 3, seed=5, tie_word_embeddings=tied)
    found = merged({"merge_method": "passthrough", "models": [{"model": "./SOME"}]})
    wanted = llama(3, seed=5, tied=tied)
    assert found.keys() == wanted.keys()
    assert all(found[name].equal(wanted[name]) for name in wanted)
    assert found[EMBED].shape == (VOCABULARY, HIDDEN)
    assert read_config(Path("out")) == read_config(tmp_path / "SOME")
