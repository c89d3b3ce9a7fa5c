"""What is wrong with models in memory, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from state_dicts import Tensors
from torch import nn

import mergecore
from mergecore import MergecoreError, PlanOptions

# ---- errors ------------------------------------------------------------------------------------------------

ONE = torch.ones(2)


class Half(nn.Module):
    pass


@pytest.mark.parametrize(
    ("call", "code", "told"),
    [
        (
            lambda: mergecore.merge_tensors("linera", [ONE]),
            "E108",
            "unknown merge method 'linera'; did you mean 'linear'?",
        ),
        (lambda: mergecore.merge_tensors("linear", []), "E104", "no models were given to merge"),
        (
            lambda: mergecore.merge_state_dicts({"merge_method": "linear"}, {}),
            "E104",
            "no models were given to merge",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE, torch.ones(3)], weight=1.0),
            "E230",
            "shapes differ for 'tensor': tensors[0] [2], tensors[1] [3]",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE, [1.0, 2.0]], weight=1.0),  # type: ignore[list-item]
            "E233",
            "tensors[1]: tensor 'tensor' is a list, not a tensor. Hint: pass a plain tensor",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE], wieght=1.0),
            "E109",
            "linear has no parameter 'wieght'; did you mean 'weight'?",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE, ONE], weight=[1.0]),
            "E105",
            "parameter 'weight' has 1 value for 2 models. Hint: the base has none, unless it is listed",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": {"w": ONE}}, weight={"b": 1}),
            "E105",
            "parameter 'weight' is given for 'b', which is not among the models. Hint: they are a",
        ),
        (
            lambda: mergecore.merge_state_dicts("ties", {"a": {"w": ONE}}, base="b", weight=1),
            "E105",
            "the base 'b' is not among the models. Hint: they are a",
        ),
        (
            lambda: mergecore.merge_state_dicts(
                "linear", {"a": {"w": ONE}, "b": {"w": ONE, "v": ONE}}, weight=1
            ),
            "E232",
            "1 tensor unexpected in b: 'v'",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": {"w": ONE}, "b": {}}, weight=1),
            "E201",
            "model 'b' contains no tensors",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": Half()}, weight=1),
            "E201",
            "model 'a' contains no tensors",
        ),
        (
            lambda: mergecore.merge_tensors("linear", 5, weight=1),  # type: ignore[arg-type]
            "E104",
            "the models are a int; a list of tensors or of state dicts is expected",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", [{"w": ONE}], weight=1),  # type: ignore[arg-type]
            "E104",
            "the models are a list; a dict of names and state dicts is expected",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {1: {"w": ONE}}, weight=1),  # type: ignore[dict-item]
            "E104",
            "1 is not the name of a model; text is expected",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": 3}, weight=1),  # type: ignore[dict-item]
            "E104",
            "model 'a' is a int; a state dict or a module is expected",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": {1: ONE}}, weight=1),  # type: ignore[dict-item]
            "E104",
            "a: the name 1 of a tensor is not text",
        ),
        (
            lambda: mergecore.merge_state_dicts(
                "linear", {"a": {"w": torch.ones(2, device="meta")}}, weight=1
            ),
            "E233",
            "a: tensor 'w' is on the device 'meta', without numbers",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": {"w": torch.eye(2).to_sparse()}}, weight=1),
            "E233",
            "a: tensor 'w' is sparse_coo, not plain numbers",
        ),
        (
            lambda: mergecore.merge_state_dicts(
                {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}}]},
                {"a": {"w": ONE}, "b": {"w": ONE}},
            ),
            "E104",
            "the config does not name 'b'. Hint: name it in the config, or leave it out",
        ),
        (
            lambda: mergecore.merge_state_dicts(
                {"merge_method": "linear", "models": []}, {"a": {"w": ONE}}, weight=1
            ),
            "E104",
            "base, dtype, seed and parameters belong in the config. Hint: write them there, or name a method in place",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE, torch.tensor([1.0, torch.nan])], weight=1.0),
            "E234",
            "tensors[1]: tensor 'tensor': 1 value is not finite (NaN or Inf), the first at index 1",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE, np.zeros(2, dtype=np.complex128)], weight=1.0),
            "E205",
            "tensor 'tensor': unknown dtype 'complex128'",
        ),
    ],
)
def test_what_is_wrong_is_said(call: Callable[[], object], code: str, told: str) -> None:
    with pytest.raises(MergecoreError) as caught:
        call()
    assert told in str(caught.value)
    assert caught.value.code == code


def test_options_of_a_plan_count(models: dict[str, Tensors]) -> None:
    models["b"]["more"] = torch.ones(3)
    options = PlanOptions(unexpected="drop")
    found = mergecore.merge_state_dicts(
        "linear", {one: models[one] for one in "ab"}, weight=1.0, plan_options=options
    )
    assert found.keys() == models["a"].keys()
