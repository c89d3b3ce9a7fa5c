"""RAM+: what a model changes alone is amplified."""

from __future__ import annotations

import pytest
import torch
from merging import golden_models, merge, normal, params_of
from pydantic import ValidationError
from task_vectors import close

ZERO = torch.zeros(5)
FIRST = [1.0, 2, 2, 0, 0]
SECOND = [3.0, 0, 0, 4, 0]


def test_what_is_changed_alone_is_amplified_by_the_ratio_of_shared_to_own_elements() -> None:
    """Each shares one element; the first has two of its own, the second one: 1 + 0.5 · 1/2 and 1 + 0.5 · 1."""
    merged = merge("ramplus_tl", FIRST, SECOND, base=ZERO, r=0.5, alpha=1)
    assert merged.tolist() == [2, 2.5, 2.5, 6, 0]


def test_alpha_limits_the_ratio() -> None:
    """1 + 1 · 0.25 for both."""
    merged = merge("ramplus_tl", FIRST, SECOND, base=ZERO, r=1, alpha=0.25)
    assert merged.tolist() == [2, 2.5, 2.5, 5, 0]


def test_a_model_without_elements_of_its_own_has_nothing_to_amplify() -> None:
    merged = merge("ramplus_tl", [1.0, 2], [3.0, 4], base=torch.zeros(2), r=5, alpha=5)
    assert merged.tolist() == [2, 3]


def test_without_amplification_it_is_ram() -> None:
    models = [normal(300, seed=seed) * (normal(300, seed=seed + 9) > 0) for seed in range(3)]
    base = normal(300, seed=5)
    options = {"base": base, "epsilon": 0.2}
    assert torch.equal(merge("ramplus_tl", *models, r=0, **options), merge("ram", *models, **options))  # type: ignore[arg-type]  # mixed


def test_the_golden_row() -> None:
    base, *models = golden_models(0, 1, 2, 3)
    digits = (
        "0.507083 0.310385 -0.120576 -0.449819 -0.441976 -0.163120 "
        "0.311940 0.505190 0.308227 -0.128077 -0.457992 -0.437666"
    )
    assert close(merge("ramplus_tl", *models, base=base), digits)


@pytest.mark.parametrize("name", ["alpha", "epsilon"])
def test_limits_are_not_negative(name: str) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        params_of("ramplus_tl", **{name: -0.1})
