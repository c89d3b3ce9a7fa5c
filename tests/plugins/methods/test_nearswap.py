"""NearSwap: small differences are taken over, large ones limited."""

from __future__ import annotations

import pytest
import torch
from merging import golden_models, merge, params_of
from pydantic import ValidationError
from task_vectors import close


def test_differences_up_to_t_are_taken_over_and_larger_ones_limited() -> None:
    """Differences 0.25, -0.25, 1, -3 and 0, and t is 0.5."""
    merged = merge("nearswap", [1.25, 0.75, 2, -2, 1], base=[1.0, 1, 1, 1, 1], t=0.5)
    assert merged.tolist() == [1.25, 0.75, 1.5, 0.5, 1]


def test_the_golden_row() -> None:
    base, model = golden_models(0, 1)
    digits = (
        "0.523506 0.280805 -0.123620 -0.422036 -0.452513 -0.135398 "
        "0.335358 0.529929 0.274176 -0.151772 -0.425565 -0.414596"
    )
    assert close(merge("nearswap", model, base=base, t=0.03), digits)


def test_a_difference_of_t_is_taken_over_whole() -> None:
    assert merge("nearswap", [1.5], base=[1.0], t=0.5).tolist() == [1.5]


def test_a_large_t_gives_the_other_model() -> None:
    base, model = golden_models(0, 1)
    assert torch.allclose(merge("nearswap", model, base=base, t=10), model, rtol=0, atol=1e-7)


@pytest.mark.parametrize("t", [0, -0.1])
def test_t_is_above_zero(t: float) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        params_of("nearswap", t=t)
