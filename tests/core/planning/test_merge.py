"""From a config to a plan: what is decided, and everything that is refused before a weight is read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import llama, llama_config, registry, write_checkpoint, write_llama
from torch import Tensor

from mergecore import Plan, plan
from mergecore.errors import MergecoreError, Problems
from mergecore.models.safetensors import SNIFFED
from mergecore.types import Json, Step
from mergecore.types.plans import PlanOptions

Config = dict[str, Any]
Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(autouse=True)
def _no_weight_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder with the models base, a and b of two layers."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "a", "b")):
        write_llama(tmp_path / "m" / name, 2, seed=seed)

    def fail(*_: object) -> int:
        raise AssertionError("a weight was read while planning")

    def of_headers_only(file: int, count: int, offset: int) -> bytes:
        """The first kilobytes are read at once; what follows them only as far as the header goes."""
        weights = {one.stat().st_ino for one in tmp_path.rglob("*.safetensors")}
        header = 8 + int.from_bytes(pread(file, 8, 0), "little")
        if os.fstat(file).st_ino in weights and offset + count > (header if offset else max(header, SNIFFED)):
            fail()
        return pread(file, count, offset)

    pread = os.pread
    monkeypatch.setattr(os, "preadv", fail)
    monkeypatch.setattr(os, "pread", of_headers_only)


def test_a_weight_that_is_read_is_noticed() -> None:
    with (
        Path("m/base/model.safetensors").open("rb") as file,
        pytest.raises(AssertionError, match="a weight was"),
    ):
        os.pread(file.fileno(), 4, Path(file.name).stat().st_size - 4)


def planned(config: Config, **options: Any) -> Plan:
    return plan(config, registry=registry(), options=PlanOptions(**options))


def refused(config: Config, **options: Any) -> list[str]:
    """The codes and texts of everything that is wrong."""
    with pytest.raises(MergecoreError) as caught:
        planned(config, **options)
    errors = caught.value.errors if isinstance(caught.value, Problems) else (caught.value,)
    return [f"{one.code} {one}" for one in errors]


def step_of(made: Plan, name: str) -> Step:
    return next(step for step in made.steps if step.name == name)


def names(made: Plan) -> list[str]:
    return [step.name for step in made.steps]


def sources(made: Plan, name: str) -> list[str]:
    """Where an output tensor comes from, the base last."""
    step = step_of(made, name)
    inputs = [*step.inputs, *([step.base] if step.base else [])]
    return [f"{made.models[one.model].name} {one.tensor.name}" for one in inputs]


def linear(*models: str, **extra: Any) -> Config:
    entries = [{"model": f"m/{name}", "parameters": {"weight": 1}} for name in models]
    return {"merge_method": "linear", "models": entries, **extra}


def ties(*models: str, base: str | None = "base", **extra: Any) -> Config:
    start = {"base_model": f"m/{base}"} if base else {}
    return {**linear(*models), "merge_method": "ties", **start, **extra}


def slerp(*models: str, base: str = "base") -> Config:
    entries = [{"model": f"m/{name}"} for name in models]
    return {"merge_method": "slerp", "base_model": f"m/{base}", "models": entries, "parameters": {"t": 0.5}}


def stacked(method: str, *slices: list[tuple[str, int, int]], **extra: Any) -> Config:
    made = [
        {"sources": [{"model": f"m/{name}", "layer_range": [first, end]} for name, first, end in one]}
        for one in slices
    ]
    return {"merge_method": method, "slices": made, **extra}


def write(name: str, tensors: dict[str, Tensor], layers: int = 2, **changes: Any) -> None:
    write_checkpoint(Path("m") / name, tensors, llama_config(layers, **changes))


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


# ---- models that do not fit --------------------------------------------------------------------------------


def test_missing_tensors_are_named_with_the_ways_out() -> None:
    lacking = {name: one for name, one in llama(2).items() if "layernorm" not in name}
    write("b", lacking)
    assert refused(linear("a", "b")) == [
        "E231 4 tensors missing in m/b: 'model.layers.0.input_layernorm.weight',"
        " 'model.layers.0.post_attention_layernorm.weight', 'model.layers.1.input_layernorm.weight' and 1 more."
        " Hint: is it a fine-tune of the same model? --missing base takes the base's tensor,"
        " --missing skip merges the others, --missing drop leaves it out"
    ]


def test_a_missing_tensor_can_be_taken_from_the_base_or_skipped() -> None:
    write("b", {name: one for name, one in llama(2).items() if name != Q})
    assert sources(planned(ties("a", "b"), missing="base"), Q) == [f"m/a {Q}", f"m/base {Q}", f"m/base {Q}"]
    made = planned(ties("a", "b"), missing="skip")
    assert sources(made, Q) == [f"m/a {Q}", f"m/base {Q}"]
    assert step_of(made, Q).params.model_dump()["weight"] == (1,)  # type: ignore[union-attr]
    assert made.document["command_line"] == {"missing": "skip"}


def test_without_a_base_a_missing_tensor_can_be_taken_from_the_first_model() -> None:
    write("b", {name: one for name, one in llama(2).items() if name != Q})
    assert sources(planned(linear("a", "b"), missing="base"), Q) == [f"m/a {Q}", f"m/a {Q}"]


def test_a_method_that_needs_two_tensors_is_not_given_one() -> None:
    write("a", {name: one for name, one in llama(2).items() if name != Q})
    assert refused(slerp("a"), missing="skip") == [
        f"E231 '{Q}': slerp needs 2 tensors, and only 1 are there. Hint: use --missing base"
    ]


def test_a_base_that_lacks_a_tensor_is_not_replaced_by_another_model() -> None:
    """The base of the second slice is not the model that names the output."""
    write("b", {name: one for name, one in llama(2).items() if name != "model.layers.1.mlp.up_proj.weight"})
    config = stacked(
        "ties", [("a", 0, 1), ("base", 0, 1)], [("a", 1, 2), ("b", 1, 2)], parameters={"weight": 1}
    )
    config["slices"][0]["base_model"] = "m/a"
    config["slices"][1]["base_model"] = "m/b"
    assert refused(config, missing="skip") == [
        "E231 'model.layers.1.mlp.up_proj.weight': m/b is the base here, and lacks it. Hint: use --missing base"
    ]


def test_unexpected_tensors_are_named_with_the_ways_out() -> None:
    write("b", {**llama(2), "extra.weight": torch.ones(2)})
    assert refused(linear("a", "b")) == [
        "E232 1 tensor unexpected in m/b: 'extra.weight'. Hint: the base, or else the first model, lacks it;"
        " --unexpected copy takes it over, --unexpected drop leaves it out, "
        "--unexpected merge merges the models that have it"
    ]


def test_an_unexpected_tensor_can_be_copied_or_dropped() -> None:
    for name in "ab":
        write(name, {**llama(2), "extra.weight": torch.ones(2)})
    made = planned(ties("a", "b"), unexpected="copy")
    assert sources(made, "extra.weight") == ["m/a extra.weight"]
    assert step_of(made, "extra.weight").note == "the base, or else the first model, lacks it"
    assert [(one.model, one.names, one.reason) for one in made.dropped] == [
        (2, ("extra.weight",), "another model gives it")
    ]
    made = planned(ties("a", "b"), unexpected="drop")
    assert "extra.weight" not in names(made)
    assert [(one.model, one.reason) for one in made.dropped] == [
        (1, "the base, or else the first model, lacks it"),
        (2, "the base, or else the first model, lacks it"),
    ]


def test_shapes_that_differ_are_told_with_the_models() -> None:
    write("b", {**llama(2), Q: torch.ones(4, 3)})
    assert refused(linear("a", "b")) == [
        f"E230 shapes differ for '{Q}': m/a [4, 4], m/b [4, 3]."
        " Hint: merge models of one size, or leave out the one that differs"
    ]


def test_vocabularies_of_other_sizes_have_their_own_hint() -> None:
    tensors = llama(2)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = torch.ones(10, 4)
    write("b", tensors, vocab_size=10)
    errors = refused(linear("a", "b"))
    assert [error[:4] for error in errors] == ["E230"] * len(errors)
    assert all("the vocabularies differ" in error for error in errors)


def test_models_of_several_architectures_are_refused_unless_allowed() -> None:
    write("b", llama(2), model_type="mistral")
    assert refused(linear("a", "b")) == [
        "E222 the models are of different architectures: m/a is llama, m/b is mistral. Hint: remove the one that "
        "differs, or say with 'from' and 'into' which part of the others it matches; "
        "--allow-crimes merges them as long as names and shapes agree"
    ]
    assert len(planned(linear("a", "b"), allow_crimes=True).steps) == len(llama(2))


def test_models_of_other_depths_are_refused() -> None:
    write_llama(Path("m/deep"), 4)
    [error] = refused(linear("a", "b", "deep"))
    assert error.startswith("E231 ")
    assert "the models have different numbers of layers: m/a and m/b 2, m/deep 4" in error
    assert "choose layers with 'slices:'" in error


def test_a_model_that_is_not_there_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(
        "merge_method: linear\nmodels:\n  - {model: ./no, parameters: {weight: 1}}\n"
    )
    with pytest.raises(MergecoreError, match=r"'\./no'") as caught:
        plan(tmp_path / "c.yml", registry=registry())
    assert caught.value.code == "E701"


def test_everything_that_is_wrong_is_told_at_once() -> None:
    lacking = {name: one for name, one in llama(2).items() if name != Q}
    write("b", {**lacking, "extra": torch.ones(2), "model.norm.weight": torch.ones(3)})
    config = linear("a", "b")
    del config["models"][0]["parameters"]
    errors = refused(config)
    assert [error[:4] for error in errors] == ["E105", "E231", "E232", "E230"]
    assert "missing required parameter 'weight' of linear for model m/a" in errors[0]


def test_all_models_that_cannot_be_opened_are_told_at_once() -> None:
    errors = refused(linear("a", "../x", "../y"))
    assert [error[:4] for error in errors] == ["E701", "E701"]


# ---- numbers of models, bases ------------------------------------------------------------------------------


def test_a_base_alone_is_copied_and_said_to_be() -> None:
    made = planned(ties("base"))

    assert {step.method for step in made.steps} == {None}
    assert [one for one in made.warnings if "only the base" in one] == [
        "ties has only the base for 21 tensors, and copies it: 'model.embed_tokens.weight', "
        "'model.layers.0.input_layernorm.weight', 'model.layers.0.mlp.down_proj.weight' and 18 more"
    ]


def test_a_slice_of_the_base_alone_is_copied() -> None:
    one = stacked(
        "ties", [("base", 0, 1)], [("base", 1, 2), ("a", 1, 2)], base_model="m/base", parameters={"weight": 1}
    )
    made = planned(one)

    assert step_of(made, "model.layers.0.mlp.up_proj.weight").method is None
    assert step_of(made, "model.layers.1.mlp.up_proj.weight").method == "ties"


def test_what_only_the_base_has_is_copied_where_the_others_are_merged_without_it() -> None:
    write("a", {name: one for name, one in llama(2).items() if name != Q})

    made = planned(ties("a"), missing="skip")

    assert step_of(made, Q).method is None
    assert any(f"ties has only the base for 1 tensor, and copies it: '{Q}'" in one for one in made.warnings)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            ties("a", base=None),
            "E110 ties needs a base_model, and the config names none. Hint: add 'base_model: …'",
        ),
        (slerp("a", "b"), "E105 slerp merges exactly 1 model beside base_model, not 2"),
        (slerp("base"), "E105 slerp merges exactly 1 model beside base_model, not 0"),
        (
            {"merge_method": "passthrough", "models": [{"model": "m/a"}, {"model": "m/b"}]},
            "E105 passthrough merges exactly 1 model, not 2",
        ),
        (
            stacked("ties", [("a", 0, 2), ("b", 0, 2)], base_model="m/base", parameters={"weight": 1}),
            "E110 ties needs base_model 'm/base' among the sources of each slice."
            " Hint: add '{model: m/base, layer_range: […]}' to the sources",
        ),
        (
            stacked(
                "ties",
                [("a", 0, 2), ("base", 0, 2), ("base", 0, 2)],
                base_model="m/base",
                parameters={"weight": 1},
            ),
            "E111 base_model 'm/base' is listed twice. Hint: remove one",
        ),
        (
            stacked("linear", [("a", 0, 2)], [("a", 1, 3)], parameters={"weight": 1}),
            "E113 layer_range [1, 3] is beyond m/a, which has 2 layers."
            " Hint: the end is not included: all its layers are [0, 2]",
        ),
        (
            stacked("linear", [("a", 0, 2), ("b", 1, 2)], parameters={"weight": 1}),
            "E113 the sources of a slice differ in length: m/a 2, m/b 1 layers",
        ),
    ],
)
def test_slices_that_a_method_cannot_merge_are_refused(config: Config, text: str) -> None:
    assert [error for error in refused(config) if not error.startswith(text)] == []


def test_several_wrong_slices_are_told_at_once() -> None:
    config = stacked(
        "linear", [("a", 0, 3), ("b", 0, 4)], [("a", 0, 1), ("b", 0, 2)], parameters={"weight": 1}
    )
    assert [error[:4] for error in refused(config)] == ["E113"] * 4  # two lengths, two ends


def test_layers_of_a_model_with_several_stacks_are_ambiguous() -> None:
    stacks = {
        f"{stack}.{i}.{part}.weight": torch.ones(2)
        for stack in ("x.h", "y.h")
        for i in range(2)
        for part in "abc"
    }
    write_checkpoint(Path("m/two"), stacks, {"model_type": "two"})
    [error] = refused(stacked("passthrough", [("two", 0, 1)]))
    assert error == (
        "E113 layer_range is ambiguous: m/two has the layer stacks x.h.N (2), y.h.N (2)."
        " Hint: merge whole models with 'models:'"
    )


# ---- slices ------------------------------------------------------------------------------------------------


def test_layers_are_put_one_upon_another() -> None:
    made = planned(stacked("passthrough", [("a", 0, 2)], [("b", 1, 2)], [("a", 0, 1)]))
    assert made.layers == {"model.layers.": ((0, 0), (0, 1), (1, 1), (0, 0))}
    up = "model.layers.{}.mlp.up_proj.weight".format
    assert [sources(made, up(i)) for i in range(4)] == [
        [f"m/a {up(0)}"],
        [f"m/a {up(1)}"],
        [f"m/b {up(1)}"],
        [f"m/a {up(0)}"],
    ]
    assert len(made.steps) == 3 + 4 * 9


def test_embeddings_come_from_the_first_slice_norm_and_head_from_the_last() -> None:
    made = planned(stacked("passthrough", [("a", 0, 1)], [("b", 1, 2)]))
    assert sources(made, "model.embed_tokens.weight") == ["m/a model.embed_tokens.weight"]
    assert sources(made, "model.norm.weight") == ["m/b model.norm.weight"]
    assert sources(made, "lm_head.weight") == ["m/b lm_head.weight"]
    reasons = {(made.models[one.model].name, one.reason): len(one.names) for one in made.dropped}
    assert reasons == {
        ("m/a", "no slice takes this layer"): 9,
        ("m/a", "tensors outside the layers come from the last slice"): 2,
        ("m/b", "no slice takes this layer"): 9,
        ("m/b", "tensors outside the layers come from the first slice"): 1,
    }


def test_the_config_says_of_layers_merged_as_differences_what_the_base_says_of_them() -> None:
    write("base", llama(2), layer_types=["full", "sliding"], base_list=[1, 2])
    write("a", llama(2), layer_types=["sliding", "sliding"], base_list=[3, 4])
    made = planned(
        stacked(
            "ties",
            [("a", 0, 2), ("base", 0, 2)],
            [("a", 0, 1), ("base", 0, 1)],
            base_model="m/base",
            parameters={"weight": 1.0},
        )
    )
    config = json.loads(config_of(made))
    assert config["layer_types"] == ["full", "sliding", "full"]
    assert config["base_list"] == [1, 2, 1]


def test_a_layer_is_merged_with_another_layer() -> None:
    made = planned(stacked("linear", [("a", 0, 1), ("b", 1, 2)], parameters={"weight": 1}))
    up = "model.layers.{}.mlp.up_proj.weight".format
    assert sources(made, up(0)) == [f"m/a {up(0)}", f"m/b {up(1)}"]


def test_the_layers_of_one_model_can_be_merged_with_each_other() -> None:
    made = planned(stacked("linear", [("a", 0, 1), ("a", 1, 2)], parameters={"weight": 1}))
    up = "model.layers.{}.mlp.up_proj.weight".format
    assert sources(made, up(0)) == [f"m/a {up(0)}", f"m/a {up(1)}"]


def test_models_with_other_names_for_their_layers_are_stacked_under_those_of_the_donor() -> None:
    other = {name.replace("model.", "transformer."): one for name, one in llama(2).items()}
    write("b", other)
    made = planned(stacked("passthrough", [("a", 0, 1)], [("b", 1, 2)]), unexpected="copy")
    assert sources(made, "model.layers.1.mlp.up_proj.weight") == [
        "m/b transformer.layers.1.mlp.up_proj.weight"
    ]


@pytest.mark.parametrize("slices", [False, True])
def test_every_input_tensor_is_used_or_listed_as_dropped(slices: bool) -> None:
    write("b", {**llama(2), "extra": torch.ones(1), "model.layers.1.extra": torch.ones(1)})
    config = stacked("passthrough", [("a", 0, 1)], [("b", 1, 2)]) if slices else ties("a", "b")
    made = planned(config, unexpected="drop")
    taken = {
        (one.model, one.tensor.name)
        for step in made.steps
        for one in (*step.inputs, *([step.base] if step.base else []))
    }
    left = {(one.model, name) for one in made.dropped for name in one.names}
    everything = {(i, name) for i, model in enumerate(made.models) for name in model.tensors}
    assert taken | left == everything
    assert not taken & left


# ---- tied heads --------------------------------------------------------------------------------------------

HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


def write_tied(name: str) -> None:
    write_llama(Path("m") / name, 2, tie_word_embeddings=True)
    tensors = {key: one for key, one in llama(2).items() if key != HEAD}
    write(name, tensors, tie_word_embeddings=True)


def config_of(made: Plan) -> str:
    content = made.side_files["config.json"]
    assert isinstance(content, bytes)
    return content.decode()


def test_tied_models_have_no_head_in_the_output() -> None:
    write_tied("a")
    write_tied("b")
    made = planned(linear("a", "b"))
    assert HEAD not in names(made)
    assert '"tie_word_embeddings": true' in config_of(made)


def test_a_tied_base_and_an_untied_model_give_a_head_of_its_own() -> None:
    write_tied("base")
    made = planned(ties("a"))
    assert sources(made, HEAD) == [f"m/a {HEAD}", f"m/base {EMBED}"]
    assert '"tie_word_embeddings": false' in config_of(made)
    assert made.warnings == ("the head is written on its own, so tie_word_embeddings becomes false",)


def test_an_untied_base_and_a_tied_model_give_a_head() -> None:
    write_tied("a")
    made = planned(ties("a"))
    assert sources(made, HEAD) == [f"m/a {EMBED}", f"m/base {HEAD}"]
    assert '"tie_word_embeddings": false' in config_of(made)
    assert made.warnings == ()


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
