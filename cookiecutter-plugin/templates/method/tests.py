"""The method in numbers to check by hand, and what every method has to keep."""

import pytest
import torch
from mergecore import MergeMethod, Registry
from mergecore.testing import check_method, run_method

METHOD = Registry.discover().get(MergeMethod, "{{ cookiecutter.name }}")


def test_a_quarter_of_the_way_from_0_to_4_is_1() -> None:
    models = [torch.zeros(3), torch.full((3,), 4.0)]
    assert run_method(METHOD, METHOD.params(t=0.25), models).tolist() == [1, 1, 1]


def test_the_method_keeps_the_contract() -> None:
    check_method(METHOD, METHOD.params(), n=2)


def test_a_position_outside_of_the_line_is_refused() -> None:
    with pytest.raises(ValueError, match="less than or equal to 1"):
        METHOD.params(t=2)
