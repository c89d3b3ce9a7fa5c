"""What every method on task vectors keeps, one table of parameters for all of them."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_vectors import merged, method_called
from tiny import read_tensors, write_llama
from torch import Tensor

import mergecore
from mergecore.testing import check_method, run_method
from mergecore.types import Json
from mergecore.types.execution import RunOptions

METHODS: dict[str, dict[str, Any]] = {
    "task_arithmetic": {},
    "ties": {"density": 0.4},
    "dare_linear": {"density": 0.4},
    "dare_ties": {"density": 0.4},
    "breadcrumbs": {"density": 0.4, "gamma": 0.1},
    "breadcrumbs_ties": {"density": 0.4, "gamma": 0.1},
    "della": {"density": 0.4, "epsilon": 0.2},
    "della_linear": {"density": 0.4, "epsilon": 0.2},
    "consensus_ta": {"k": 2},
    "consensus_ties": {"k": 2, "density": 0.4},
}
SPARSE = [name for name, options in METHODS.items() if "density" in options]
SHAPES = [(), (1,), (1, 1), (1, 9), (9, 1), (130,), (3, 4, 5), (2, 1, 3)]

every_method = pytest.mark.parametrize("name", METHODS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "more"),
    [*((name, {}) for name in METHODS), *((name, {"rescale": "l1"}) for name in SPARSE)],
)
def test_the_contract_of_methods_is_kept(name: str, more: dict[str, Any]) -> None:
    method = method_called(name)
    params = method.params.model_validate({"weight": [0.5, 0.3, 0.4], **METHODS[name], **more})
    check_method(method, params, without=("process",))


@every_method
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_shape_and_dtype_comes_out_finite_in_the_working_precision(
    name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    deltas = [normal(*shape, seed=seed).to(dtype) for seed in range(3)]
    result = merged(
        name, *deltas, base=normal(*shape, seed=9).to(dtype), weight=[0.5, 0.3, 0.4], **METHODS[name]
    )
    assert result.shape == shape
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.isfinite(result).all()


@every_method
def test_models_equal_to_the_base_give_the_base(name: str) -> None:
    base = normal(7, 30)
    more: list[dict[str, Any]] = (
        [{}] if name not in SPARSE else [{"rescale": how} for how in (False, True, "l1")]
    )
    for options in more:
        zero = torch.zeros(7, 30)
        assert torch.equal(
            merged(name, zero, zero, base=base, weight=[2, 1], **METHODS[name], **options), base
        )


@pytest.mark.parametrize("name", SPARSE)
def test_large_halves_do_not_overflow_when_their_norm_is_restored(name: str) -> None:
    """The L1 norm is 20 times 60000, and what is left of it must be that much again."""
    x = torch.full((5, 4), 6e4, dtype=torch.float16)
    options = METHODS[name] | {"rescale": "l1"} | ({"k": 0} if "k" in METHODS[name] else {})
    result = merged(name, x, weight=1, **options)
    assert torch.isfinite(result).all()
    assert result.abs().sum().item() == pytest.approx(1.2e6)


@every_method
def test_float64_is_computed_in_float64(name: str) -> None:
    """Numbers that differ beyond the digits of float32 make results that do."""
    x = normal(40, 10).double()
    fine = x * (1 + 1e-12)
    options = {"weight": 1, **METHODS[name], **({"k": 1} if "k" in METHODS[name] else {})}
    change = merged(name, fine, **options) - merged(name, x, **options)
    assert 0 < change.abs().max().item() < 1e-10


@every_method
def test_dtypes_may_be_mixed(name: str) -> None:
    """Numbers that all of them can hold, so that the result is that of one dtype."""
    rows = [torch.randint(-8, 8, (6, 5), generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.bfloat16)
    method = method_called(name)
    params = method.params.model_validate({"weight": [0.5, 0.25, 1], **METHODS[name]})
    base, *models = [row.to(kind) for row, kind in zip(rows, kinds, strict=True)]
    plain = [row.float() for row in rows]
    wanted = run_method(method, params, plain[1:], plain[0])
    assert torch.equal(run_method(method, params, models, base), wanted)


@pytest.mark.parametrize(
    "name", ["ties", "breadcrumbs_ties", "dare_ties", "della", "task_arithmetic", "consensus_ties"]
)
def test_copies_of_one_model_give_it_back_when_nothing_is_dropped(name: str) -> None:
    """Weights 1, 2 and 1 are normalised; sums of halves and quarters are exact."""
    x = torch.randint(-50, 50, (9, 11), generator=torch.Generator().manual_seed(0)) / 8
    assert torch.equal(merged(name, x, x, x, weight=[1, 2, 1], normalize=True), x)


@every_method
@settings(max_examples=20)
@given(st.integers(0, 99), st.sampled_from([0.25, 2.0, -8.0]))
def test_task_vectors_of_twice_the_size_give_twice_the_change(name: str, seed: int, factor: float) -> None:
    """By a power of two, so that nothing is rounded otherwise; what is dropped stays the same.

    A sum of 0 elects plus, so signs change with the factor's only where no votes cancel.
    """
    deltas = [normal(4, 15, seed=3 * seed + i) for i in range(3)]
    options = {"weight": [0.5, 0.3, 0.4], **METHODS[name]}
    scaled = merged(name, *(factor * one for one in deltas), **options)
    assert torch.equal(scaled, factor * merged(name, *deltas, **options))


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith(("dare", "della"))])
@settings(max_examples=20)
@given(st.integers(0, 99))
def test_moved_entries_give_moved_results(name: str, seed: int) -> None:
    deltas = [normal(60, seed=3 * seed + i) for i in range(3)]
    moved = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    options = {"weight": [0.5, 0.3, 0.4], **METHODS[name]}
    assert torch.equal(
        merged(name, *(one[moved] for one in deltas), **options), merged(name, *deltas, **options)[moved]
    )


# ---- whole models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "della", "della_linear"])
def test_a_tensor_has_the_same_mask_whatever_stands_beside_it(name: str, tmp_path: Path) -> None:
    """The first layer of a model of two is that of a model of one, merged on its own, on any number of threads."""

    def merge(layers: int, threads: int) -> dict[str, Tensor]:
        base = write_llama(tmp_path / f"base{layers}", layers, seed=0)
        model = write_llama(tmp_path / f"model{layers}", layers, seed=1)
        config: dict[str, Json] = {
            "merge_method": name,
            "base_model": str(base),
            "models": [{"model": str(model)}],
            "parameters": {"weight": 1, "density": 0.5},
        }
        out = tmp_path / f"out{layers}{threads}"
        return read_tensors(mergecore.merge(config, out, run_options=RunOptions(threads=threads)))

    two = merge(layers=2, threads=1)
    again = merge(layers=2, threads=3)
    one = merge(layers=1, threads=1)
    assert all(torch.equal(two[key], again[key]) for key in two)
    shared = [key for key in one if "embed" in key or ".0." in key]  # the same random numbers in both
    assert len(shared) == 10
    assert all(torch.equal(one[key], two[key]) for key in shared)


@every_method
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, model in enumerate(("base", "a", "b")):
        write_llama(tmp_path / model, 2, seed=seed)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.yml").write_text(textwrap.dedent(method_called(name).example))
    out = mergecore.merge("example.yml", "out")
    assert {one.dtype for one in read_tensors(out).values()} == {torch.bfloat16}
