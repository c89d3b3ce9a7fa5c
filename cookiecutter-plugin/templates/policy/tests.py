"""The policy in numbers to check by hand, and what every policy has to keep."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mergecore import Policy, Registry, with_coefficients
from mergecore.testing import check_policy

POLICY = Registry.discover().get(Policy, "{{ cookiecutter.name }}")


def test_a_third_model_counts_a_quarter(tiny_models: Callable[..., list[Path]]) -> None:
    models = [{"model": str(one)} for one in tiny_models(3)]
    config = {"merge_method": "linear", "models": models, "parameters": {"weight": 1}}
    chosen, _ = with_coefficients(config, POLICY.name, factor=0.5)
    assert [one["parameters"]["weight"] for one in chosen["models"]] == [1, 0.5, 0.25]


def test_the_policy_keeps_the_contract() -> None:
    check_policy(POLICY)


def test_a_factor_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        POLICY.params(factor=0)
