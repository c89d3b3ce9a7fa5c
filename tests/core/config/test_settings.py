"""Settings: gradients, cases with filters, and what is no setting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergecore.config.parameters.settings import parse_setting, value_at
from mergecore.errors import ConfigError
from mergecore.files.yaml_document import parse_document
from mergecore.types import Json

Q0 = "model.layers.0.self_attn.q_proj.weight"
UP1 = "model.layers.1.mlp.up_proj.weight"


def chosen(raw: Json, name: str, role: str = "") -> object:
    case = parse_setting(raw, "weight").case_for(name, role)
    return None if case is None else case.knots


# ---- gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knots", "t", "value"),
    [
        ([0, 1, 5], 0.75, 3.0),  # s = 1.5, halfway from 1 to 5
        ([7], 0.3, 7.0),
        ([0, 1, 5], 1.0, 5.0),
        ([0, 1, 5], 0.0, 0.0),
        ([0.25, 1], 1.0, 1.0),
        ([0, 9], 1 / 3, 3),
    ],
)
def test_numbers_are_interpolated_linearly(knots: list[float], t: float, value: float) -> None:
    assert value_at(knots, t) == value


def test_anything_else_changes_in_steps_and_reaches_the_last_at_the_end_only() -> None:
    assert [value_at([True, False], k / 9) for k in range(10)] == [True] * 9 + [False]
    assert [value_at(["a", "b", "c"], t) for t in (0, 0.4, 0.5, 0.9, 1)] == ["a", "a", "b", "b", "c"]


def test_as_many_steps_as_layers_give_each_layer_its_own() -> None:
    names = [f"x{k}" for k in range(50)]
    assert [value_at(names, k / 49) for k in range(50)] == names


def test_whole_numbers_stay_whole_where_they_meet_one() -> None:
    values = [value_at([0, 10], k / 10) for k in range(11)]
    assert values == list(range(11))
    assert all(isinstance(value, int) for value in values)
    assert value_at([5, 10], 0.5) == 7.5


Knots = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6)
Position = st.floats(0, 1)


@given(Knots, Position)
def test_a_gradient_stays_between_its_neighbouring_knots(knots: list[float], t: float) -> None:
    low = int(t * (len(knots) - 1))
    around = knots[low : low + 2]
    value = value_at(knots, t)
    assert isinstance(value, float)
    assert min(around) <= value <= max(around)


@given(Knots)
def test_a_gradient_passes_through_its_ends(knots: list[float]) -> None:
    assert value_at(knots, 0.0) == knots[0]
    assert value_at(knots, 1.0) == knots[-1]


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=5), Position)
def test_a_gradient_read_backwards_is_the_gradient_of_the_reversed_knots(knots: list[int], t: float) -> None:
    there = value_at([float(knot) for knot in knots], t)
    back = value_at([float(knot) for knot in reversed(knots)], 1 - t)
    assert there == pytest.approx(back, abs=1e-8)


@given(st.floats(-100, 100), st.integers(1, 5), Position)
def test_equal_knots_are_a_constant(value: float, count: int, t: float) -> None:
    assert value_at([value] * count, t) == value


# ---- cases -------------------------------------------------------------------------------------------------


def test_a_scalar_and_a_list_are_for_every_tensor() -> None:
    assert chosen(0.5, Q0) == (0.5,)
    assert chosen([0, 1, "x"], UP1) == (0, 1, "x")


def test_the_first_case_that_matches_counts() -> None:
    raw: Json = [{"filter": "layers.1.", "value": 5}, {"filter": "self_attn", "value": 2}, {"value": 3}]
    assert chosen(raw, "model.layers.0.self_attn.q_proj.weight") == (2,)
    assert chosen(raw, "model.layers.1.self_attn.q_proj.weight") == (5,)
    assert chosen(raw, "model.norm.weight") == (3,)


def test_no_matching_case_and_an_empty_list_set_nothing() -> None:
    assert chosen([{"filter": "self_attn", "value": 2}], UP1) is None
    assert chosen([], UP1) is None
    assert chosen({"filter": "mlp", "value": []}, UP1) is None


def test_one_case_needs_no_list() -> None:
    assert chosen({"filter": "mlp", "value": [1, 2]}, UP1) == (1, 2)
    assert chosen({"value": 1}, Q0) == (1,)


@pytest.mark.parametrize(
    ("text", "name", "role", "matches"),
    [
        (None, UP1, "", True),
        ("*", UP1, "", True),
        ("mlp", UP1, "", True),
        ("MLP", UP1, "", False),
        ("*.mlp.*", UP1, "", False),
        ("glob:*.mlp.*", UP1, "", True),
        ("glob:mlp", UP1, "", False),
        ("re:layers\\.[1-3]\\.mlp", UP1, "", True),
        ("re:^mlp", UP1, "", False),
        ("role:mlp", UP1, "mlp.up", True),
        ("role:mlp.up", UP1, "mlp.up", True),
        ("role:ml", UP1, "mlp.up", False),
        ("role:attn.q", UP1, "mlp.up", False),
        ("role:norm", "model.norm.weight", "norm", True),
    ],
)
def test_filters_look_at_the_name_or_the_role(text: str | None, name: str, role: str, matches: bool) -> None:
    assert (chosen({"filter": text, "value": 1}, name, role) is not None) == matches


# ---- what is no setting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("weight:", "E104", r"c\.yml:1:8: parameter 'weight' has no value"),
        (
            "weight: [1, {value: 2}]",
            "E104",
            r"c\.yml:1:13: parameter 'weight': a list holds scalars, or mappings",
        ),
        ("weight: [{value: 2}, 1]", "E104", r"c\.yml:1:10: parameter 'weight': a list holds"),
        ("weight: [1, [2]]", "E104", r"c\.yml:1:13: parameter 'weight': a list holds"),
        ("weight: {value: {value: 1}}", "E104", r"c\.yml:1:17: .*cases do not nest"),
        ("weight: {filter: mlp}", "E104", r"c\.yml:1:9: parameter 'weight': the case has no 'value'"),
        (
            "weight: {filtr: mlp, value: 1}",
            "E103",
            r"unknown key 'filtr' in a case; did you mean 'filter'\?.*a case has 'filter' and 'value'",
        ),
        ("weight: {filter: 3, value: 1}", "E104", r"c\.yml:1:18: .*a filter must be a string, got 3"),
        ("weight: {filter: 're:(', value: 1}", "E105", r"c\.yml:1:18: .*'re:\(': not a regular expression"),
    ],
)
def test_what_is_no_setting_is_told_with_its_place(text: str, code: str, message: str) -> None:
    document = parse_document(text, "c.yml")
    with pytest.raises(ConfigError, match=message) as caught:
        parse_setting(document.data["weight"], "weight", ("weight",), document.place)
    assert caught.value.code == code
