"""Consensus task arithmetic: what too few models call important is not merged."""

from __future__ import annotations

import pytest
import torch
from task_vectors import merged, method_called

from mergecore import ConfigError

D = [4.0, 1, 3, 0], [1.0, 1, -2, 0], [-2.0, 1, -2, 0]
"""Sums 3 3 -1 0.  |d| > |sum - d| holds for 4>1 1<2 2<5; never, since 1<2; 3<4 2>1 2>1; never."""


@pytest.mark.parametrize(
    ("k", "kept"), [(0, [3, 3, -1, 0]), (1, [3, 0, -1, 0]), (2, [0, 0, -1, 0]), (3, [0] * 4)]
)
def test_the_sum_is_kept_where_k_models_call_it_important(k: int, kept: list[float]) -> None:
    assert merged("consensus_ta", *D, weight=1, k=k).tolist() == kept


def test_a_smaller_lambda_makes_more_places_important() -> None:
    """With 0.4: 4>0.4 1>0.8 2=2.0 fails; all three 1>0.8; 3>1.6 2>0.4 2>0.4."""
    assert merged("consensus_ta", *D, weight=1, k=3, **{"lambda": 0.4}).tolist() == [0, 3, -1, 0]


def test_each_model_may_have_its_lambda() -> None:
    """Only the first model is asked in earnest: 4>1, 1<2, 3<4, 0."""
    assert merged("consensus_ta", *D, weight=1, k=1, **{"lambda": [1, 99, 99]}).tolist() == [3, 0, 0, 0]


def test_the_sum_is_weighted_and_normalised_before_it_is_asked_about() -> None:
    """(2 · 3 + 1 · -3) / 3 = 1: 3 > 2 but 3 < 4.  (2 · 1 + 1 · 4) / 3 = 2: 1 = 1 fails, 4 > 2."""
    x = [3.0, 1], [-3.0, 4]
    assert merged("consensus_ta", *x, weight=[2, 1], normalize=True, k=1).tolist() == [1, 2]
    assert merged("consensus_ta", *x, weight=[2, 1], normalize=True, k=2).tolist() == [0, 0]


def test_a_single_model_gives_itself() -> None:
    base = torch.tensor([5.0, 6])
    assert merged("consensus_ta", [1.0, -2], base=base, weight=1).tolist() == [6, 4]


def test_more_votes_than_models_keep_nothing_and_are_refused() -> None:
    for name in ("consensus_ta", "consensus_ties"):
        method = method_called(name)
        assert method.check_params
        with pytest.raises(ConfigError, match="k is 3, and only 2 models are merged") as caught:
            method.check_params(method.params.model_validate({"weight": [1, 1], "k": 3}), 2)
        assert caught.value.code == "E105"
        assert caught.value.hint == "choose a k from 1 to 2"
