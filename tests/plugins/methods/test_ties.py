"""TIES: trim, elect, average what agrees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from task_vectors import GOLDEN_WEIGHTS, close, golden, merged
from tiny import write_checkpoint

import mergecore
from mergecore.errors import InputError
from mergecore.types import Json

FOUR = [4.0, 1, -3, 0.5], [2.0, -2, 1, 0.5]
"""Trimmed to two of four: 4 . -3 . and 2 -2 . ."""


def test_what_is_left_and_agrees_is_averaged() -> None:
    assert merged("ties", *FOUR, weight=1, density=0.5).tolist() == [3, -2, -3, 0]


def test_weights_count_in_the_election_and_in_the_average() -> None:
    """(4 + 6) / 4; 1 against -6: -6 / 3; -3 against 3 elects plus: 3 / 3; 0.5 + 1.5 over 4."""
    assert merged("ties", *FOUR, weight=[1, 3]).tolist() == [2.5, -2, 1, 0.5]


def test_without_normalize_the_weighted_sum_is_taken_and_lambda_scales_it() -> None:
    options = {"weight": [1, 3], "normalize": False, "lambda": 2}
    assert merged("ties", *FOUR, **options).tolist() == [20, -12, 6, 4]


def test_rescale_restores_the_norm_of_each_task_vector() -> None:
    """8.5 / 7 times 4 . -3 ., and 5.5 / 4 times 2 -2 . .; no two agree but at the first place."""
    result = merged("ties", *FOUR, weight=1, density=0.5, rescale=True)
    assert result.tolist() == pytest.approx([(4 * 8.5 / 7 + 2 * 5.5 / 4) / 2, -2 * 5.5 / 4, -3 * 8.5 / 7, 0])


def test_a_density_keeps_at_least_one_entry_unless_it_is_0() -> None:
    assert merged("ties", [1.0, -5, 2], weight=1, density=0.01).tolist() == [0, -5, 0]
    assert merged("ties", [1.0, -5, 2], weight=1, density=0).tolist() == [0, 0, 0]


def test_of_equal_magnitudes_the_first_are_kept() -> None:
    assert merged("ties", [1.0, -1, 1, -1, 1], weight=1, density=0.6).tolist() == [1, -1, 1, 0, 0]


GOLDEN = [
    (
        {"density": 0.5},
        "0.555278 0.258467 -0.175782 -0.397116 -0.383424 -0.320817 "
        "0.253931 0.549143 0.361841 -0.163076 -0.414229 -0.395029",
    ),
    (
        {"density": 0.5, "normalize": False, "lambda": 2.0},
        "0.544223 0.258467 -0.163346 -0.397116 -0.396415 -0.320817 "
        "0.266614 0.549143 0.350308 -0.163076 -0.414229 -0.404943",
    ),
]


@pytest.mark.parametrize(("options", "digits"), GOLDEN)
def test_golden_numbers_come_out(options: dict[str, float], digits: str) -> None:
    base, deltas = golden()
    assert close(merged("ties", *deltas, base=base, weight=GOLDEN_WEIGHTS, **options), digits)


def test_a_number_that_is_not_finite_is_counted_once(tmp_path: Path) -> None:
    """The first element is in the sample that the search for the cut begins with."""
    for model in ("base", "a"):
        tensors = {"model.layers.0.w": torch.randn(400, 300, generator=torch.Generator().manual_seed(0))}
        tensors["model.layers.0.w"][0, 0] = float("nan" if model == "a" else 0)
        write_checkpoint(tmp_path / model, tensors)
    config: dict[str, Json] = {
        "merge_method": "ties",
        "base_model": str(tmp_path / "base"),
        "models": [{"model": str(tmp_path / "a"), "parameters": {"weight": 1, "density": 0.5}}],
    }
    with pytest.raises(InputError, match="1 value is not finite") as caught:
        mergecore.merge(config, tmp_path / "out")
    assert caught.value.code == "E234"
