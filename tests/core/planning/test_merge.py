"""From a config to a plan: what is decided before a weight is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from merge_plans import Config, Q, linear, names, planned, refused, slerp, sources, step_of, ties, write
from tiny import llama, llama_config, registry, write_checkpoint, write_llama

from mergecore import plan
from mergecore.errors import MergecoreError, Problems
from mergecore.types import Json
from mergecore.types.plans import PlanOptions

pytestmark = pytest.mark.usefixtures("_no_weight_is_read")


def test_a_weight_that_is_read_is_noticed() -> None:
    with (
        Path("m/base/model.safetensors").open("rb") as file,
        pytest.raises(AssertionError, match="a weight was"),
    ):
        os.pread(file.fileno(), 4, Path(file.name).stat().st_size - 4)


# ---- whole models ------------------------------------------------------------------------------------------


def test_every_tensor_of_the_models_has_a_step() -> None:
    made = planned(linear("a", "b"))
    assert sorted(names(made)) == sorted(llama(2))
    assert sources(made, Q) == [f"m/a {Q}", f"m/b {Q}"]
    assert made.dropped == ()
    assert made.warnings == ()


def test_tensors_come_in_the_order_of_the_model() -> None:
    """Embeddings, layers from the first on, norm and head; within a layer as the model lists them."""
    order = names(planned(linear("a")))
    assert order[0] == "model.embed_tokens.weight"
    assert sorted(order[-2:]) == ["lm_head.weight", "model.norm.weight"]
    assert [name.split(".")[2] for name in order[1:-2]] == ["0"] * 9 + ["1"] * 9


def test_the_base_comes_last_and_is_taken_off_in_delta_space() -> None:
    made = planned(ties("a", "b"))
    assert [model.name for model in made.models] == ["m/base", "m/a", "m/b"]
    assert sources(made, Q) == [f"m/a {Q}", f"m/b {Q}", f"m/base {Q}"]


def test_a_base_that_is_listed_is_not_merged_twice() -> None:
    assert sources(planned(ties("a", "base")), Q) == [f"m/a {Q}", f"m/base {Q}"]


@pytest.mark.parametrize("listed", [("a",), ("base", "a"), ("a", "base")])
def test_in_weight_space_a_needed_base_comes_first(listed: tuple[str, ...]) -> None:
    assert sources(planned(slerp(*listed)), Q) == [f"m/base {Q}", f"m/a {Q}"]


def test_a_base_that_a_method_does_not_use_gives_config_and_side_files_only() -> None:
    made = planned(linear("a", base_model="m/base"))
    assert made.models[made.primary].name == "m/base"
    assert sources(made, Q) == [f"m/a {Q}"]
    assert [(one.model, one.reason) for one in made.dropped] == [
        (0, "the model gives config and side files only")
    ]
    assert len(made.dropped[0].names) == len(llama(2))


def test_without_a_base_the_first_model_is_the_donor() -> None:
    made = planned(linear("b", "a"))
    assert made.models[made.primary].name == "m/b"


def test_positions_run_over_the_layers() -> None:
    write_llama(Path("m/deep"), 5)
    made = planned(linear("deep"))
    assert [step_of(made, f"model.layers.{i}.mlp.up_proj.weight").depth.t for i in range(5)] == [  # type: ignore[union-attr]
        0,
        0.25,
        0.5,
        0.75,
        1,
    ]
    assert step_of(made, "model.embed_tokens.weight").depth is None


# ---- formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, "F32"),
        ({"dtype": "bfloat16"}, "BF16"),
        ({"dtype": "bfloat16", "out_dtype": "float16"}, "F16"),
        ({"out_dtype": "float64"}, "F64"),
    ],
)
def test_the_output_has_the_format_that_is_asked_for(extra: Config, expected: str) -> None:
    made = planned(linear("a", "b", **extra))
    assert {step.outputs[0].dtype for step in made.steps} == {expected}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ((torch.bfloat16, torch.bfloat16), "BF16"),
        ((torch.bfloat16, torch.float16), "F32"),
        ((torch.bfloat16, torch.float32), "F32"),
        ((torch.float16, torch.float64), "F64"),
    ],
)
def test_without_a_dtype_the_output_holds_all_inputs(stored: tuple[torch.dtype, ...], expected: str) -> None:
    for name, dtype in zip("ab", stored, strict=True):
        write(name, {key: tensor.to(dtype) for key, tensor in llama(2).items()})
    assert step_of(planned(linear("a", "b")), Q).outputs[0].dtype == expected
    assert step_of(planned(ties("a", base="b")), Q).outputs[0].dtype == expected


def test_tensors_without_numbers_to_merge_are_copied_in_their_format() -> None:
    mask = {"mask": torch.ones(3, dtype=torch.bool), "empty": torch.empty(0, 4)}
    for name in "ab":
        write(name, {**llama(2), **mask})
    made = planned(linear("a", "b", dtype="bfloat16"))
    assert (step_of(made, "mask").method, step_of(made, "mask").outputs[0].dtype) == (None, "BOOL")
    assert len(step_of(made, "mask").inputs) == 2
    assert (step_of(made, "empty").method, step_of(made, "empty").outputs[0].dtype) == (None, "BF16")


def test_formats_that_cannot_be_merged_or_compared_are_refused() -> None:
    write("a", {**llama(2), "x": torch.ones(3), "y": torch.ones(2, dtype=torch.int64)})
    write("b", {**llama(2), "x": torch.ones(3, dtype=torch.int64), "y": torch.ones(2, dtype=torch.int32)})
    assert sorted(refused(linear("a", "b")), reverse=True) == [
        "E233 m/b: tensor 'x' is I64, which cannot be merged. Hint: convert it to one of F64, F32, F16, BF16",
        "E233 'y' holds no numbers to merge, and its formats differ: m/a I64, m/b I32."
        " Hint: make it equal in all models, or leave one out",
    ]


# ---- what else a plan holds --------------------------------------------------------------------------------


def test_a_filter_that_matches_nothing_is_told() -> None:
    config = linear("a", parameters={"weight": [{"filter": "*.mlp.*", "value": 2}, {"value": 1}]})
    del config["models"][0]["parameters"]
    [warning] = planned(config).warnings
    assert (
        "the filter '*.mlp.*' matches no tensor; it is looked for literally: write 'glob:*.mlp.*'" in warning
    )


def test_the_command_line_goes_before_the_config() -> None:
    made = planned(linear("a", seed=3), seed=5, shard_size=1000)
    assert made.seed == 5
    assert made.document["command_line"] == {"seed": 5, "shard_size": 1000}
    assert len(made.layout.files) > 1
    assert planned(linear("a", seed=3)).seed == 3
    assert "command_line" not in planned(linear("a")).document


def test_the_plugins_that_take_part_are_named() -> None:
    made = planned(linear("a"))
    assert {"linear", "safetensors"} <= set(made.plugins)
    assert made.plugins["linear"].startswith("mergecore ")


def test_side_files_come_from_the_donor() -> None:
    for name in ("base", "a"):
        (Path("m") / name / "generation_config.json").write_text(f'{{"from": "{name}"}}')
        (Path("m") / name / "notes.txt").write_text("not carried")
    made = planned(ties("a"))
    assert made.side_files["generation_config.json"] == Path("m/base/generation_config.json").absolute()
    assert set(made.side_files) == {"config.json", "README.md", "generation_config.json"}


def test_a_name_in_the_config_is_the_title() -> None:
    assert planned(linear("a", name="Two in one")).title == "Two in one"


def test_a_config_that_cannot_be_read_does_not_hide_that_a_model_is_missing(tmp_path: Path) -> None:
    models: list[Json] = [{"model": str(tmp_path / "absent"), "parameters": {"wieght": 1}}]
    with pytest.raises(Problems) as caught:
        plan({"merge_method": "linear", "models": models}, registry=registry())
    assert [error.code for error in caught.value.errors] == ["E109", "E701"]
    assert caught.value.exit_code == 2


def test_a_model_of_another_size_is_told_in_few_lines(tmp_path: Path) -> None:
    write_llama(tmp_path / "a", 2)
    wide = {name: torch.cat([one, one]) for name, one in llama(2).items()}
    write_checkpoint(tmp_path / "b", wide, llama_config(2))
    models: list[Json] = [{"model": str(tmp_path / name), "parameters": {"weight": 1}} for name in "ab"]
    with pytest.raises(Problems) as caught:
        plan({"merge_method": "linear", "models": models}, registry=registry())
    assert [error.code for error in caught.value.errors] == ["E230"] * 2  # vocabulary, width
    assert "; so it is for 18 more tensors: " in str(caught.value.errors[-1])


def test_what_is_missing_or_unexpected_and_let_pass_is_told(tmp_path: Path) -> None:
    write_llama(tmp_path / "a", 2)
    fewer = {name: one for name, one in llama(2).items() if name != "model.norm.weight"}
    write_checkpoint(tmp_path / "b", {**fewer, "more.weight": torch.ones(2)}, llama_config(2))
    models: list[Json] = [{"model": str(tmp_path / name), "parameters": {"weight": 1}} for name in "ab"]
    made = plan(
        {"merge_method": "linear", "models": models},
        registry=registry(),
        options=PlanOptions(missing="skip", unexpected="drop"),
    )
    assert any("1 tensor missing in" in text and "'model.norm.weight'" in text for text in made.warnings)
    assert any("1 tensor only in" in text and "'more.weight'" in text for text in made.warnings)


def test_a_parameter_that_is_written_but_not_for_every_tensor_is_said_to_be_so(tmp_path: Path) -> None:
    write_llama(tmp_path / "a", 2)
    cases: dict[str, Json] = {
        "has no case for tensor 'model.embed_tokens.weight'. Hint: add a last case without a filter, such as": [
            {"filter": "self_attn", "value": 1}
        ],
        "is an empty list": [],
    }
    for told, weight in cases.items():
        models: list[Json] = [{"model": str(tmp_path / "a"), "parameters": {"weight": weight}}]
        with pytest.raises(MergecoreError, match=f"parameter 'weight' {told}"):
            plan({"merge_method": "linear", "models": models}, registry=registry())
