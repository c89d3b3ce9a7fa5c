"""The setting that gives tensors their values: worked out by hand for few tensors."""

from __future__ import annotations

import pytest

from mergecore import ConfigError
from mergecore.config import values_of
from mergecore_plugins.ui.grid.fitting import Wanted, setting


def layers(values: list[float], part: str = "mlp.up", role: str = "mlp.up") -> list[Wanted]:
    last = len(values) - 1
    return [Wanted(f"layers.{i}.{part}", role, i / last, one) for i, one in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 0.5, 0.5], 0.5),
        ([0, 0.25, 0.5, 0.75, 1], [0, 1]),
        ([0, 0.5, 1, 0.5, 0], [0, 1, 0]),
        ([0, 0.5, 1, 0.55, 0.1], [0, 1, 0.1]),
        ([0, 0.1, 1, 0.5, 0.1], [0, 0.1, 1, 0.5, 0.1]),
        ([1 / 3, 2 / 3, 1], [0.3333, 1]),
        ([-1e-5, 0, 1e-5], [-1e-05, 1e-05]),
    ],
)
def test_the_fewest_numbers_are_written(values: list[float], expected: object) -> None:
    assert setting(None, layers(values), len(values)) == expected


def test_whole_numbers_stay_whole() -> None:
    found = setting(None, layers([1.0, 2.0, 3.0]), 3, whole=True)
    assert found == [1, 3]
    assert values_of(found, "k", [("", "", 0.5)]) == [2]


def test_what_most_tensors_have_needs_no_filter() -> None:
    tensors = [*layers([0.5] * 3), *layers([0, 0, 0], "attn.q", "attn.q"), *layers([0.5] * 3, "x", "")]
    assert setting(None, tensors, 3) == [{"filter": "role:attn", "value": 0}, {"value": 0.5}]


def test_tensors_of_one_role_are_told_apart_by_their_names() -> None:
    tensors = [*layers([1] * 3, "a.weight", "mlp"), *layers([0] * 3, "b[1].weight", "mlp")]
    found = setting(None, tensors, 3)
    assert values_of(found, "weight", [one.known for one in tensors]) == [1, 1, 1, 0, 0, 0]
    assert {"filter": "glob:*.b[[]1].weight", "value": 0} in found  # type: ignore[operator]


def test_what_comes_from_elsewhere_stays_there() -> None:
    """The case covers one tensor; the other has its value from the parameters of all models."""
    tensors = [Wanted("a", "", 0, 1.0), Wanted("b", "", 0, None)]
    assert setting([{"filter": "a", "value": 0.5}], tensors, 1) == [{"filter": "a", "value": 1}]


def test_what_is_not_set_stays_so_beside_what_is_drawn() -> None:
    roles = [Wanted("a.1", "attn.q", 0, 1.0), Wanted("a.2", "attn.k", 1, 1.0), Wanted("b", "mlp", 0, None)]
    assert setting(None, roles, 2) == [{"filter": "role:attn", "value": 1}]
    names = [Wanted("a.1", "attn", 0, 1.0), Wanted("a.2", "attn", 1, None)]
    assert setting(None, names, 2) == [{"filter": "glob:a.1", "value": 1}]


def test_two_values_for_one_tensor_cannot_be_written() -> None:
    twice = [Wanted("a", "mlp", 0.0, 1.0), Wanted("a", "mlp", 0.0, 2.0)]
    with pytest.raises(ConfigError, match="no setting gives exactly these values") as caught:
        setting(None, twice, 1)
    assert caught.value.hint == "write the cases by hand, with filters"
