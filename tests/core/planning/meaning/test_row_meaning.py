"""Rows that configs name: matched by name, refused where the names differ; every number can be checked by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from examples import example_config
from refusals import refused
from tiny import llama, llama_config, read_config, read_tensors, registry, write_checkpoint
from torch import Tensor

from mergecore import MergeMethod, merge, plan
from mergecore.models.row_names import subject_of
from mergecore.planning.meaning.row_meaning import rows_by_name
from mergecore.types import Json
from mergecore.types.plans import PlanOptions


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def labels(*names: str) -> dict[str, Json]:
    return {"id2label": {str(i): name for i, name in enumerate(names)}}


def write(name: str, rows: Mapping[str, Tensor], config: Mapping[str, Json]) -> None:
    """A Llama without a head for text, with these tensors beside."""
    write_checkpoint(Path(name), llama(1, 1.0, tied=True) | dict(rows), llama_config(1) | dict(config))


def linear(*models: str, **more: Any) -> dict[str, Any]:
    listed = [{"model": f"./{name}", "parameters": {"weight": 1.0}} for name in models]
    return {"merge_method": "linear", "models": listed, "dtype": "float32", **more}


def tens(count: int, columns: int = 4, unit: float = 1.0) -> Tensor:
    """Row i is (i + 1) `unit`."""
    return (torch.arange(1, count + 1) * unit)[:, None].repeat(1, columns)


def first(out: Path, name: str, axis: int = 0) -> list[float]:
    """The first number of each row."""
    tensor = read_tensors(out)[name].movedim(axis, 0)
    return tensor.reshape(len(tensor), -1)[:, 0].tolist()


HEADS = ("score.weight", "classifier.weight", "classifier.out_proj.weight", "fc.weight", "head.weight")


@pytest.mark.parametrize("name", HEADS)
def test_labels_in_another_order_are_matched_by_name(name: str) -> None:
    bias = name.replace("weight", "bias")
    for model, unit, names in (("a", 1.0, "xyz"), ("b", 100.0, "zxy")):
        write(model, {name: tens(3, unit=unit), bias: tens(3, 1, unit)[:, 0].clone()}, labels(*names))
    merged = merge(linear("a", "b"), "out", registry=registry())
    # rows of b in the order x, y, z: 200, 300, 100
    assert first(merged, name) == [100.5, 151.0, 51.5]
    assert first(merged, bias) == [100.5, 151.0, 51.5]
    assert read_config(merged)["id2label"] == {"0": "x", "1": "y", "2": "z"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"id2label": {"0": "x", "1": "y"}}, {"label2id": {"x": 1, "y": 0}}),
        ({"id2label": {"0": "NEG", "1": "POS"}}, {"id2label": {"0": "pos", "1": "neg"}}),
        (
            {"id2label": {"0": "not_x", "1": "x"}},
            {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"X": 0, "not x": 1}},
        ),
        ({"label_names": ["x", "y"]}, {"label_names": ["y", "x"]}),
        ({"pretrained_cfg": {"label_names": ["x", "y"]}}, {"pretrained_cfg": {"label_names": ["y", "x"]}}),
        ({"classes": ["x", "y"]}, {"classes": ["y", "x"]}),
    ],
)
def test_names_are_found_however_a_config_writes_them(
    ours: Mapping[str, Json], theirs: Mapping[str, Json]
) -> None:
    write("a", {"score.weight": tens(2)}, ours)
    write("b", {"score.weight": tens(2, unit=100.0)}, theirs)
    assert first(merge(linear("a", "b"), "out", registry=registry()), "score.weight") == [100.5, 51.0]


def test_other_labels_are_refused_once_for_weight_and_bias_with_a_way_out() -> None:
    for model, names in (("a", ("joy", "anger", "fear")), ("b", ("joy", "spam", "fear"))):
        write(model, {"score.weight": tens(3), "score.bias": torch.ones(3)}, labels(*names))
    assert refused(linear("a", "b")) == [
        "E223 id2label of ./a and ./b gives the rows of 'score.bias', 'score.weight' different meanings: only ./a "
        "has 'anger'; only ./b has 'spam'. Hint: 'exclude: [\"glob:score.*\"]' keeps those of the base, or else of "
        "the first model; where two names mean the same, write one of them into both config.json"
    ]
    out = merge(linear("a", "b", exclude=["glob:score.*"]), "out", registry=registry())
    assert first(out, "score.weight") == [1.0, 2.0, 3.0]


def test_another_number_of_labels_is_one_error_that_speaks_of_labels() -> None:
    write("a", {"score.weight": tens(2)}, labels("x", "y"))
    write("b", {"score.weight": tens(3)}, labels("x", "y", "z"))
    (error,) = refused(linear("a", "b"))
    assert error.startswith("E223 ")
    assert "only ./b has 'z'" in error


def test_other_labels_can_be_merged_by_position_on_demand() -> None:
    write("a", {"score.weight": tens(2)}, labels("x", "y"))
    write("b", {"score.weight": tens(2)}, labels("x", "z"))
    made = plan(linear("a", "b"), registry=registry(), options=PlanOptions(allow_crimes=True))
    assert [one for one in made.warnings if one.endswith("only ./b has 'z'; they are merged by position")]


@pytest.mark.parametrize("silent", [{}, labels("LABEL_0", "LABEL_1"), {"num_labels": 2}, labels("0", "1")])
def test_a_model_that_does_not_name_its_labels_is_told_of(silent: dict[str, Json]) -> None:
    write("a", {"score.weight": tens(2)}, labels("x", "y"))
    write("b", {"score.weight": tens(2)}, silent)
    (told,) = [one for one in plan(linear("a", "b"), registry=registry()).warnings if "label" in one]
    assert told == (
        "id2label of ./a names the rows of 'score.weight' ('x', 'y'), and ./b does not say what its rows mean: "
        "they are merged by position"
    )


def test_models_beside_a_donor_without_names_still_agree_with_one_another() -> None:
    write("a", {"score.weight": tens(2)}, {})
    write("b", {"score.weight": tens(2, unit=10.0)}, labels("x", "y"))
    write("c", {"score.weight": tens(2, unit=100.0)}, labels("y", "x"))
    out = merge(linear("a", "b", "c"), "out", registry=registry())
    assert first(out, "score.weight") == [pytest.approx(211 / 3), pytest.approx(122 / 3)]


def test_labels_of_models_that_merge_nothing_but_a_head_come_from_the_donor() -> None:
    """The last slice gives the head; the config is that of the first model."""
    for model, names in (("a", "xy"), ("b", "yx")):
        write(model, {"score.weight": tens(2)}, labels(*names))
    slices = [{"sources": [{"model": f"./{one}", "layer_range": [0, 1]}]} for one in "ab"]
    document: dict[str, Any] = {"merge_method": "passthrough", "slices": slices, "dtype": "float32"}
    out = merge(document, "out", registry=registry(), plan_options=PlanOptions(allow_crimes=True))
    assert first(out, "score.weight") == [2.0, 1.0]


def test_a_base_that_only_gives_its_config_names_the_rows_and_the_way_out_is_another() -> None:
    for model, names in (("a", "xy"), ("b", "yx"), ("c", "pq")):
        write(model, {"score.weight": tens(2)}, labels(*names))
    (error,) = refused(linear("a", "b", base_model="./c"))
    assert (
        "Hint: leave out 'base_model', whose config would be written; where two names mean the same" in error
    )
    assert first(merge(linear("a", "b"), "out", registry=registry()), "score.weight") == [1.5, 1.5]


def test_names_of_rows_that_are_matched_are_no_difference_of_configs() -> None:
    for model, names in (("a", {"en": 0, "de": 1}), ("b", {"de": 0, "en": 1})):
        write(model, {"lang_embeddings.weight": tens(2)}, {"lang2id": dict[str, Json](names)})
    (told,) = plan(linear("a", "b"), registry=registry()).warnings
    assert told.endswith("in another order: the rows of 'lang_embeddings.weight' are matched by name")


def test_differences_to_a_base_are_taken_between_rows_of_one_name() -> None:
    for model, unit, names in (("base", 1.0, "xy"), ("a", 10.0, "yx")):
        write(model, {"score.weight": tens(2, unit=unit)}, labels(*names))
    document = {**linear("a"), "merge_method": "task_arithmetic", "base_model": "./base"}
    # base + (a - base) is a: 20, 10 in the order of the base
    assert first(merge(document, "out", registry=registry()), "score.weight") == [20.0, 10.0]


@pytest.mark.parametrize("method", registry().all(MergeMethod), ids=lambda one: one.name)
def test_every_method_makes_the_same_of_rows_that_were_in_order_before(
    method: MergeMethod[Any], tmp_path: Path
) -> None:
    names = ["v", "w", "x", "y", "z"]
    made = []
    for kind in ("sorted", "mixed"):
        config = example_config(method, registry(), tmp_path / kind)
        for seed, folder in enumerate(sorted((tmp_path / kind).iterdir())):
            order = torch.randperm(5, generator=torch.Generator().manual_seed(seed)).tolist()
            order = (
                order if kind == "mixed" and folder.name not in str(config.get("base_model")) else [*range(5)]
            )
            head = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
            tensors = read_tensors(folder) | {"score.weight": head[order], "score.bias": head[order, 0]}
            write_checkpoint(folder, tensors, read_config(folder) | labels(*(names[i] for i in order)))
        options = PlanOptions(allow_crimes=True, unexpected="copy", missing="skip")
        out = merge(config, tmp_path / f"{kind}-out", registry=registry(), plan_options=options)
        ids: Any = read_config(out)["id2label"]
        back = [list(ids.values()).index(one) for one in names]
        made.append([read_tensors(out)[f"score.{part}"][back] for part in ("weight", "bias")])
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


@pytest.mark.parametrize(
    ("key", "name", "shape", "axis"),
    [
        ("lang2id", "lang_embeddings.weight", (2, 4), 0),
        ("id2lang", "model.lang_embeddings.weight", (2, 4), 0),
        ("speaker2id", "speaker_embedding.weight", (2, 4), 0),
        ("spk_id", "model.embed_speakers.weight", (5, 4), 0),
        ("task_names", "task_heads.weight", (2, 4), 0),
        ("lora_adaptations", "model.layers.0.mlp.up_proj.lora_A", (2, 3, 4), 0),
        ("aggregation_labels", "aggregation_classifier.weight", (2, 4), 0),
        ("token_type_names", "embeddings.token_type_embeddings.weight", (2, 4), 0),
        ("codebook_names", "quantizer.codebooks", (2, 3), 0),
        ("adapter_names", "adapters.down", (2, 3, 4), 0),
        ("id2label", "objective.weight", (3, 2), 1),
        ("id2label", "decode_head.classifier.weight", (2, 3, 1, 1), 0),
        ("id2label", "class_labels_classifier.weight", (3, 4), 0),  # the last one means nothing of these
        ("id2label", "model.decoder.class_embed.0.weight", (2, 4), 0),
    ],
)
def test_whatever_a_config_names_is_matched_by_name(
    key: str, name: str, shape: Sequence[int], axis: int
) -> None:
    values = torch.arange(1.0, shape[axis] + 1).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    for model, names in (("a", ["en", "de"]), ("b", ["de", "en"])):
        mapping: dict[str, Json] = {one: number for number, one in enumerate(names)}
        listed: Json = (
            mapping if key.endswith(("2id", "_id")) else {str(i): one for one, i in mapping.items()}
        )
        if key.endswith(("names", "adaptations")):
            listed = list(names)
        write(model, {name: values.expand(*shape).clone()}, {key: listed})
    out = merge(linear("b", "a"), "out", registry=registry())
    assert first(out, name, axis) == [1.5, 1.5, 3.0, 4.0, 5.0][: shape[axis]]


@pytest.mark.parametrize(
    "name",
    [
        "qa_outputs.weight",  # begin and end
        "cls.seq_relationship.weight",  # follows or not
        "model.embeddings.token_type_embeddings.weight",
        "model.layers.0.input_layernorm.weight",
        "bbox_predictor.layers.2.weight",
    ],
)
def test_rows_that_are_no_labels_stay_although_as_many(name: str) -> None:
    for model, unit, names in (("a", 1.0, "wxyz"), ("b", 3.0, "zwxy")):
        write(model, {name: tens(4, unit=unit)}, labels(*names))
    assert first(merge(linear("a", "b"), "out", registry=registry()), name) == [2.0, 4.0, 6.0, 8.0]


def test_a_matrix_before_the_last_of_a_head_keeps_its_rows_even_with_as_many_labels_as_columns() -> None:
    for model, unit, names in (("a", 1.0, "wxyz"), ("b", 3.0, "zwxy")):
        tensors = {f"classifier.{part}.weight": tens(4, unit=unit) for part in ("dense", "out_proj")}
        write(model, tensors, labels(*names))
    out = merge(linear("a", "b"), "out", registry=registry())
    assert first(out, "classifier.dense.weight") == [2.0, 4.0, 6.0, 8.0]
    assert first(out, "classifier.out_proj.weight") == [3.5, 5.5, 7.5, 3.5]  # b: 6, 9, 12, 3


def test_names_that_no_tensor_follows_are_told_of() -> None:
    for model, names in (("a", ["x", "y"]), ("b", ["y", "x"])):
        write(model, {}, {"speakers": list[Json](names)})
    warnings = plan(linear("a", "b"), registry=registry()).warnings
    assert (
        "speakers of ./a and ./b differ, and no tensor is known to have rows with these names: all are merged by "
        "position"
    ) in warnings


@pytest.mark.parametrize(("rows", "told"), [(3, True), (5, False)])
def test_labels_are_told_of_where_a_tensor_that_is_no_known_head_may_have_them(rows: int, told: bool) -> None:
    for model, names in (("a", "xyz"), ("b", "zyx")):
        write(model, {"model.out.weight": tens(rows)}, labels(*names))
    warnings = plan(linear("a", "b"), registry=registry()).warnings
    assert any(one.startswith("id2label of ./a and ./b differ, and no tensor") for one in warnings) == told


def test_rows_and_columns_by_label_are_not_half_moved() -> None:
    for model, names in (("a", "xy"), ("b", "yx")):
        write(model, {"crf.transitions": tens(2, 2)}, labels(*names))
    (error,) = refused(linear("a", "b"))
    assert "'crf.transitions'" in error
    assert "the names are the same, in another order that cannot be followed here" in error


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("tasks", "task_heads.{}.weight"),
        ("adapter_names", "adapters.{}.down.weight"),
        ("codebook_names", "codebooks.{}.embed"),
        ("id2label", "classifiers.{}.weight"),
    ],
)
def test_numbered_modules_with_names_in_another_order_are_refused(key: str, name: str) -> None:
    for model, names in (("a", ["x", "y"]), ("b", ["y", "x"])):
        listed: Json = labels(*names)["id2label"] if key == "id2label" else list[Json](names)
        write(model, {name.format(number): tens(3) for number in range(2)}, {key: listed})
    (error,) = refused(linear("a", "b"))
    assert error.startswith(
        f"E223 {key} of ./a and ./b gives the rows of '{name.format(0)}', '{name.format(1)}'"
    )
    write("b", {name.format(number): tens(3) for number in range(2)}, labels() if key == "id2label" else {})
    assert plan(linear("a", "b"), registry=registry()).steps


def test_heads_that_align_words_in_time_are_compared() -> None:
    for model, heads in (("a", [[0, 1]]), ("b", [[0, 0]])):
        write(model, {}, {})
        Path(model, "generation_config.json").write_text(json.dumps({"alignment_heads": heads}))
    assert (
        "alignment_heads of ./a and ./b differ: that of ./a is written"
        in plan(linear("a", "b"), registry=registry()).warnings
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "rows"),
    [
        (["a", "b"], ["a", "b"], []),
        (["a", "b", "c"], ["c", "a", "b"], [1, 2, 0]),
        (["N/A", "x", "N/A"], ["x", "N/A", "N/A"], [1, 0, 2]),
        (["a", "b"], ["a", "c"], None),
        (["a", "A"], ["A", "a"], [1, 0]),
    ],
)
def test_rows_by_name(ours: list[str], theirs: list[str], rows: list[int] | None) -> None:
    assert rows_by_name(dict(enumerate(ours)), dict(enumerate(theirs)), len(ours)) == rows


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        ("id2label", "label"),
        ("label2id", "label"),
        ("lang_to_id", "language"),
        ("spk2id", "speaker"),
        ("id_to_task", "task"),
        ("vocoder_lang_code_to_id", "vocoder_lang"),
        ("languages", "language"),
        ("layer_names", ""),
        ("stage_names", ""),
        ("eos_token_ids", ""),
        ("hidden_size", ""),
    ],
)
def test_keys_say_what_they_name(key: str, subject: str) -> None:
    assert subject_of(key) == subject


# ---- a config that contradicts itself ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            {"id2label": {"0": "x", "1": "y"}, "label2id": {"x": 1, "y": 0}},
            "row 0 is 'x' by id2label and 'y' by label2id",
        ),
        (
            {"text_config": {"id2label": {"0": "x"}, "label2id": {"z": 0}}},
            "row 0 is 'x' by text_config.id2label and 'z' by text_config.label2id",
        ),
        ({"id2lang": {"3": "de"}, "lang2id": {"fr": 3}}, "row 3 is 'de' by id2lang and 'fr' by lang2id"),
        ({"id2label": {"0": "x", "1": "y"}, "label2id": {"x": 0, "y": 1}}, ""),
        ({"id2label": {"0": "x"}, "label2id": {"LABEL_0": 0}}, ""),  # says no more than the index
        ({"id2label": {"0": "x", "1": "y"}, "label2id": {"x": 0}}, ""),
    ],
)
def test_two_names_of_one_row_within_a_model_are_told(config: dict[str, Json], told: str) -> None:
    write("a", {}, {})
    write("b", {}, config)
    warnings = [one for one in plan(linear("a", "b"), registry=registry()).warnings if "contradicts" in one]
    expected = f"the config of ./b contradicts itself: {told}; the first of them is used"
    assert warnings == ([expected] if told else [])
