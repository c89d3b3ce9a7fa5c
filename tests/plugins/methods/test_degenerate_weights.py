"""Every method takes a weight for each model: one it has no use for, weights that sum to 0, and none at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import llama, llama_config, read_tensors, registry, write_checkpoint

from mergecore import MergeMethod, merge
from mergecore.errors import MergecoreError, Problems

METHODS = sorted(method.name for method in registry().all(MergeMethod))
AVERAGES = ("linear", "multislerp")
"""Of weights that sum to 0 they have no result: NaN, or a division by nothing."""
PAIRS = ("slerp", "nearswap", "arcee_fusion")
SUMS = ("task_arithmetic", "dare_linear", "breadcrumbs", "della_linear")


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bases of 1, and models of 3 and 4: the task vectors are 2 and 3."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("base", 1.0), ("a", 3.0), ("b", 4.0)):
        write_checkpoint(Path(name), llama(1, value, tied=True), llama_config(1))


def config(method: str, weights: list[float], **more: Any) -> dict[str, Any]:
    models = [
        {"model": name, "parameters": {"weight": weight}} for name, weight in zip("ab", weights, strict=True)
    ]
    made: dict[str, Any] = {
        "merge_method": method,
        "base_model": "base",
        "models": models,
        "dtype": "float32",
    }
    if method in PAIRS or method == "passthrough":
        made["models"] = models[1:]
    if method == "passthrough":
        del made["base_model"]
    if method in ("slerp", "nearswap"):
        more["t"] = 0.25
    return {**made, **({"parameters": more} if more else {})}


def told(made: dict[str, Any]) -> tuple[str, torch.Tensor | None]:
    try:
        tensors = read_tensors(merge(made, "out", registry=registry()))
    except MergecoreError as error:
        errors = error.errors if isinstance(error, Problems) else (error,)
        return " ".join(f"{one.code} {one}" for one in errors), None
    return "", torch.cat([tensor.flatten() for tensor in tensors.values()])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("weights", [[0.5, 0.5], [1.0, -1.0], [0.0, 0.0], [-0.5, -0.5], [0.1, 0.0]])
def test_every_method_makes_a_model_of_any_weights(method: str, weights: list[float]) -> None:
    error, merged = told(config(method, weights))
    if method in AVERAGES and sum(weights) == 0:
        assert error.startswith("E404 ")
        assert "the weights sum to 0" in error
    else:
        assert error == ""
        assert merged is not None
        assert merged.isfinite().all()


@pytest.mark.parametrize("method", SUMS)
@pytest.mark.parametrize("normalize", [True, False])
def test_a_sum_by_weights_that_cancel_is_not_divided(method: str, normalize: bool) -> None:
    """1 + 2 · 1 - 3 · 1 = 0; 0.1 + 0.2 - 0.3 is 0 but for rounding."""
    more = {"density": 1.0} if method != "task_arithmetic" else {}
    more |= {"gamma": 0.0} if method == "breadcrumbs" else {}
    _, merged = told(config(method, [1.0, -1.0], normalize=normalize, **more))
    assert merged is not None
    assert merged.unique().tolist() == [0.0]


@pytest.mark.parametrize("method", ["ties", "dare_ties", "breadcrumbs_ties", "della"])
def test_where_signs_are_elected_the_weights_of_those_that_agree_count(method: str) -> None:
    """2 · 1 - 3 · 1 elects minus, which only the second has: -3 / -1 = 3, and 1 + 3 = 4."""
    more = {"gamma": 0.0} if method == "breadcrumbs_ties" else {}
    _, merged = told(config(method, [1.0, -1.0], normalize=True, density=1.0, **more))
    assert merged is not None
    assert merged.unique().tolist() == [4.0]


@pytest.mark.parametrize("weights", [[1e308, 1e308], [-1.7e308, -1.7e308], [5e-324, 5e-324]])
def test_the_share_of_a_weight_is_defined_however_large_or_small_it_is(weights: list[float]) -> None:
    """The mean of 3 and 4; the sum of the weights alone would be infinite."""
    found = told(config("linear", weights, normalize=True))[1]
    assert found is not None
    assert found.unique().tolist() == [3.5]
