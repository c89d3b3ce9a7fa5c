"""Inputs with nothing in them, of low rank, or equal; and what cannot be asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_formulas import METHODS, REFERENCES, merged, off, task_vectors

from mergecore import ConfigError, MergeMethod, Registry
from mergecore.testing import check_method
from mergecore_spectral.tsv import TsvParams, check_share

every_method = pytest.mark.parametrize("name", REFERENCES)


@every_method
@pytest.mark.parametrize("more", [{}, {"spectral": True}, {"spectral": False}, {"weight": (0.5, 1.5, -0.2)}])
def test_the_contract_of_methods_is_kept(name: str, more: dict[str, Any]) -> None:
    check_method(METHODS[name], METHODS[name].params(**more), 3, without=("process",) if more else ())


@every_method
def test_models_that_equal_the_base_give_the_base(name: str) -> None:
    assert (merged(name, [np.zeros((6, 4))] * 3) == 0).all()
    assert (merged(name, task_vectors(2, (6, 4)), weight=(0, 0)) == 0).all()


@every_method
@pytest.mark.parametrize("shape", [(2, 6), (1, 5), (5, 1), (1, 1)], ids=str)
def test_there_may_be_more_models_than_rows(name: str, shape: tuple[int, int]) -> None:
    deltas = task_vectors(5, shape)
    found = merged(name, deltas)
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 0


@every_method
def test_the_order_of_the_models_does_not_matter(name: str) -> None:
    deltas = task_vectors(4, (15, 11))
    assert off(merged(name, deltas[::-1]), merged(name, deltas)) < 1e-12


@every_method
@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e12])
def test_a_merge_grows_with_its_task_vectors(name: str, factor: float) -> None:
    deltas = task_vectors(3, (15, 11))
    assert off(merged(name, [factor * one for one in deltas]), factor * merged(name, deltas)) < 1e-12


@every_method
def test_directions_that_no_model_has_stay_empty(name: str) -> None:
    """Of rank 2 each, in float64: what is left of 12 rows and 9 columns would be rounding."""
    normal = np.random.default_rng(0).standard_normal
    left, right = normal((12, 2)), normal((2, 9))
    deltas = [left @ normal((2, 2)) @ right for _ in range(2)]
    found = merged(name, deltas)
    assert np.linalg.matrix_rank(found, tol=1e-10) <= 2
    nudged = [one + 1e-14 * normal((12, 9)) for one in deltas]
    assert off(merged(name, nudged), found) < 1e-9


@pytest.mark.parametrize("count", [2, 3])
def test_models_that_are_equal_give_what_one_of_them_has(count: int) -> None:
    """Twice the same direction is one direction: here the largest 12 / count of 12."""
    [one] = task_vectors(1, (16, 12))
    u, s, v = np.linalg.svd(one, full_matrices=False)
    k = 12 // count
    assert off(merged("tsv", [one] * count), u[:, :k] @ np.diag(s[:k]) @ v[:k]) < 1e-9


def test_iso_c_is_what_core_space_makes_of_the_same_matrices() -> None:
    """`core_space` finds shared bases first, which a merge that goes by singular values does not see."""
    core: MergeMethod[Any] = Registry.discover().get(MergeMethod, "core_space")
    deltas = task_vectors(3, (14, 10))
    METHODS["core_space"] = core
    try:
        for name, rule in (("iso_c", "iso"), ("tsv", "tsv")):
            assert off(merged("core_space", deltas, weight=(1,), rule=rule), merged(name, deltas)) < 1e-10
    finally:
        del METHODS["core_space"]


def test_a_share_has_to_leave_room_for_the_other_models() -> None:
    check_share(TsvParams(share=0.25), 4)
    check_share(TsvParams(share=None), 40)
    with pytest.raises(
        ConfigError, match=r"share 0.5 of 4 models is more than all singular vectors"
    ) as caught:
        check_share(TsvParams(share=0.5), 4)
    assert caught.value.hint == "choose a share of at most 0.25, or leave it out"
