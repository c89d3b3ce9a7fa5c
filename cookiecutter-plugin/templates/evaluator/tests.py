"""What it says of a model whose weights are known, and what every evaluator has to keep."""

from collections.abc import Callable
from pathlib import Path

from mergecore import Evaluator, Registry
from mergecore.testing import check_evaluator

EVALUATOR = Registry.discover().get(Evaluator, "{{ cookiecutter.name }}")


def test_the_evaluator_keeps_the_contract() -> None:
    check_evaluator(EVALUATOR)


def test_the_evaluator_keeps_the_contract_for_zeros(tiny_models: Callable[..., list[Path]]) -> None:
    [zeros] = tiny_models(1, value=0.0)
    check_evaluator(EVALUATOR, params={"below": 0.5}, model=zeros)
