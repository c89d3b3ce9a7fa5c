"""What methods that compute their factors or masks from all inputs keep; one table for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from merging import merge, normal, params_of
from task_vectors import method_called
from torch import Tensor

from mergecore.compute import group
from mergecore.testing import check_method, run_method


@dataclass(frozen=True)
class Case:
    """A method with parameters, and how many models it is tried with beside its base."""

    name: str
    models: int
    base: bool
    params: Mapping[str, Any] = field(default_factory=dict)

    def merge(self, models: list[Tensor], base: Tensor | None, **changes: Any) -> Tensor:
        return merge(self.name, *models, base=base if self.base else None, **{**self.params, **changes})

    def tensors(self, *shape: int) -> tuple[list[Tensor], Tensor]:
        base = normal(*shape, seed=9)
        common = base + normal(*shape, seed=8)
        return [common + normal(*shape, seed=seed) for seed in range(self.models)], base


ROWS = {"nuslerp_flatten": False}
COLUMNS = {"nuslerp_flatten": False, "nuslerp_row_wise": True}
WEIGHTS = {"weight": [0.5, 0.3, 0.4]}

CASES = {
    "slerp": Case("slerp", 1, True, {"t": 0.3}),
    "nuslerp": Case("nuslerp", 2, False, {"weight": [1, 2]}),
    "nuslerp, rows": Case("nuslerp", 2, False, {"weight": [1, 2], **ROWS}),
    "nuslerp, columns": Case("nuslerp", 2, False, {"weight": [1, 2], **COLUMNS}),
    "nuslerp, base": Case("nuslerp", 2, True, {"weight": [1, 2]}),
    "nuslerp, base, rows": Case("nuslerp", 2, True, {"weight": [1, 2], **ROWS}),
    "nuslerp, base, columns": Case("nuslerp", 2, True, {"weight": [1, 2], **COLUMNS}),
    "multislerp": Case("multislerp", 3, False, WEIGHTS),
    "multislerp, base": Case("multislerp", 3, True, {**WEIGHTS, "eps": 0}),
    "karcher": Case("karcher", 3, False),
    "model_stock": Case("model_stock", 3, True),
    "model_stock, rows": Case("model_stock", 3, True, {"filter_wise": True}),
    "sce": Case("sce", 3, True),
    "sce, half": Case("sce", 3, True, {"select_topk": 0.5}),
    "nearswap": Case("nearswap", 1, True, {"t": 0.5}),
    "arcee_fusion": Case("arcee_fusion", 1, True),
    "ram": Case("ram", 3, True, {"epsilon": 0.3}),
    "ramplus_tl": Case("ramplus_tl", 3, True, {"epsilon": 0.3, "r": 0.5, "alpha": 0.5}),
}
SHAPES = [(), (1,), (1, 1), (1, 9), (9, 1), (130,), (3, 4, 5), (2, 1, 3), (2, 3, 1, 4)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

every_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def cases(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [CASES[name] for name in names], ids=names)


@every_case
def test_the_contract_of_methods_is_kept(case: Case) -> None:
    check_method(method_called(case.name), params_of(case.name, **case.params), without=("process",))


@every_case
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_and_dtype_comes_out_finite_in_the_working_precision(
    case: Case, shape: tuple[int, ...]
) -> None:
    for dtype in DTYPES:
        models, base = case.tensors(*shape)
        merged = case.merge([model.to(dtype) for model in models], base.to(dtype))
        assert merged.shape == shape
        assert merged.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert torch.isfinite(merged).all()


@every_case
def test_small_blocks_in_any_order_give_the_same_bytes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "BLOCK", 20)
    models, base = case.tensors(13, 7)
    method = method_called(case.name)
    params = params_of(case.name, **case.params)
    lead = [base] if case.base and method.space == "weight" else []
    beside = base if case.base and method.space == "delta" else None
    orders = (
        range,
        lambda count: range(count - 1, -1, -1),
        lambda count: sorted(range(count), key=lambda i: i % 3),
    )
    first, *others = (run_method(method, params, [*lead, *models], beside, order=order) for order in orders)
    assert all(torch.equal(first, other) for other in others)


@every_case
def test_zero_tensors_give_zero(case: Case) -> None:
    zero = torch.zeros(5, 4)
    assert torch.equal(case.merge([zero] * case.models, zero), zero)


@every_case
def test_models_equal_to_the_base_give_exactly_the_base(case: Case) -> None:
    base = normal(7, 30)
    merged = case.merge([base] * case.models, base)
    if case.base and case.name != "slerp":
        assert torch.equal(merged, base)
    else:
        assert torch.allclose(merged, base, rtol=0, atol=3e-7)


@cases("nuslerp, base", "nuslerp, base, rows", "multislerp, base", "model_stock", "model_stock, rows", "sce")
def test_models_that_are_the_same_come_out(case: Case) -> None:
    [model, *_], base = case.tensors(7, 30)
    assert torch.allclose(case.merge([model] * case.models, base), model, rtol=0, atol=1e-6)


@cases("karcher", "model_stock", "model_stock, rows", "sce", "sce, half", "ram", "ramplus_tl")
def test_the_order_of_the_models_does_not_matter(case: Case) -> None:
    models, base = case.tensors(20, 30)
    wide, base = [model.double() for model in models], base.double()
    assert torch.allclose(case.merge(wide, base), case.merge(wide[::-1], base), rtol=0, atol=1e-13)


@cases("multislerp", "multislerp, base")
def test_weights_go_with_their_models(case: Case) -> None:
    models, base = case.tensors(20, 30)
    wide, base = [model.double() for model in models], base.double()
    turned = case.merge(wide[::-1], base, weight=[0.4, 0.3, 0.5])
    assert torch.allclose(case.merge(wide, base), turned, rtol=0, atol=1e-13)


SCALED = {"nearswap": {"t": 0.5}, "ram": {"epsilon": 0.3}, "ramplus_tl": {"epsilon": 0.3}}


@cases(
    "nuslerp, base",
    "multislerp, base",
    "model_stock",
    "model_stock, rows",
    "sce",
    "sce, half",
    "nearswap",
    "ram",
    "ramplus_tl",
)
@pytest.mark.parametrize("size", [2.0**-20, 2.0**30])
def test_task_vectors_of_another_size_change_the_base_in_proportion(case: Case, size: float) -> None:
    zero = torch.zeros(20, 30)
    models = [normal(20, 30, seed=seed) for seed in range(case.models)]
    limits = {name: value * size for name, value in SCALED.get(case.name, {}).items()}
    scaled = case.merge([model * size for model in models], zero, **limits)
    assert torch.allclose(scaled / size, case.merge(models, zero), rtol=1e-5, atol=1e-6)


@every_case
def test_large_halves_do_not_overflow(case: Case) -> None:
    """Squares and sums of 60000 are beyond the range of float16."""
    base = torch.full((6, 50), 6e4, dtype=torch.float16)
    models = [
        base - 1000 * seed * normal(6, 50, seed=seed).abs().half() for seed in range(1, case.models + 1)
    ]
    merged = case.merge(models, base)
    assert torch.isfinite(merged).all()
    assert 0 <= merged.min() <= merged.max() <= 6.1e4


@every_case
def test_dtypes_may_be_mixed(case: Case) -> None:
    """Numbers that all of them can hold, so that the result is that of one dtype."""
    kinds = (torch.float16, torch.bfloat16, torch.float32)
    models = [(normal(6, 5, seed=seed) * 4).round() for seed in range(case.models)]
    base = (normal(6, 5, seed=9) * 4).round()
    mixed = [model.to(kind) for model, kind in zip(models, kinds, strict=False)]
    assert torch.equal(case.merge(mixed, base.bfloat16()), case.merge(models, base))


@every_case
def test_float64_is_computed_in_float64(case: Case) -> None:
    """Numbers that differ beyond the digits of float32 make results that do."""
    models, base = case.tensors(40, 10)
    wide, fine = ([model.double() * factor for model in models] for factor in (1.0, 1 + 1e-12))
    change = case.merge(fine, base.double()) - case.merge(wide, base.double())
    assert 0 < change.abs().max().item() < 1e-10
