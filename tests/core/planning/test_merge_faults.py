"""Models that do not fit together: refused before a weight is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from merge_plans import Q, linear, names, planned, refused, slerp, sources, stacked, step_of, ties, write
from tiny import llama, registry, write_llama

from mergecore import plan
from mergecore.errors import MergecoreError

pytestmark = pytest.mark.usefixtures("_no_weight_is_read")


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


def test_a_file_name_that_disks_do_not_take_is_refused() -> None:
    """243 letters and '.safetensors' are 255 bytes; an accented letter has two."""
    made = planned({**linear("a"), "output": {"stem": "x" * 243}})
    assert len(made.layout.files[0].name) == 255
    for stem, length in (("x" * 244, 256), ("é" * 122, 256), ("x" * 300, 312)):
        assert refused({**linear("a"), "output": {"stem": stem}}) == [
            f"E105 the name of the file '{stem[:40]}…' has {length} bytes, and most disks take 255. "
            "Hint: write a shorter name under 'output'"
        ]
