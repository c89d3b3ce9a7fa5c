"""Files of tensors without a config, of safetensors and of torch.save, merged name by name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from safetensors.torch import save_file
from tiny import read_tensors, registry, write_llama
from torch import Tensor

from mergecore import Plan, merge, plan
from mergecore.cli.app import run
from mergecore.errors import MergecoreError
from mergecore.output.verify import verify_folder
from mergecore.types import Json
from mergecore.types.execution import RunOptions
from mergecore.types.plans import PlanOptions

UNION: dict[str, Any] = {"missing": "skip", "unexpected": "merge"}
INTERSECTION: dict[str, Any] = {"missing": "drop", "unexpected": "drop"}
NO_CONFIG = (
    "no model has a config.json: tensors are merged by their names, and nothing tells whether they mean the same in "
    "all models; no vocabulary is compared"
)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tensors(value: float, *more: str) -> dict[str, Tensor]:
    """Three tensors of `value`, one of them whole numbers, and `more` of two elements."""
    made = {"head": torch.full((2, 3), value), "net.0.w": torch.full((4,), value), "steps": torch.tensor(7)}
    return made | {name: torch.full((2,), value) for name in more}


def listed(weights: dict[str, float], **config: Json) -> dict[str, Json]:
    models: list[Json] = [{"model": name, "parameters": {"weight": one}} for name, one in weights.items()]
    return {"merge_method": "linear", "models": models, **config}


def planned(config: dict[str, Json], **options: Any) -> Plan:
    return plan(config, registry=registry(), options=PlanOptions(**options))


def merged(config: dict[str, Json], **options: Any) -> dict[str, float]:
    """The value of each tensor of the output, all of whose elements are equal."""
    run_options = RunOptions(overwrite=True)
    out = merge(
        config, "out", registry=registry(), plan_options=PlanOptions(**options), run_options=run_options
    )
    found = read_tensors(out)
    assert all(len(one.unique()) == 1 for one in found.values())
    return {name: float(one.flatten()[0]) for name, one in found.items()}


# ---- what is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "saved"),
    [
        ("bin", lambda one: one),
        ("pt", lambda one: {"state_dict": one, "epoch": 3, "args": {"lr": 1e-3, "names": ["a", None, True]}}),
        ("pth", lambda one: {"params_ema": one}),
        ("ckpt", lambda one: {"model": one, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}),
    ],
)
def test_files_of_torch_are_merged_with_files_of_safetensors(suffix: str, saved: Any) -> None:
    """0.25 · 1 + 0.75 · 3 = 2.5; whole numbers are copied, and the manifest says what was read."""
    save_file(tensors(1.0), "a.safetensors")
    torch.save(saved(tensors(3.0)), f"b.{suffix}")
    assert merged(listed({"a.safetensors": 0.25, f"./b.{suffix}": 0.75})) == {
        "head": 2.5,
        "net.0.w": 2.5,
        "steps": 7,
    }
    assert verify_folder(Path("out")).tensors == 3
    made = planned(listed({"a.safetensors": 0.25, f"./b.{suffix}": 0.75}))
    left = [one for one in made.warnings if "are left out" in one]
    told = f"./b.{suffix}: the tensors below 'model' are the model; those below 'optimizer' are left out"
    assert left == ([told] if suffix == "ckpt" else [])


def test_names_of_their_own_come_before_those_of_something_inside() -> None:
    torch.save({**tensors(1.0), "ema": tensors(2.0)}, "a.pt")
    made = planned(listed({"a.pt": 1}))
    assert {step.name for step in made.steps} == {"head", "net.0.w", "steps"}
    told = "a.pt: the tensors that have a name of their own are the model; those below 'ema' are left out"
    assert told in made.warnings


def test_a_tensor_beside_the_model_is_not_taken_for_it() -> None:
    torch.save({"model": tensors(1.0), "loss": torch.tensor(0.5), "ema": tensors(2.0)}, "a.pt")
    made = planned(listed({"a.pt": 1}))
    assert {step.name for step in made.steps} == {"head", "net.0.w", "steps"}
    told = "a.pt: the tensors below 'model' are the model; 'loss' and those below 'ema' are left out"
    assert told in made.warnings


def test_tensors_below_several_names_are_ambiguous() -> None:
    torch.save({"params": tensors(1.0), "params_ema": tensors(2.0)}, "a.pt")
    torch.save({"epoch": 3}, "b.pt")
    assert refused(listed({"a.pt": 1, "b.pt": 1})) == [
        "E214 a.pt: ambiguous: there are tensors below 'params' and 'params_ema'. Hint: save those of the model in a "
        "file of their own, as safetensors",
        "E201 b.pt: contains no tensors",
    ]


def test_no_tensor_is_lost_without_a_word() -> None:
    torch.save({"state_dict": {**tensors(1.0), "sub": {"x": [torch.ones(2)]}}, "best": 0.5}, "a.pt")
    made = planned(listed({"a.pt": 1}))
    told = "a.pt: the tensors below 'state_dict' are the model; those below 'state_dict.sub' are left out"
    assert told in made.warnings
    odd: dict[Any, Tensor] = {**tensors(1.0), 3: torch.ones(2)}
    torch.save(odd, "b.pt")
    assert refused(listed({"b.pt": 1})) == [
        "E208 b.pt: a tensor has the name 3, which is not text. Hint: save the tensors under names of text"
    ]


def test_nothing_in_a_pickle_is_run() -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return Path.touch, (Path("ran"),)  # type: ignore[return-value]

    torch.save({"a": torch.ones(2), "x": Payload()}, "a.bin")
    (error,) = refused(listed({"a.bin": 1}))
    assert error.startswith("E304 a.bin: the pickle asks for ")
    assert not Path("ran").exists()


def test_a_folder_of_files_without_a_config_is_one_model() -> None:
    """Of the folder `a` all files count, of `b` all shards of torch.save; what training keeps beside them does not."""
    Path("a").mkdir()
    Path("b").mkdir()
    save_file(tensors(1.0), "a/one.safetensors")
    save_file({"more": torch.full((2,), 1.0)}, "a/two.safetensors")
    torch.save(tensors(3.0), "b/pytorch_model-00001-of-00002.bin")
    torch.save({"more": torch.full((2,), 3.0)}, "b/pytorch_model-00002-of-00002.bin")
    torch.save({"lr": 1.0}, "b/optimizer.pt")
    config = listed({"./a": 1, "./b": 1})
    assert merged(config) == {"head": 2, "net.0.w": 2, "steps": 7, "more": 2}
    told = "./a: 'one.safetensors', 'two.safetensors' are one model together, no tensor is in two of them"
    assert planned(config).warnings == (told, NO_CONFIG)


def test_a_shard_that_is_missing_and_a_name_in_two_files_are_refused() -> None:
    Path("a").mkdir()
    Path("b").mkdir()
    torch.save(tensors(3.0), "a/pytorch_model-00001-of-00002.bin")
    for name in ("one", "two"):
        save_file(tensors(1.0), f"b/{name}.safetensors")
    assert refused(listed({"./a": 1, "./b": 1})) == [
        "E212 ./a/pytorch_model-00002-of-00002.bin: missing; 1 of 2 files of this name are not there. Hint: download "
        "or copy the model again",
        "E213 ./b: tensor 'steps' is in both one.safetensors and two.safetensors",
    ]


def test_other_files_are_refused_with_the_names_that_are_read() -> None:
    Path("a.txt").write_text("x")
    save_file(tensors(1.0), "flux.sft")
    assert refused(listed({"a.txt": 1, "flux.sft": 1})) == [
        "E201 'a.txt': expected a folder, or a file of tensors. Hint: its name ends in .safetensors, .bin, .pt, .pth "
        "or .ckpt"
    ]


# ---- tensors that not all have -----------------------------------------------------------------------------


def three() -> dict[str, float]:
    save_file(tensors(1.0, "ab", "a", "ac"), "a.safetensors")
    torch.save(tensors(2.0, "ab", "b", "bc"), "b.bin")
    save_file(tensors(4.0, "ac", "bc", "c"), "c.safetensors")
    return {"a.safetensors": 1.0, "b.bin": 2.0, "c.safetensors": 5.0}


def test_a_union_merges_each_tensor_from_the_models_that_have_it() -> None:
    """Weights 1, 2 and 5, divided by the sum of those that are there: bc is (2 · 2 + 5 · 4) / 7."""
    found = merged(listed(three()), **UNION)
    expected = {
        "head": (1 + 4 + 20) / 8,
        "net.0.w": (1 + 4 + 20) / 8,
        "ab": (1 + 4) / 3,
        "ac": (1 + 20) / 6,
        "bc": (4 + 20) / 7,
        "a": 1,
        "b": 2,
        "c": 4,
        "steps": 7,
    }
    assert found == pytest.approx(expected, rel=1e-6)
    sums = merged(listed(three(), parameters={"normalize": False}), **UNION)
    assert {name: sums[name] for name in ("a", "b", "c", "bc")} == {"a": 1, "b": 4, "c": 20, "bc": 24}


def test_an_intersection_leaves_out_what_one_model_lacks() -> None:
    made = planned(listed(three()), **INTERSECTION)
    assert {step.name for step in made.steps} == {"head", "net.0.w", "steps"}
    reasons = {(one.model, name): one.reason for one in made.dropped for name in one.names}
    assert reasons[0, "ab"] == reasons[1, "ab"] == reasons[0, "a"] == "not all models have it"
    assert reasons[1, "bc"] == reasons[2, "c"] == "the base, or else the first model, lacks it"
    warnings = [one for one in made.warnings if "left out" in one]
    assert "2 tensors missing in c.safetensors, left out: 'a', 'ab'" in warnings
    assert "2 tensors only in b.bin, left out: 'b', 'bc'" in warnings


def test_what_the_base_lacks_cannot_be_merged_as_a_difference_to_it() -> None:
    three()
    config: dict[str, Json] = {
        "merge_method": "task_arithmetic",
        "base_model": "c.safetensors",
        "models": [{"model": "a.safetensors"}, {"model": "b.bin"}],
        "parameters": {"weight": 1},
    }
    with pytest.raises(MergecoreError) as caught:
        planned(config, **UNION)
    assert str(caught.value) == (
        "'a': c.safetensors is the base here, and lacks it; so it is for 2 more tensors: 'ab', 'b'. Hint: use "
        "--unexpected copy"
    )
    found = merged(config, **INTERSECTION)
    assert found == {"head": 4 + (1 - 4) + (2 - 4), "net.0.w": -1, "steps": 7}


def layers(count: int, value: float) -> dict[str, Tensor]:
    """Layers of `value`, `value` + 1, …, and a head."""
    made = {f"blocks.{layer}.w": torch.full((2,), value + layer) for layer in range(count)}
    return made | {"head": torch.full((2,), value)}


def of_unlike_depth() -> None:
    save_file(layers(3, 1.0), "a.safetensors")
    torch.save(layers(2, 10.0), "b.bin")
    save_file(layers(4, 100.0), "c.safetensors")


def test_files_with_unlike_numbers_of_layers_are_merged_name_by_name() -> None:
    """The numbers are those of mergekit-pytorch 0.1.5; layer 2 of a union is (1 · 3 + 5 · 102) / 6."""
    of_unlike_depth()
    weights = {"a.safetensors": 1.0, "b.bin": 2.0, "c.safetensors": 5.0}
    both = {"blocks.0.w": 65.125, "blocks.1.w": 66.125, "head": 65.125}
    assert merged(listed(weights), **INTERSECTION) == both
    assert merged(listed(weights), **UNION) == {**both, "blocks.2.w": 85.5, "blocks.3.w": 103}
    pruned: dict[str, Json] = {
        "merge_method": "ties",
        "base_model": "a.safetensors",
        "models": [
            {"model": "b.bin", "parameters": {"weight": 0.5, "density": 0.5}},
            {"model": "c.safetensors", "parameters": {"weight": 0.25}},
        ],
    }
    out = merge(pruned, "ties", registry=registry(), plan_options=PlanOptions(**INTERSECTION))
    found = {name: one.tolist() for name, one in read_tensors(out).items()}
    assert found == {"blocks.0.w": [40, 100], "blocks.1.w": [41, 101], "head": [40, 100]}
    told = refused(listed(weights))[0]
    assert told.startswith("E231 1 tensor missing in b.bin: 'blocks.2.w'")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (INTERSECTION, [1, 11]),
        (UNION, [1, 2 / 3 * 2 + 1 / 3 * 11, 1 / 3 * 3, 0]),
        ({"missing": "base", "unexpected": "drop"}, [1, 0.5 * 2 + 0.5 * 11, 3]),
    ],
)
def test_gradients_run_over_the_layers_of_the_output(options: Any, expected: list[float]) -> None:
    """From a to b, of which b lacks layer 2 and a layer 3: over 2 layers, the 4 of c, or the 3 of a."""
    of_unlike_depth()
    config: dict[str, Json] = {
        "merge_method": "linear",
        "parameters": {"normalize": False},
        "models": [
            {"model": "a.safetensors", "parameters": {"weight": [1, 0]}},
            {"model": "b.bin", "parameters": {"weight": [0, 1]}},
            {"model": "c.safetensors", "parameters": {"weight": 0}},
        ],
    }
    found = merged(config, **options)
    del found["head"]
    assert list(found.values()) == pytest.approx(expected, rel=1e-6)


def test_the_options_of_mergekit_pytorch_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    three()
    text = "merge_method: linear\nmodels: [{model: a.safetensors}, {model: b.bin}, {model: c.safetensors}]\n"
    Path("c.yml").write_text(f"{text}parameters: {{weight: 1}}\n")
    for word, here, count in (
        ("--tensor-union", "--missing skip --unexpected merge", 9),
        ("-i", "--missing drop --unexpected drop", 3),
    ):
        assert run(["merge", "c.yml", "out", "--overwrite", word]) == 0
        assert f"mergecore: {word} is {here} here" in capsys.readouterr().err
        assert len(read_tensors(Path("out"))) == count


# ---- parameters, and what is said --------------------------------------------------------------------------


def test_gradients_and_filters_follow_the_layers_in_the_names() -> None:
    """Of three layers the second is half way, 0.5 · 1 + 0.5 · 2; norms have weight 0 and 1."""
    names = [f"blocks.{layer}.{part}" for layer in range(3) for part in ("w", "norm")]
    for value, file in ((1.0, "a.bin"), (2.0, "b.bin")):
        torch.save({name: torch.full((2,), value) for name in names}, file)
    config: dict[str, Json] = {
        "merge_method": "linear",
        "models": [
            {"model": "a.bin", "parameters": {"weight": [{"filter": "norm", "value": 0}, {"value": [1, 0]}]}},
            {"model": "b.bin", "parameters": {"weight": [{"filter": "norm", "value": 1}, {"value": [0, 1]}]}},
        ],
    }
    assert merged(config) == {
        **{f"blocks.{i}.norm": 2 for i in range(3)},
        "blocks.0.w": 1,
        "blocks.1.w": 1.5,
        "blocks.2.w": 2,
    }


def test_a_plan_says_that_no_config_is_compared() -> None:
    save_file(tensors(1.0), "a.safetensors")
    save_file(tensors(3.0), "b.safetensors")
    assert planned(listed({"a.safetensors": 1, "b.safetensors": 1})).warnings == (NO_CONFIG,)
    assert planned(listed({"a.safetensors": 1})).warnings == ()
    write_llama(Path("m"), 1)
    with pytest.raises(MergecoreError):
        planned(listed({"./m": 1, "a.safetensors": 1}))
    made = planned(listed({"./m": 1, "./m/model.safetensors": 1}))
    assert [one for one in made.warnings if "no model has" in one] == []


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_down_blocks_0_attn1_to_q.lora_down.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "blocks.0.w.hada_w1_a",
        "transformer.blocks.0.attn.lora_B.default.weight",
    ],
)
def test_factors_of_a_change_are_told_to_be_no_changes(name: str) -> None:
    """The products of the means: (1 + 3) / 2 · (1 + 3) / 2 = 4, while the mean of the products is (1 + 9) / 2 = 5."""
    for value, file in ((1.0, "a.safetensors"), (3.0, "b.safetensors")):
        save_file({name: torch.full((2, 2), value), "lora.alpha": torch.tensor(4.0)}, file)
    config = listed({"a.safetensors": 1, "b.safetensors": 1})
    assert merged(config)[name] == 2
    told = f"'{name}' are factors of a change, as adapters have them: each factor is merged by itself"
    assert [one for one in planned(config).warnings if one.startswith(told)] != []
    assert len(planned(listed({"a.safetensors": 1})).warnings) == 0


# ---- the output --------------------------------------------------------------------------------------------


def test_the_file_of_weights_gets_the_name_that_the_config_gives() -> None:
    save_file(tensors(1.0), "a.safetensors")
    out = merge(listed({"a.safetensors": 1}, output={"stem": "my-merge"}), "out", registry=registry())
    assert sorted(file.name for file in out.iterdir()) == [
        "README.md",
        "mergecore-manifest.json",
        "my-merge.safetensors",
    ]


@pytest.mark.parametrize("name", ["out.safetensors", "sub/merged.ckpt"])
def test_an_output_that_is_called_like_a_file_is_refused(name: str) -> None:
    save_file(tensors(1.0), "a.safetensors")
    with pytest.raises(MergecoreError) as caught:
        merge(listed({"a.safetensors": 1}), name, registry=registry())
    folder = name.partition(".")[0]
    assert str(caught.value) == (
        f"{name}: the output is a folder, and this is the name of a file. Hint: write {folder}: the weights are then "
        f"in {folder}/model.safetensors, or in NAME.safetensors with 'output: {{stem: NAME}}' in the config"
    )
    assert caught.value.code == "E510"


def test_large_files_of_torch_are_read_a_part_at_a_time() -> None:
    """The numbers are found by their place in the file, whatever lies before and between them."""
    big = torch.arange(300_000, dtype=torch.float32)
    torch.save({"state_dict": {"x": big, "view": big[100:200], "h": big.to(torch.bfloat16)}}, "a.pt")
    save_file({"x": big * 3, "view": big[100:200] * 3, "h": big.to(torch.bfloat16) * 3}, "b.safetensors")
    out = merge(listed({"a.pt": 1, "b.safetensors": 1}), "out", registry=registry())
    found = read_tensors(out)
    assert found["x"].equal(big * 2)
    assert found["view"].equal(big[100:200] * 2)
    exact = (big.to(torch.bfloat16).double() + (big.to(torch.bfloat16) * 3).double()) / 2
    assert found["h"].equal(exact.to(torch.bfloat16))
    assert math.prod(found["h"].shape) == 300_000
