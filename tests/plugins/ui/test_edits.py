"""Edits of merge configs: what comes out, to the character; and what is refused rather than damaged."""

from __future__ import annotations

from typing import Any

import pytest

from mergecore.errors import ConfigError, MergecoreError
from mergecore.files import parse_documents
from mergecore_plugins.ui.edits import (
    Change,
    add_model,
    edited,
    insert_item,
    remove,
    remove_model,
    remove_parameter,
    set_key,
    set_parameter,
    set_value,
)

TIES = """\
# For the team: keep the weights.
merge_method: ties    # best so far
base_model: ./base

models:
- model: ./code       # writes Python
  parameters: {weight: 0.5}
# and sums
- model: "./math"
  parameters:
    density: [0, 1]   # a gradient
    weight: 0.5       # half
dtype: bfloat16
"""


def changed(text: str, after: str) -> list[str]:
    """The lines that differ, as a diff shows them."""
    import difflib

    lines = difflib.ndiff(text.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line.rstrip("\n") for line in lines if line[0] in "+-"]


def test_a_weight_of_a_model_changes_its_number_only() -> None:
    after = set_parameter(TIES, "weight", 0.7, ("models", 1)).after
    assert changed(TIES, after) == ["-     weight: 0.5       # half", "+     weight: 0.7       # half"]


def test_a_gradient_comes_in_place_of_a_number_and_the_number_of_a_gradient() -> None:
    after = set_parameter(TIES, "weight", [0, 0.25, 1], ("models", 0)).after
    assert "  parameters: {weight: [0, 0.25, 1]}\n" in after
    assert "    density: 0.5   # a gradient\n" in set_parameter(TIES, "density", 0.5, ("models", 1)).after


def test_cases_come_in_lines_of_their_own_and_comments_stay() -> None:
    cases: Any = [{"filter": "role:attn", "value": [0, 1]}, {"value": 0.5}]
    after = set_parameter(TIES, "weight", cases, ("models", 1)).after
    assert after.endswith(
        "    weight:\n      - {filter: role:attn, value: [0, 1]}\n      - {value: 0.5}       # half\ndtype: bfloat16\n"
    )
    back = set_parameter(after, "weight", 0.5, ("models", 1)).after
    assert back.endswith("    weight: 0.5       # half\ndtype: bfloat16\n") or "# half" in back
    assert parse_documents(back)[0].data == parse_documents(TIES)[0].data


def test_only_the_case_that_differs_changes() -> None:
    text = "weight:\n  - {filter: role:attn, value: [0, 1]}  # eyes\n  - value: 0.5  # the rest\n"
    cases: Any = [{"filter": "role:attn", "value": [0, 1]}, {"value": 0.25}]
    assert set_value(text, ("weight",), cases).after == text.replace("0.5", "0.25")
    more: Any = [{"filter": "role:attn", "value": [0, 1]}, {"value": 0.5}, {"filter": "x", "value": 1}]
    assert set_value(text, ("weight",), more).after == text + "  - filter: x\n    value: 1\n"


def test_a_case_comes_between_others_that_stay() -> None:
    text = "weight:\n  - {filter: role:attn, value: 1}  # eyes\n  # the rest\n  - {value: 0.5}  # half\n"
    cases: Any = [
        {"filter": "role:attn", "value": 1},
        {"filter": "role:mlp", "value": 0},
        {"value": [0, 1]},
    ]
    after = set_value(text, ("weight",), cases).after
    assert after == text.replace("  - {value: 0.5}", "  - {filter: role:mlp, value: 0}\n  - {value: [0, 1]}")
    assert set_value(after, ("weight",), [cases[0], {"value": 0.5}]).after == text


def test_comments_between_cases_stay_when_one_number_is_left() -> None:
    cases = "  - {filter: role:attn, value: 1}\n  # the rest\n  - value: 0.5  # half\n"
    text = f"weight:  # by hand\n{cases}dtype: float32\n"
    after = set_value(text, ("weight",), 0.5).after
    assert after == "weight: 0.5\n# by hand\n# the rest\n# half\ndtype: float32\n"


def test_the_first_parameter_of_all_comes_behind_the_models() -> None:
    after = set_parameter(TIES, "normalize", False).after
    assert changed(TIES, after) == ["+ parameters: {normalize: false}"]
    assert "half\nparameters: {normalize: false}\ndtype" in after
    assert remove_parameter(after, "normalize").after == TIES


def test_a_default_is_inserted_only_where_nothing_is_written() -> None:
    assert set_parameter(TIES, "density", 1.0, ("models", 0), only=True).after == TIES.replace(
        "{weight: 0.5}", "{weight: 0.5, density: 1.0}"
    )
    assert set_parameter(TIES, "weight", 1.0, ("models", 0), only=True).after == TIES


def test_models_come_and_go() -> None:
    after = add_model(TIES, {"model": "./poems", "parameters": {"weight": 0.5}}).after
    assert changed(TIES, after) == ["+ - model: ./poems", "+   parameters: {weight: 0.5}"]
    assert remove_model(after, ("models", 2)).after == TIES
    without = remove_model(TIES, ("models", 0)).after
    assert changed(TIES, without) == [
        "- - model: ./code       # writes Python",
        "-   parameters: {weight: 0.5}",
    ]
    short = "models: [{model: a}, {model: b}]\n"
    assert add_model(short, {"model": "c"}).after == "models: [{model: a}, {model: b}, {model: c}]\n"
    lines = "models:\n  - {model: a}\n"
    assert add_model(lines, {"model": "c"}).after == lines + "  - {model: c}\n"
    assert (
        insert_item(lines, ("models", 0), {"model": "c"}).after == "models:\n  - {model: c}\n  - {model: a}\n"
    )


def test_a_config_is_composed_from_nothing() -> None:
    text = set_key("# mine\n", "merge_method", "linear").after
    text = add_model(text, {"model": "./a"}).after
    text = add_model(text, {"model": "./b c"}).after
    text = set_parameter(text, "weight", 0.5).after
    text = set_key(text, "base_model", "./base").after
    text = set_key(text, "tokenizer", {"source": "union"}).after
    text = set_key(text, "dtype", "float16").after
    assert text == (
        "# mine\nmerge_method: linear\nbase_model: ./base\nmodels:\n  - model: ./a\n  - model: ./b c\n"
        "parameters: {weight: 0.5}\ntokenizer: {source: union}\ndtype: float16\n"
    )


def test_keys_of_the_top_change_and_keep_their_quotes() -> None:
    text = "merge_method: 'ties'\nbase_model: \"./a\"  # a\n"
    assert set_key(text, "merge_method", "dare_ties").after == text.replace("ties", "dare_ties")
    assert set_key(text, "base_model", "it's").after == text.replace("./a", "it's")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_ends_stay_as_they_are(ending: str) -> None:
    text = TIES.replace("\n", ending)
    after = set_parameter(text, "lambda", 0.5).after
    assert after.count("\n") == after.count(ending) == TIES.count("\n") + 1


def test_a_text_of_aliases_is_written_out_only_where_it_changes() -> None:
    text = """\
x-half: &half {weight: 0.5}
models:
  - {model: a, parameters: *half}
  - {model: b, parameters: *half}
"""
    assert set_parameter(text, "weight", 1, ("models", 0)).after == text.replace("*half}", "{weight: 1}}", 1)
    assert set_parameter(text, "density", 1, ("models", 1)).after == text.replace(
        "{model: b, parameters: *half}", "{model: b, parameters: {weight: 0.5, density: 1}}"
    )


def test_what_is_merged_stays_and_is_written_over() -> None:
    text = "x-all: &all {weight: 0.5, density: 1}\nparameters:\n  <<: *all\n  lambda: 1\n"
    after = set_parameter(text, "weight", 0.25).after
    assert after == text + "  weight: 0.25\n"
    assert parse_documents(after)[0].data["parameters"] == {"weight": 0.25, "density": 1, "lambda": 1}
    with pytest.raises(ConfigError, match="'<<' brings it"):
        remove_parameter(text, "weight")
    deep = "x-a: &a {parameters: {weight: 0.5, density: 1}}\nmodels:\n  - <<: *a\n    model: b\n"
    after = set_parameter(deep, "weight", 2, ("models", 0)).after
    assert after == deep + "    parameters: {weight: 2, density: 1}\n"


def test_each_of_several_documents_is_edited_alone() -> None:
    text = "name: one\nweight: 1\n---\n# two\nweight: 1  # here\n...\n---\nweight: 1\n"
    after = set_value(text, ("weight",), 2, 1).after
    assert after == text.replace("1  # here", "2  # here")
    assert set_value(text, ("density",), 2, 0).after == text.replace("1\n---\n#", "1\ndensity: 2\n---\n#")


def test_a_page_asks_for_several_changes_at_once() -> None:
    asked = [
        Change(op="set", path=("merge_method",), value="linear"),
        Change(op="append", path=("models",), value={"model": "a"}),
        Change(op="insert", path=("models", 0), value={"model": "b"}),
        Change(op="set", path=("seed",), value=3),
        Change(op="remove", path=("models", 1)),
    ]
    edit = edited("", asked)
    assert edit.after == "merge_method: linear\nmodels:\n  - model: b\nseed: 3\n"
    text = ""
    for splice in edit.splices:
        text = splice.apply(text)
    assert text == edit.after
    assert edited(edit.after, []).after == edit.after


def test_a_text_with_letters_that_do_not_show_is_written_so_that_it_can_be_read() -> None:
    for value in ("\x7f", "\u2028\x85", "\x00", "\U000e0001", "😀\t"):
        after = set_value("a: 1\n", ("a",), value).after
        assert after.isascii() or "😀" in after
        assert parse_documents(after)[0].data == {"a": value}


REFUSED: list[tuple[str, Any, str]] = [
    ("a: 1\n", lambda text: set_value(text, ("b", 0), 1), "there is no item 0"),
    ("a: [1]\n", lambda text: set_value(text, ("a", 3), 1), "there is no item 3 to change"),
    ("a: 1\n", lambda text: set_value(text, ("a", "b"), 1), "'b' would stand in what is not a mapping"),
    ("a: 1\n", lambda text: set_value(text, (), [1]), "a config must be a mapping"),
    ("a: 1\n", lambda text: set_value(text, ("a",), 1, 1), "there is no document 2"),
    ("a: 1\n", lambda text: set_value(text, ("a",), float("inf")), "inf cannot be written in a config"),
    ("a: 1\n", lambda text: remove(text, ()), "there is nothing to remove"),
    ("a: 1\n", lambda text: remove(text, ("b",)), "there is no 'b' to remove"),
    ("a: 1\n", lambda text: remove(text, ("a",)), "nothing else would be left"),
    ("a: 1\n", lambda text: insert_item(text, ("a", 0), 1), "there is no such place in a list"),
    ("a: &x {b: 1, c: 2}\nd: *x\n", lambda text: remove(text, ("d", "b")), "an alias or '<<' brings it"),
    ("a: &x 1\nd: *x\n", lambda text: set_value(text, ("a",), 2), "'\\*x' repeats it elsewhere"),
    ("a: &x {b: 1}\nd: *x\n", lambda text: set_value(text, ("a", "c"), 2), "'\\*x' repeats it elsewhere"),
    ("a: [1, # c\n  2]\n", lambda text: set_value(text, ("a",), 2), "there are comments in it"),
    ("a: | # c\n  x\nb: 1\n", lambda text: set_value(text, ("a",), 2), "a comment would be lost"),
    ("a: |\n  x\nb: 1\n", lambda text: set_value(text, ("a",), [{}, {}]), "it is a text of several lines"),
    ("- a\n", lambda text: set_value(text, ("a",), 2), "a config must be a mapping of keys"),
    (
        "a:\n  - b: 1\n    # c\n    d: 1\n",
        lambda text: remove(text, ("a", 0, "b")),
        "a comment stands between it and the next one",
    ),
    ("? a\n: 1\nb: 2\n", lambda text: remove(text, ("a",)), "the result would not be what is meant"),
    ("<<: {b: 1}\na: 1\n", lambda text: set_value(text, (), {"c": 1}), "it is the whole document"),
]


@pytest.mark.parametrize(("text", "change", "why"), REFUSED, ids=[why for _, _, why in REFUSED])
def test_what_would_do_damage_is_refused_with_a_reason(text: str, change: Any, why: str) -> None:
    with pytest.raises(MergecoreError, match=why) as caught:
        change(text)
    if isinstance(caught.value, ConfigError) and caught.value.code == "E120" and "inf" not in why:
        assert str(caught.value).startswith("this cannot be changed here: ")
        assert caught.value.hint == "change the text by hand"


def test_the_hint_for_a_number_that_is_not_finite() -> None:
    with pytest.raises(ConfigError) as caught:
        set_value("a: 1\n", ("a",), float("nan"))
    assert caught.value.hint == "use a finite number"
