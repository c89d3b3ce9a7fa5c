"""Methods make the same in other processes, or the kit says so."""

from __future__ import annotations

import sys

import pytest
import torch
from faulty_methods import Nothing, computes_in_float32, failed, method
from kit_faults import names
from tiny import registry

from mergecore import MergeMethod, TensorGroup
from mergecore.testing.findings import NotCheckedError, survey
from mergecore.testing.methods.cases import MethodCase
from mergecore.testing.methods.checks import METHOD
from mergecore.testing.methods.elsewhere import digests_elsewhere, digests_here
from mergecore.types import Merged

WORDS = {"one", "two", "three", "four", "five", "six", "seven", "eight"}


def in_the_order_of_a_set(group: TensorGroup, params: Nothing) -> Merged:
    """Weights by the places of words in a set; none is 0, so that each model counts."""
    weights = [1 + list(WORDS).index(word) for word in ("one", "two", "three")]
    return group.map(lambda block: torch.einsum("n,n...->...", block.x.new_tensor(weights), block.x))


def test_a_result_that_goes_by_the_order_of_a_set_is_found_in_other_processes() -> None:
    odd = method(in_the_order_of_a_set, models=(3, 3))
    found = failed(odd, None, "process")
    assert set(found) == {"process"}
    assert "another process makes another result for shape [13, 11]; go by no hash" in found["process"]


def test_a_method_that_other_processes_cannot_find_is_not_asked_there() -> None:
    [found] = [
        one
        for one in survey(
            "it", METHOD, MethodCase.of(computes_in_float32(), None, None), names(METHOD) - {"process"}
        )
        if one.property == "process"
    ]
    assert found.outcome == "skipped"
    assert found.text.startswith("its functions are not at the top of a module")


def test_what_another_process_cannot_import_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [one for one in sys.path if "tests" not in one])
    with pytest.raises(
        NotCheckedError, match="another process cannot run it: ModuleNotFoundError: No module named"
    ):
        digests_elsewhere([MethodCase.of(method(), None, None)])


def test_built_in_methods_make_the_same_in_other_processes() -> None:
    cases = [MethodCase.of(one, None, None) for one in registry().all(MergeMethod)]
    here = [digests_here(one) for one in cases]
    assert digests_elsewhere(cases) == [here, here]
