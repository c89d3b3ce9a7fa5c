"""What it asks for in a search to check by hand, and what every sampler has to keep."""

import pytest
from mergecore import Registry, Sampler
from mergecore.testing import check_sampler
from mergecore.types import Interval, SearchRequest, Tried

SAMPLER = Registry.discover().get(Sampler, "{{ cookiecutter.name }}")
REQUEST = SearchRequest(
    dimensions=(Interval(name="weight", low=0, high=1),), objectives=1, seed=1, trials=20, batch=1
)


def test_it_asks_for_both_ends_and_for_nothing_between() -> None:
    sampling = SAMPLER.begin(REQUEST, SAMPLER.params(keep=0))
    assert {sampling.ask(number)["weight"] for number in range(20)} == {0, 1}


def test_it_keeps_what_was_best_and_not_what_failed() -> None:
    sampling = SAMPLER.begin(REQUEST, SAMPLER.params(keep=0.999999))
    sampling.tell(Tried(number=0, point={"weight": 0.25}, values=(1.0,)))
    sampling.tell(Tried(number=1, point={"weight": 0.75}, values=(), state="failed"))
    assert [sampling.ask(number) for number in range(2, 6)] == [{"weight": 0.25}] * 4


def test_the_sampler_keeps_the_contract() -> None:
    check_sampler(SAMPLER)


def test_a_share_above_1_is_refused() -> None:
    with pytest.raises(ValueError, match="less than 1"):
        SAMPLER.params(keep=2)
