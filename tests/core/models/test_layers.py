"""Stacks of layers by name alone, and the keys that count them."""

from __future__ import annotations

import pytest

from mergecore.models.layers import find_stacks, layer_counts, split_name
from mergecore.types import Json, Stack


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("model.layers.31.mlp.experts.7.w1", ("model.layers.", 31, "mlp.experts.7.w1")),
        ("0.weight", ("", 0, "weight")),
        ("h.0.ln_1.bias", ("h.", 0, "ln_1.bias")),
        ("model.norm.weight", None),
        ("block1.weight", None),
        ("scales.3", None),  # nothing follows the number
        ("layers.007.w", None),  # no number as Python writes it
        ("layers.12345678901.w", None),
        ("a.01.b.2.w", ("a.01.b.", 2, "w")),
        ("a..3.w", None),
    ],
)
def test_the_first_whole_number_in_a_name_is_its_layer(name: str, parts: tuple[str, int, str] | None) -> None:
    assert split_name(name) == parts


def test_stacks_come_in_order_of_appearance_and_have_no_gaps() -> None:
    names = ["b.1.x", "a.0.x", "b.0.x", "b.0.y", "head.0.x", "head.2.x", "c.1.x", "norm.weight"]
    assert find_stacks(names) == (Stack("b.", 2), Stack("a.", 1))


def test_counts_of_the_text_model_come_first() -> None:
    config: dict[str, Json] = {
        "num_layers": 3,
        "n_layer": True,
        "vision_config": {"depth": 5},
        "thinker": {"text_config": {"num_hidden_layers": 7}},
    }
    assert list(layer_counts(config)) == [
        (("thinker", "text_config", "num_hidden_layers"), 7),
        (("num_layers",), 3),
        (("vision_config", "depth"), 5),
    ]
