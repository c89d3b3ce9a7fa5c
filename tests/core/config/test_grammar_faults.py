"""Merge configs: every way to get one wrong."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from merge_configs import METHODS, faults, params_of, two_models

from mergecore.config.grammar import (
    MergeConfig,
    read_config,
)
from mergecore.errors import MergecoreError
from mergecore.files.yaml_document import Document
from mergecore.types import Json

# ---- what is wrong -----------------------------------------------------------------------------------------

MODELS = "models: [{model: a}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (two_models("liner"), "E108 config.yml:1:15: unknown merge method 'liner'; did you mean 'linear'?"),
        (
            "merge_method: 3\n" + MODELS,
            "E104 config.yml:1:15: 'merge_method' is 3; text is expected. Hint: write it in",
        ),
        (MODELS, "E104 config.yml:1:1: 'merge_method' is missing from a merge config"),
        (
            two_models(extra="dytpe: float32\n"),
            "E103 config.yml:2:1: unknown key 'dytpe' in a merge config; did you mean",
        ),
        (
            two_models(extra="zzz: 1\n"),
            "E103 config.yml:2:1: unknown key 'zzz' in a merge config. Hint: its keys: merge_m",
        ),
        (
            two_models(extra="dtype: bfloat\n"),
            "E105 config.yml:2:8: unknown dtype 'bfloat'; did you mean 'bf",
        ),
        (two_models(extra="seed: x\n"), "E104 config.yml:2:7: 'seed' is 'x'; a whole number is expected"),
        (
            two_models(extra="seed: -1\n"),
            "E105 config.yml:2:7: 'seed' is -1; a number of at least 0 is expected",
        ),
        (
            two_models(extra="name: 7\n"),
            "E104 config.yml:2:7: 'name' is 7; text is expected. Hint: write it in quotes",
        ),
        (
            two_models(extra="parameters: [1]\n"),
            "E104 config.yml:2:13: 'parameters' is [1]; a mapping is expected",
        ),
        (two_models(extra="output: {shard_size: 5XB}\n"), "E105 config.yml:2:22: '5XB' is not a size"),
        (
            two_models(extra="output: {writr: x}\n"),
            "E103 config.yml:2:10: unknown key 'writr' in the output; did you",
        ),
        (
            two_models(extra="base_model: a@b@c\n"),
            "E112 config.yml:2:13: the model reference 'a@b@c' has more than one",
        ),
        (
            two_models(extra="residual_weight: 1\n"),
            "E103 config.yml:2:1: 'residual_weight' is obsolete. Hint: it never",
        ),
        (
            two_models(extra="input_model_parameters: {}\n"),
            "E103 config.yml:2:1: 'input_model_parameters' is obsolete. Hint: write 'parameters:' under each model",
        ),
        ("merge_method: linear\n", "E104 config.yml:1:1: one of models, slices, modules is needed"),
        (
            "merge_method: linear\nmodels: []\n",
            "E104 config.yml:1:1: one of models, slices, modules is needed",
        ),
        (
            "merge_method: linear\nmodules: {default: {models: []}}\n",
            "E104 config.yml:2:20: one of models, slices is needed",
        ),
        (
            "merge_method: linear\nmodels: [{model: a}]\nslices: [{sources: [{model: a, layer_range: [0, 1]}]}]\n",
            "E104 config.yml:3:1: models and slices exclude each other. Hint: keep one",
        ),
        (
            "merge_method: linear\nmodels: [a]\n",
            "E104 config.yml:2:10: an item of 'models' is 'a'; a mapping is expected. Hint: write '- model: a'",
        ),
        (
            "merge_method: linear\nmodels: {a: 1}\n",
            "E104 config.yml:2:9: 'models' is {'a': 1}; a list is expected",
        ),
        (
            "merge_method: linear\nmodels: [{parameters: }]\n",
            "E104 config.yml:2:10: 'model' is missing from a model en",
        ),
        ("merge_method: linear\nmodels: [{model: 3}]\n", "E112 config.yml:2:18: 3 does not name a model"),
        (
            "merge_method: linear\nslices: [{sources: []}]\n",
            "E104 config.yml:2:20: a slice needs at least one source. Hint: write {model, layer_range}",
        ),
        (
            two_models(extra="tokenizer_source: base\ntokenizer: {source: base}\n"),
            "E104 config.yml:2:1: 'tokenizer' and 'tokenizer_source' exclude each other. "
            "Hint: write the source within 'tokenizer'",
        ),
        (
            two_models(extra="tokenizer_source: model:m/a\n"),
            "E112 config.yml:2:19: 'model:m/a' does not name a model. Hint: write 'm/a'",
        ),
        (
            two_models(extra="tokenizer: {compat: mergkit}\n"),
            "E105 config.yml:2:21: parameter 'compat' is 'mergkit'; 'mergekit' is expected",
        ),
        (
            two_models(extra="tokenizer: {pad_to_multiple: 8}\n"),
            "E103 config.yml:2:13: unknown key 'pad_to_multiple' in the tokenizer; did you mean 'pad_to_multiple_of'?",
        ),
        (
            two_models(extra="tokenizer: {pad_to_multiple_of: 0}\n"),
            "E105 config.yml:2:33: 'tokenizer.pad_to_multiple_of' is 0; a number of at least 1 is expected",
        ),
        (
            two_models(extra="tokenizer: {tokens: {x: {forc: true}}}\n"),
            "E103 config.yml:2:26: unknown key 'forc' in a token; did you mean 'force'?",
        ),
    ],
)
def test_one_fault_gives_one_error_with_its_place(text: str, message: str) -> None:
    (found,) = faults(text)
    assert found.startswith(message)


@pytest.mark.parametrize(
    "source",
    [
        "{kind: zer}",
        "{kind: zero, model: a}",
        "{kind: model_token, model: a}",
        "{kind: model_token, model: a, token: x, token_id: 3}",
        "{kind: model_token, model: a, token_id: x}",
        "{kind: model_token, model: a, token: x, extra: 1}",
    ],
)
def test_a_token_source_that_is_neither_is_not_taken_for_a_model(source: str) -> None:
    (found,) = faults(two_models(extra=f"tokenizer: {{tokens: {{x: {{source: {source}}}}}}}\n"))
    assert found.startswith("E105 config.yml:2:34: ")
    assert "is not a valid token source. Hint: write a model, {kind: zero}, or {kind: model_token" in found


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            "[3, 1]",
            "layer_range [3, 1] contains no layers. Hint: write [first, end]: layers are counted from 0",
        ),
        ("[2, 2]", "layer_range [2, 2] contains no layers"),
        ("[-1, 2]", "layer_range [-1, 2] contains no layers"),
        ("[0]", "layer_range [0] is not two whole numbers"),
        ("[0, 1.5]", "layer_range [0, 1.5] is not two whole numbers"),
        ("[0, x]", "layer_range [0, x] is not two whole numbers"),
        ("[0, true]", "layer_range [0, True] is not two whole numbers"),
        ("all", "layer_range 'all' is not two whole numbers"),
    ],
)
def test_a_layer_range_is_two_numbers_with_layers_between_them(layers: str, message: str) -> None:
    (found,) = faults(f"merge_method: linear\nslices: [{{sources: [{{model: a, layer_range: {layers}}}]}}]\n")
    assert found.startswith(f"E113 config.yml:2:45: {message}")


def test_a_model_listed_twice_is_told_however_it_is_spelled() -> None:
    (found,) = faults("merge_method: linear\nmodels:\n- model: ./m/a\n- model: m/b\n- model: m/../m/a/\n")
    assert found.startswith(
        "E111 config.yml:5:10: 'm/../m/a/' is './m/a' by another name, and listed twice under 'models'; "
        "first at line 3. "
    )


def test_a_model_listed_twice_is_told_with_the_first_place() -> None:
    (found,) = faults("merge_method: linear\nmodels:\n- model: m/a\n- model: m/b\n- model: m/a\n")
    assert found == (
        "E111 config.yml:5:10: 'm/a' is listed twice under 'models'; first at line 3. "
        "Hint: list it once, with the weights added up"
    )


MISPLACED = """\
merge_method: ties
normalize: true
models:
  - model: a
    weight: 0.5
  - model: b
    lambda: 2
    base_model: c
"""


def test_a_parameter_in_a_wrong_place_is_told_where_it_belongs() -> None:
    assert faults(MISPLACED) == [
        "E103 config.yml:2:1: unknown key 'normalize' in a merge config; it is a parameter of ties. "
        "Hint: write it under 'parameters:'",
        "E103 config.yml:5:5: unknown key 'weight' in a model entry; it is a parameter of ties. "
        "Hint: write it under 'parameters:'",
        "E103 config.yml:7:5: unknown key 'lambda' in a model entry; it is a parameter of ties. "
        "Hint: write it under 'parameters:' of the top level",
        "E103 config.yml:8:5: unknown key 'base_model' in a model entry. Hint: write 'base_model' at the top level",
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("wieght: 0.5", "E109 config.yml:4:18: linear has no parameter 'wieght'; did you mean 'weight'?"),
        ("weight: .nan", "E105 config.yml:4:26: parameter 'weight' is nan; a finite number is expected"),
        ("weight: half", "E104 config.yml:4:26: parameter 'weight' is 'half'; a number is expected"),
        ("normalize: false", "E109 config.yml:4:18: 'normalize' is a parameter of linear as a whole"),
        ("weight: [1, {value: 2}]", "E104 config.yml:4:30: parameter 'weight': a list holds scalars"),
    ],
)
def test_a_parameter_of_a_model_is_told_with_its_place(params: str, message: str) -> None:
    found = faults(two_models(params=params))
    assert len(found) == 2  # one for each model
    assert found[0].startswith(message)


MANY = """\
dtype: half
models: {a: 1}
slices:
- sources:
  - model: a@b@c
    layer_range: [5, 1]
  weight: 1
parameters: {nope: 1}
merge_metod: linear
"""


def test_everything_wrong_is_told_at_once_in_the_order_of_lines() -> None:
    assert [found[:18] for found in faults(MANY)] == [
        "E104 config.yml:1:",
        "E105 config.yml:1:",
        "E104 config.yml:2:",
        "E104 config.yml:3:",
        "E112 config.yml:5:",
        "E113 config.yml:6:",
        "E103 config.yml:7:",
        "E103 config.yml:9:",
    ]


def test_names_that_others_wrote_are_printed_without_control_characters() -> None:
    (found,) = faults(two_models(extra='"a\\eb": 1\n'))
    assert "unknown key 'a\\x1bb'" in found


Words = st.sampled_from(
    [
        *MergeConfig.model_fields,
        "model",
        "sources",
        "layer_range",
        "tokens",
        "source",
        "kind",
        "weight",
        "zero",
    ]
)


Anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | Words | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(Words | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=30,
)


@given(st.dictionaries(Words, Anything, max_size=6))
def test_whatever_a_document_holds_it_is_read_or_refused(data: dict[str, Json]) -> None:
    with suppress(MergecoreError):
        assert read_config(Document("<config>", data), params_of).merge_method in METHODS
