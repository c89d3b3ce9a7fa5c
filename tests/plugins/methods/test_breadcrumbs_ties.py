"""Breadcrumbs with the election of TIES."""

from __future__ import annotations

import torch
from task_vectors import GOLDEN_WEIGHTS, close, golden, merged

FIVE = [1.0, 2, 3, 4, 9], [-9.0, -5, 6, 4, 1]
"""Without the largest, the three next: . 2 3 4 . and . -5 6 4 . with density 0.6, gamma 0.2."""


def test_what_has_the_sign_of_the_sum_is_added() -> None:
    result = merged("breadcrumbs_ties", *FIVE, weight=1, density=0.6, gamma=0.2)
    assert result.tolist() == [0, -5, 9, 8, 0]


def test_the_sum_is_divided_by_the_weights_that_agree() -> None:
    """3 · 2 > 5; (9 + 6) / 4; (12 + 4) / 4; lambda doubles."""
    options = {"weight": [3, 1], "density": 0.6, "gamma": 0.2, "normalize": True, "lambda": 2}
    assert merged("breadcrumbs_ties", *FIVE, **options).tolist() == [0, 4, 7.5, 8, 0]


def test_gamma_0_is_ties() -> None:
    x = torch.randn(3, 400, generator=torch.Generator().manual_seed(0))
    for more in ({"rescale": True}, {"normalize": True}):
        options = {"weight": [0.5, 0.3, 0.4], "density": 0.3, "normalize": False, **more}
        assert torch.equal(merged("breadcrumbs_ties", *x, gamma=0, **options), merged("ties", *x, **options))


def test_density_1_is_ties_without_trimming() -> None:
    x = torch.randn(3, 400, generator=torch.Generator().manual_seed(0))
    options = {"weight": [0.5, 0.3, 0.4], "normalize": False}
    assert torch.equal(merged("breadcrumbs_ties", *x, gamma=0.1, **options), merged("ties", *x, **options))


def test_golden_numbers_come_out() -> None:
    base, deltas = golden()
    result = merged("breadcrumbs_ties", *deltas, base=base, weight=GOLDEN_WEIGHTS, density=0.5, gamma=0.2)
    assert close(
        result,
        "0.522111 0.284636 -0.138474 -0.463287 -0.460863 -0.090930 "
        "0.317346 0.524536 0.327242 -0.157294 -0.434897 -0.409443",
    )
