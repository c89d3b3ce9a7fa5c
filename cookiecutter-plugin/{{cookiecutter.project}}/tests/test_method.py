"""The method in numbers to check by hand, and what every method has to keep."""

import pytest
import torch
from mergecore import MergeMethod, Registry
from mergecore.testing import check_method, run_method

from {{ cookiecutter.module }} import {{ cookiecutter.__params }}

METHOD = Registry.discover().get(MergeMethod, "{{ cookiecutter.method }}")


def test_a_quarter_of_the_way_from_0_to_4_is_1() -> None:
    models = [torch.zeros(3), torch.full((3,), 4.0)]
    merged = run_method(METHOD, {{ cookiecutter.__params }}(t=0.25), models)
    assert merged.tolist() == [1, 1, 1]


def test_the_method_keeps_the_contract() -> None:
    check_method(METHOD, {{ cookiecutter.__params }}(), n=2)


def test_a_position_outside_of_the_line_is_refused() -> None:
    with pytest.raises(ValueError, match="less than or equal to 1"):
        {{ cookiecutter.__params }}(t=2)
