"""What merges of adapters are refused for: one clear error each, while planning, and nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import Cli
from safetensors.torch import load_file
from tiny import llama, write_llama
from torch import Tensor
from written_adapters import START, K, Q, document, pair, write

import mergecore
from mergecore import MergeMethod, Params, Registry, TensorGroup
from mergecore.errors import MergecoreError, MergeError, PluginError, Problems
from mergecore.types import FactorGroup, Json, Merged


def refused(config: Mapping[str, Any]) -> str:
    with pytest.raises(MergecoreError) as caught:
        mergecore.merge(config, "out")
    errors = caught.value.errors if isinstance(caught.value, Problems) else (caught.value,)
    assert not Path("out").exists()
    return "\n".join(f"{one.code} {one}" for one in errors)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_changes_of_different_shapes() -> None:
    write("a")
    write("b", pair(Q, into=6))
    text = refused(document("a", "b"))
    assert f"E230 shapes differ for '{Q}.weight': a [4, 4] (linear), b [4, 6] (linear)" in text
    assert "merge adapters of one base" in text


def test_whole_tensors_of_different_shapes() -> None:
    for name, rows in (("a", 8), ("b", 9)):
        write(name, {**pair(Q), f"{START}lm_head.weight": torch.zeros(rows, 4)}, modules_to_save=["lm_head"])
    assert "shapes differ for 'lm_head.weight': a [8, 4], b [9, 4]" in refused(document("a", "b"))


def test_a_weight_with_factors_here_and_whole_there() -> None:
    write("a", {**pair(Q), f"{START}{K}.weight": torch.zeros(4, 4)}, modules_to_save=["k_proj"])
    write("b", pair(K))
    text = refused(document("a", "b"))
    assert f"E251 '{K}.weight' was trained whole in a, and has factors in b" in text
    assert "merge each adapter into its base with `mergecore merge-lora`, merge these, and use" in text


def test_a_bias_that_is_trained_in_two_ways() -> None:
    write("a", {**pair(Q), f"{START}{Q}.lora_B.bias": torch.ones(4)}, lora_bias=True)
    write("b", {**pair(Q), f"{START}{Q}.base_layer.bias": torch.ones(4)}, bias="all")
    text = refused(document("a", "b"))
    assert f"'{Q}.bias' was trained whole in b, and by 'lora_bias' in another adapter" in text


def test_biases_of_factors_beside_embeddings() -> None:
    table = {
        f"{START}model.embed_tokens.lora_embedding_A": torch.ones(2, 8),
        f"{START}model.embed_tokens.lora_embedding_B": torch.ones(4, 2),
    }
    write("a", {**pair(Q), f"{START}{Q}.lora_B.bias": torch.ones(4)}, lora_bias=True)
    write("b", table)
    text = refused(document("a", "b"))
    assert "'lora_bias' and factors of 'model.embed_tokens.weight' cannot stand in one adapter" in text


def saved(name: str, tensor: Tensor | None = None, **config: Any) -> str:
    head = torch.ones(8, 4) if tensor is None else tensor
    return write(name, {**pair(Q), f"{START}lm_head.weight": head}, modules_to_save=["lm_head"], **config)


def test_whole_tensors_need_a_base_for_differences() -> None:
    saved("a")
    text = refused(document("a", method="task_arithmetic"))
    assert "E701 'lm_head.weight' was trained whole, so the base is needed: 'base': " in text
    assert "name the base: 'base_model: PATH'" in text
    saved("b", base_model_name_or_path=None)
    assert "so the base is needed: none is named" in refused(document("b", method="task_arithmetic"))


def test_whole_tensors_that_one_adapter_lacks_need_a_base_in_an_average() -> None:
    saved("a")
    write("b")
    assert "E701 'lm_head.weight' was trained whole" in refused(document("a", "b"))
    assert mergecore.merge(document("a"), "alone").is_dir()  # all have it: no base is needed
    write_llama(Path("base"), 2, seed=1)
    made = load_file(mergecore.merge(document("a", "b"), "both") / "adapter_model.safetensors")
    wanted = (llama(2, seed=1)["lm_head.weight"] + 1) / 2
    assert torch.allclose(made[f"{START}lm_head.weight"], wanted)


def test_a_whole_tensor_that_the_base_has_not_so() -> None:
    write_llama(Path("base"), 2)
    saved("a", torch.ones(9, 4))
    text = refused(document("a", method="task_arithmetic"))
    assert "E252 'lm_head.weight' [9, 4] was trained whole, and the base 'base' has [8, 4]" in text
    assert "merge with 'linear' where all adapters have it; it needs no base" in text
    write("b", {**pair(Q), f"{START}score.weight": torch.ones(2, 4)}, modules_to_save=["score"])
    text = refused(document("b", method="task_arithmetic"))
    assert "'score.weight' [2, 4] was trained whole, and the base 'base' has none" in text


def test_whole_tensors_are_not_added_up() -> None:
    saved("a")
    saved("b")
    text = refused(document("a", "b", parameters={"normalize": False}))
    assert "E105 'lm_head.weight' was trained whole, and linear without normalising would scale it" in text
    assert "set 'normalize: true', or use task_arithmetic, which adds up differences to the base" in text
    config = {"merge_method": "passthrough", "output": {"writer": "peft"}, "parameters": {"scale": 2}}
    text = refused({**config, "models": [{"model": {"adapter": "a"}}]})
    assert "passthrough without normalising would scale it" in text


def test_a_scale_of_whole_tensors() -> None:
    saved("a")
    text = refused(document({"adapters": [{"path": "a", "scale": 0.5}]}))
    assert "E251 a times 0.5: 'lm_head.weight' was trained whole, and a scale of 0.5 needs its base" in text
    assert "leave the scale out, and set a weight" in text


def test_an_adapter_without_factors() -> None:
    write("a", {f"{START}lm_head.weight": torch.ones(8, 4)}, modules_to_save=["lm_head"])
    text = refused(document("a"))
    assert "E250 a: it changes no weight by factors" in text
    assert "copy the adapter again" in text


def test_a_damaged_adapter_is_told_as_where_it_is_put_on_a_base() -> None:
    write("a", {name: one for name, one in pair(Q).items() if "lora_A" in name})
    assert f"E250 a: '{Q}' has no lora_B" in refused(document("a"))
    write("b", pair(Q, rank=3))
    assert "are not of rank 2, which adapter_config.json gives" in refused(document("b"))
    write("c", {**pair(Q), f"{START}{Q}.lora_magnitude_vector": torch.ones(4)})
    assert "has a lora_magnitude_vector, and 'use_dora' is not set" in refused(document("c"))
    write("d", {**pair(Q), f"{START}{Q}.default.lora_A.weight": torch.ones(2, 4)})
    assert "E250" in refused(document("d"))


@pytest.mark.parametrize(("dtype", "name"), [(torch.int32, "I32"), (torch.float8_e4m3fn, "F8_E4M3")])
def test_factors_in_formats_that_are_not_computed_with(dtype: torch.dtype, name: str) -> None:
    write("a", {tensor: one.to(dtype) for tensor, one in pair(Q).items()})
    text = refused(document("a"))
    assert (
        f"'{START}{Q}.lora_A.weight' is {name}; factors are numbers of 16, 32 or 64 bits, floating-point"
        in text
    )
    assert "E233" in text


def narrow(group: FactorGroup, params: Params) -> tuple[Tensor, Tensor]:
    return group.factors[0][0][:-1], group.factors[0][1]


def test_a_method_that_makes_other_factors() -> None:
    write("a")
    method = MergeMethod(
        name="narrow", merge=lambda group, params: group.x[0], params=Params, merge_factors=narrow
    )
    registry = Registry.discover().with_methods(method)
    config = {**document("a", method="narrow"), "models": [{"model": {"adapter": "a"}}]}
    with pytest.raises(
        PluginError, match=r"'merge_factors' of 'narrow' returned \[3, 2\] and \[2, 4\]"
    ) as caught:
        mergecore.merge(config, "out", registry=registry)
    assert caught.value.code == "E605"
    assert "for a matrix of [4, 4]" in str(caught.value)


def test_all_adapters_are_looked_at() -> None:
    write("a", use_dora=True, tensors={**pair(Q), f"{START}{Q}.lora_magnitude_vector": torch.ones(4)})
    text = refused(document("a", "nowhere"))
    assert "it is a DoRA" in text
    assert "E701 'nowhere'" in text


def test_a_model_is_not_an_adapter() -> None:
    write_llama(Path("base"), 2)
    assert "E250" in refused(document({"path": "base"}))


def test_several_adapters_in_one_model() -> None:
    write("a")
    write("b")
    text = refused(document({"adapters": ["a", "b"]}))
    assert "E112 'a+b' has 2 adapters; here each model is one adapter" in text
    assert "list them as models of their own" in text


def test_what_is_not_a_reference() -> None:
    assert "E112 3 does not name a model" in refused({**document(), "models": [{"model": 3}]})


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("tokenizer_source", "union", "leave it out"),
        ("chat_template", "auto", "leave it out"),
        (
            "slices",
            [{"sources": [{"model": "a", "layer_range": [0, 1]}]}],
            "list the adapters under 'models:'",
        ),
    ],
)
def test_keys_of_whole_models(key: str, value: Json, hint: str) -> None:
    write("a")
    text = refused({**document("a"), key: value})
    assert f"E105 '{key}' means nothing where adapters are merged into an adapter" in text
    assert hint in text


def test_no_adapters() -> None:
    empties: tuple[dict[str, Any], ...] = ({}, {"models": []})
    for empty in empties:
        text = refused({"merge_method": "linear", "output": {"writer": "peft"}, **empty})
        assert "E104 one of models, slices, modules is needed" in text


def test_the_grammar_is_that_of_a_merge() -> None:
    write("a")
    assert "did you mean 'merge_method'" in refused({**document("a"), "merge_methd": 1})
    assert "E108 unknown merge method 'tise'" in refused(document("a", method="tise"))
    assert "did you mean 'weight'" in refused(document("a", parameters={"wieght": 1}))
    assert "did you mean 'rank'" in refused(document("a", output={"rnak": 1}))


@pytest.mark.parametrize("rank", [0, -1, "all", 1.5])
def test_ranks_that_are_none(rank: Json) -> None:
    write("a")
    assert "output" in refused(document("a", output={"rank": rank})) or "rank" in refused(
        document("a", output={"rank": rank})
    )


def test_an_exact_rank_where_there_is_none() -> None:
    write("a")
    text = refused(document("a", method="ties", output={"rank": "exact"}))
    assert f"E105 ties leaves nothing of low rank, so there is no exact rank for '{Q}.weight'" in text
    assert "give a number, or 'full'; methods that add factors can be exact" in text


def test_nothing_left() -> None:
    write_llama(Path("base"), 2)
    saved("a")
    text = refused(document("a", method="task_arithmetic", exclude=["q_proj"]))
    assert "E105 no weight is left to merge" in text
    assert "include more, or leave 'exclude' out" in text


def test_a_merged_change_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a", {name: one * 1e20 for name, one in pair(Q).items()})
    with pytest.raises(MergeError, match=rf"the merged change of '{Q}.weight' is not finite") as caught:
        mergecore.merge(document("a", method="ties"), "out")
    assert caught.value.code == "E404"
    assert "look at the adapters and at the parameters of the method" in str(caught.value.hint)
    assert not Path("out").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["linear", "ties"])
def test_damaged_factors_are_refused_whether_or_not_they_may_be_read(
    method: str, value: float, cli: Cli
) -> None:
    """No adapter stands for a change that is not finite, so `--allow-nonfinite` leads to another error."""
    tensors = pair(Q)
    tensors[f"{START}{Q}.lora_B.weight"][0, 0] = value
    write("a", tensors)
    done = cli("combine-lora", "a", "out", "--method", method)
    assert done.code == 3
    assert "error E234: a: tensor" in done.err
    write("b")
    done = cli("combine-lora", "a", "b", "out", "--method", method, "--allow-nonfinite")
    assert f"error E404: the merged change of '{Q}.weight' is not finite (NaN or Inf)" in done.err
    assert not Path("out").exists()


def test_weights_of_the_base_that_differ_between_adapters() -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        table = {
            f"{START}model.embed_tokens.lora_embedding_A": torch.ones(2, 8),
            f"{START}model.embed_tokens.lora_embedding_B": torch.ones(4, 2),
            f"{START}model.embed_tokens.base_layer.weight": torch.full((8, 4), value),
        }
        write(name, table)
    with pytest.raises(MergeError) as caught:
        mergecore.merge(document("a", "b"), "out")
    what = (
        "tensor 'base_model.model.model.embed_tokens.base_layer.weight' is a weight of the base, and differs"
    )
    assert str(caught.value).startswith(what)
    assert "between the adapters" in str(caught.value)


def test_adapters_of_different_bases_are_merged_with_a_warning() -> None:
    write("a", base_model_name_or_path="org/one")
    write("b", base_model_name_or_path="org/two")
    made = mergecore.plan(document("a", "b"))
    assert "the adapters were trained on different bases: a on 'one'; b on 'two'" in made.warnings


def test_names_of_another_version_of_transformers_are_found() -> None:
    other = Q.replace("model.", "model.language_model.")
    write("a")
    write("b", pair(other, seed=4))
    made = mergecore.plan(document("a", "b"))
    assert f"b: '{other}.weight' is taken for '{Q}.weight'" in made.warnings
    assert len(made.steps) == 1


def test_tokenizers_are_carried(cli: Cli) -> None:
    for name, text in (("a", "{}"), ("b", "{ }")):
        write(name)
        (Path(name) / "tokenizer_config.json").write_text(text)
    made = mergecore.plan(document("a", "b"))
    assert "the tokenizer is that of a; b has another" in made.warnings
    assert "tokenizer_config.json" in made.side_files


def test_the_command_writes_nothing_and_exits_with_3(cli: Cli) -> None:
    write("a", use_dora=True, tensors={**pair(Q), f"{START}{Q}.lora_magnitude_vector": torch.ones(4)})
    outcome = cli("combine-lora", "a", "out")
    assert outcome.code == 3
    assert "it is a DoRA" in outcome.err
    assert "Traceback" not in outcome.err
    assert not Path("out").exists()
    outcome = cli("combine-lora", "a", "a", "a", "out", "--weight", "1", "--weight", "2")
    assert outcome.code == 2
    assert "2 times --weight for 3 adapters: one for all, or one for each" in outcome.err


@pytest.mark.parametrize("weight", [0, [{"filter": "q_proj", "value": 0}, {"value": 1}]])
def test_weights_that_sum_to_0_are_told_in_the_plan(weight: Json) -> None:
    write("a")
    write("b", pair(Q, seed=4))
    config = document("a", "b")
    for one in config["models"]:
        one["parameters"]["weight"] = weight
    with pytest.raises(MergeError, match=r"the weights sum to 0 \(0, 0\)") as caught:
        mergecore.plan(config)
    assert caught.value.code == "E404"
    assert caught.value.hint == "change a weight, or set normalize: false"


def doubled(group: TensorGroup, params: Params) -> Merged:
    """Makes the first half twice, and the second never."""
    half = group.count // 2
    return group.scatter(lambda block: [(0, 0, block.x[0, :half]), (0, 0, block.x[0, :half])])


def one_number(group: TensorGroup, params: Params) -> Merged:
    return group.map(lambda block: block.x[0].sum())


def half_of_it(group: TensorGroup, params: Params) -> Merged:
    return group.scatter(lambda block: [(0, 0, block.x[0, : group.count // 2])])


def whole_numbers(group: TensorGroup, params: Params) -> Merged:
    return torch.zeros(group.shape, dtype=torch.int64)


@pytest.mark.parametrize(
    ("merge", "told"),
    [
        (one_number, "'bad' makes 1 numbers of float32 of '{}' where 16 of float32 or float64 are expected"),
        (half_of_it, "'bad' makes 8 numbers of '{}' where 16 of float32"),
        (whole_numbers, "'bad' makes 16 numbers of int64 of '{}' where 16 of float32"),
        (lambda group, params: None, "'bad' makes NoneType of '{}' where 16 of float32"),
        (doubled, "the merged change of '{}' is not finite"),
    ],
)
def test_a_method_that_does_not_make_the_whole_change(merge: Any, told: str) -> None:
    """As in a merge of models: nothing that was never made is written."""
    write("a")
    config = document("a", method="bad")
    del config["models"][0]["parameters"]
    bad = MergeMethod(name="bad", merge=merge, params=Params)
    with pytest.raises(MergecoreError) as caught:
        mergecore.merge(config, "out", registry=Registry.discover().with_methods(bad))
    assert told.format(f"{Q}.weight") in str(caught.value)
    assert not Path("out").exists()
