"""What `!range` and `!choice` mean, and what is wrong with them, with the place."""

# ruff: noqa: E501 - a row of a table is a line

from __future__ import annotations

from pathlib import Path

import pytest

from mergecore.errors import MergecoreError, Problems
from mergecore.files import SEARCHED, parse_documents
from mergecore.types import Interval, Options, Point
from mergecore_plugins.search.space.ranges import Space, space_of, tidied
from mergecore_plugins.search.space.reading import read_search


def space(text: str) -> Space:
    return space_of(parse_documents(text, "s.yml", tags=SEARCHED))


def value_at(text: str, point: Point, key: str = "x") -> object:
    return space(text).documents_at(point)[0].data[key]


def refused(text: str) -> list[str]:
    with pytest.raises(MergecoreError) as caught:
        space(text)
    errors = caught.value.errors if isinstance(caught.value, Problems) else (caught.value,)
    return [f"{one.code} {one}" for one in errors]


def test_a_range_is_a_number_between_two_ends() -> None:
    assert space("x: !range [0.1, 0.9]\n").dimensions == (Interval(name="x", low=0.1, high=0.9),)
    assert value_at("x: !range [0.1, 0.9]\n", {"x": 0.5}) == 0.5
    long = space(
        "x: !range {low: 1, high: 9, step: 2, int: true, name: n}\ny: !range {low: 0.1, high: 1, log: true}\n"
    )
    assert long.dimensions == (
        Interval(name="n", low=1, high=9, step=2, whole=True),
        Interval(name="y", low=0.1, high=1, log=True),
    )


def test_a_range_for_each_group_of_layers_is_a_gradient() -> None:
    text = "x: !range {low: 0, high: 1, per: layer_group, groups: 3}\n"
    assert [one.name for one in space(text).dimensions] == ["x[0]", "x[1]", "x[2]"]
    assert value_at(text, {"x[0]": 0.1, "x[1]": 0.2, "x[2]": 0.3}) == [0.1, 0.2, 0.3]
    assert len(space("x: !range {low: 0, high: 1, per: layer_group}\n").dimensions) == 4


def test_a_range_for_each_role_is_a_list_of_filters() -> None:
    text = "x: !range {low: 0, high: 1, per: [role, layer_group], groups: 2, roles: [mlp]}\n"
    point = {"x[0].mlp": 0.1, "x[1].mlp": 0.2, "x[0].rest": 0.3, "x[1].rest": 0.4}
    assert value_at(text, point) == [{"filter": "role:mlp", "value": [0.1, 0.2]}, {"value": [0.3, 0.4]}]
    three = space("x: !range {low: 0, high: 1, per: role}\n").dimensions
    assert [one.name for one in three] == ["x.attn", "x.mlp", "x.rest"]


def test_a_choice_takes_values_of_any_kind_and_holds_ranges() -> None:
    text = "x: !choice [ties, {d: !range [0, 1]}, [1, 2]]\n"
    assert space(text).dimensions == (Options(name="x", count=3), Interval(name="x[1].d", low=0, high=1))
    assert value_at(text, {"x": 0, "x[1].d": 0.5}) == "ties"
    assert value_at(text, {"x": 1, "x[1].d": 0.5}) == {"d": 0.5}
    assert value_at(text, {"x": 2, "x[1].d": 0.5}) == [1, 2]
    named = "x: !choice {options: [a, {d: !range [0, 1]}], name: m}\n"
    assert value_at(named, {"m": 1, "x.options[1].d": 0.5}) == {"d": 0.5}
    assert space(text).shown({"x": 2, "x[1].d": 0.5}) == {"x": "[1, 2]", "x[1].d": 0.5}


def test_equal_names_and_aliases_are_one_value() -> None:
    text = "x: &w !range [0, 1]\ny: *w\nz: !range {low: 0, high: 2, name: n}\nv: !range {low: 0, high: 2, name: n}\n"
    found = space(text)
    assert [one.name for one in found.dimensions] == ["x", "n"]
    (document,) = found.documents_at({"x": 0.25, "n": 1.5})
    assert document.data == {"x": 0.25, "y": 0.25, "z": 1.5, "v": 1.5}
    coupled = space("a: !choice {options: [ties, slerp], name: m}\nb: !choice {options: [1, 2], name: m}\n")
    assert coupled.documents_at({"m": 1})[0].data == {"a": "slerp", "b": 2}


def test_values_without_a_name_are_called_after_their_model() -> None:
    text = """
models:
- {model: ./m/code, parameters: {weight: !range [0, 1], density: !range [0, 1]}}
- {model: org/code, parameters: {weight: !range [0, 1]}}
parameters: {lambda: !range [0, 1]}
"""
    names = [one.name for one in space(text).dimensions]
    assert names == ["code.weight", "code.density", "models[1].weight", "lambda"]


def test_numbers_are_written_with_six_digits_and_on_their_steps() -> None:
    dimensions = (
        Interval(name="a", low=0, high=1),
        Interval(name="b", low=0.1, high=0.95, step=0.2),
        Interval(name="c", low=1, high=9, whole=True),
    )
    assert tidied(dimensions, {"a": 1 / 3, "b": 0.94, "c": 3.0}) == {"a": 0.333333, "b": 0.9, "c": 3}


def test_ends_reach_both_ends_of_every_range_and_every_option() -> None:
    text = "x: !range {low: 1, high: 4, log: true}\ny: !choice [a, b, c]\nz: !range {low: 0, high: 1, per: layer_group, groups: 2}\n"
    found = [(name, space(text).documents_at(point)[0].data) for name, point in space(text).ends()]
    assert found[0] == ("", {"x": 2, "y": "a", "z": [0.5, 0.5]})
    assert [one["x"] for name, one in found if name == "x"] == [1, 4]
    assert [one["y"] for name, one in found if name == "y"] == ["a", "b", "c"]
    assert [one["z"] for name, one in found if name == "z[0]"] == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("!range [1]", "E104 s.yml:1:4: a range has two ends; this list has 1 values. Hint: write `!range [0.1, 0.9]`"),
        ("!range 3", "E104 s.yml:1:4: a range has two ends; this is '3'"),
        ("!range [0, a]", "E104 s.yml:1:4: 'high' of a range is 'a'; a number is expected"),
        ("!range [true, 2]", "E104 s.yml:1:4: 'low' of a range is True; a number is expected"),
        ("!range {low: 0}", "E104 s.yml:1:4: 'high' of a range is None; a number is expected"),
        ("!range [1, 1]", "E104 s.yml:1:4: the range from 1 to 1 holds nothing. Hint: write the smaller end first"),
        ("!range {low: 0, high: 1, log: true}", "a range with 'log' begins at 0, which has no logarithm. Hint: begin above 0"),
        ("!range {low: 0, high: 1, log: 3}", "'log' of a range is 3; true or false is expected. Hint: write 'log: true'"),
        ("!range {low: 0, high: 1, step: 2}", "the step 2 does not fit into the range. Hint: take a step that fits"),
        ("!range {low: 1, high: 2, log: true, step: 1}", "'log' and 'step' exclude each other. Hint: keep one of them"),
        ("!range {low: 0.5, high: 2, int: true}", "a range with 'int' has ends that are no whole numbers. Hint: write whole numbers"),
        ("!range {low: 0, high: 2, int: true, per: role}", "'int' and 'per' exclude each other: values between groups are no whole numbers. Hint: leave 'int' or 'per' out"),
        ("!range {low: 0, hihg: 1}", "E103 s.yml:1:4: a range has no key 'hihg'; did you mean 'high'? Hint: there are low, high, log"),
        ("!range {low: 0, high: 1, per: layers}", "a range is for each layer_group or role; 'per' is 'layers'"),
        ("!range {low: 0, high: 1, per: 3}", "Hint: write 'per: layer_group', 'per: role' or 'per: [role, layer_group]'"),
        ("!range {low: 0, high: 1, groups: 3}", "'groups' has no effect without 'per: layer_group'. Hint: add that, or leave it out"),
        ("!range {low: 0, high: 1, per: layer_group, groups: 1}", "'groups' is 1; a whole number from 2 to 64 is expected. Hint: write 'groups: 4'"),
        ("!range {low: 0, high: 1, roles: [mlp]}", "'roles' has no effect without 'per: role'. Hint: add that, or leave it out"),
        ("!range {low: 0, high: 1, per: role, roles: 3}", "'roles' is 3; a list of roles is expected. Hint: write 'roles: [attn, mlp]'"),
        ("!range {low: 0, high: 1, name: 3}", "the name 3 is not text. Hint: write such as 'name: shared'"),
        ("!range [0, !range [1, 2]]", "E104 s.yml:1:15: a range cannot hold another one. Hint: write numbers in it"),
        ("!choice [a]", "a choice is a list of two values or more. Hint: write `!choice [ties, dare_ties]`"),
        ("!choice 3", "a choice is a list of two values or more"),
        ("!choice [a, b, a]", "a choice lists 'a' twice. Hint: list each value once"),
        ("!choice {option: [a, b]}", "a choice has no key 'option'; did you mean 'options'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_range_is_said_at_its_place(value: str, said: str) -> None:
    found = refused(f"x: {value}\n")
    assert any(said in one for one in found), found


def test_ranges_of_one_name_are_one() -> None:
    (found,) = refused("x: !range {low: 0, high: 1, name: n}\ny: !range {low: 0, high: 2, name: n}\n")
    assert found == (
        "E104 s.yml:2:4: 'n' is another range at s.yml:1:4; ranges of one name have one value. "
        "Hint: write the same range, or another name"
    )


def test_all_errors_are_said_together(tmp_path: Path) -> None:
    file = tmp_path / "s.yml"
    file.write_text("x: !range [1]\ny: !choice [a]\nsearch: {trails: 3, objectives: []}\n")
    with pytest.raises(Problems) as caught:
        read_search(file)
    places = {one.place.line for one in caught.value.errors if one.place}  # type: ignore[union-attr]
    assert places == {1, 2, 3}


OBJECTIVES = "objectives: [{evaluator: perplexity}]"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("search: 3", "{f}:2:9: 'search' is 3; a mapping is expected. Hint: write 'search: {{trials: 60, …}}'"),
        (f"search: {{{OBJECTIVES}}}", "'search' says neither 'trials' nor 'time'. Hint: write 'trials: 60', or 'time: 2h'"),
        ("search: {trials: 3}", "{f}:2:9: 'objectives' of 'search' is missing. Hint: `mergecore search --help` shows an example"),
        (f"search: {{trails: 3, {OBJECTIVES}}}", "{f}:2:10: unknown key 'trails' in 'search'; did you mean 'trials'? Hint: there are sampler, trials"),
        (f"search: {{time: long, {OBJECTIVES}}}", "'time' of 'search': a time is written such as 90m, 2h or 1d"),
        (f"search: {{trials: 0, {OBJECTIVES}}}", "'trials' of 'search': input should be greater than or equal to 1"),
        ("search: {trials: 1, objectives: [{evaluator: a, weight: 1}, {evaluator: b}]}", "some objectives have a weight and some have none; give one to each, or to none"),
        ("search: {trials: 1, objectives: [{evaluator: a}], holdout: [{x: 1}, {x: 2}]}", "'holdout' has 2 entries for 1 objectives; write one for all, or one for each"),
        ("search: {trials: !range [1, 2], objectives: [{evaluator: a}]}", "a range cannot stand in 'search', which says how to search. Hint: write one value"),
        (f"search: {{trials: 1, {OBJECTIVES}}}\n---\nsearch: {{}}", "'search' stands in two documents; one says how all of them are searched. Hint: keep one"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_section_is_said_at_its_place(tmp_path: Path, section: str, said: str) -> None:
    file = tmp_path / "s.yml"
    file.write_text(f"x: !range [0, 1]\n{section}\n")
    with pytest.raises(MergecoreError) as caught:
        read_search(file)
    assert said.format(f=file) in str(caught.value)


def test_a_config_without_ranges_is_merged_not_searched(tmp_path: Path) -> None:
    file = tmp_path / "s.yml"
    file.write_text(f"x: 1\nsearch: {{trials: 3, {OBJECTIVES}}}\n")
    with pytest.raises(
        MergecoreError, match="nothing in this config is a range, so there is nothing to search"
    ) as caught:
        read_search(file)
    assert caught.value.hint == "write such as 'weight: !range [0.1, 0.9]', or run `mergecore merge`"


def test_the_section_says_what_the_command_line_does_not(tmp_path: Path) -> None:
    file = tmp_path / "s.yml"
    file.write_text(f"x: !range [0, 1]\nsearch: {{trials: 3, time: 1.5h, sampler: cma, {OBJECTIVES}}}\n")
    section = read_search(file, {"trials": 7, "sampler": "tpe"}).section
    assert (section.trials, section.time, section.sampler.name, section.batch) == (7, 5400.0, "tpe", 4)
