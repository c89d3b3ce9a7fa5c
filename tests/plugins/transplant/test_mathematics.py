"""The arithmetic of transplants, on numbers that can be checked by hand."""

from __future__ import annotations

import pytest
import torch
from benchmarks.transplant import InMemory
from torch import Tensor

from mergecore_plugins.transplant.atoms import Atoms, combined
from mergecore_plugins.transplant.filling import piece_weights, pursued
from mergecore_plugins.transplant.methods import FillParams
from mergecore_plugins.transplant.neighbours import WEIGHTS, barycentric, by_distance, least_squares, nearest
from mergecore_plugins.transplant.pursuit import pursuit, shrunk
from mergecore_plugins.transplant.statistics import (
    covariance,
    mean_row,
    procrustes,
    spread,
)


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def test_pursuit_finds_the_atoms_of_a_sum() -> None:
    atoms = Atoms(matrix([1, 0, 0], [0, 2, 0], [0, 0, 1], [1, 1, 1]))
    index, weights = pursuit(atoms, matrix([3, 0, 0], [0, 4, 1]), 2)
    assert index[0, 0] == 0
    assert weights[0].tolist() == pytest.approx([3, 0])
    assert index[1].tolist() == [1, 2]  # 4 of 2 e2 first, then 1 of e3
    assert weights[1].tolist() == pytest.approx([2, 1])


def test_pursuit_takes_the_nearest_direction_whatever_the_norms() -> None:
    atoms = Atoms(matrix([100, 100], [1, 0]))
    index, weights = pursuit(atoms, matrix([3, 0]), 1)
    assert index.tolist() == [[1]]  # by products alone it would be the long one
    assert weights.tolist() == [[3]]


def test_pursuit_is_least_squares_over_what_it_takes() -> None:
    atoms = Atoms(torch.randn(30, 12, generator=torch.Generator().manual_seed(0)))
    target = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    index, weights = pursuit(atoms, target, 7)
    for one in range(5):
        chosen = atoms.take(index[one])  # (7, 12)
        assert len(set(index[one].tolist())) == 7
        best = torch.linalg.lstsq(chosen.T, target[one].to(torch.float64)[:, None]).solution[:, 0]
        torch.testing.assert_close(weights[one], best)


def test_pursuit_goes_on_where_nothing_is_left() -> None:
    atoms = Atoms(matrix([1, 0], [2, 0], [0, 0]))
    _, weights = pursuit(atoms, matrix([2, 0], [0, 0]), 2)
    assert combined(weights, torch.tensor([[0, 1], [0, 1]]), matrix([1.0], [2.0]))[1].tolist() == [0]
    index, weights = pursuit(atoms, matrix([2, 0]), 2)
    assert combined(weights, index, atoms.rows)[0].tolist() == pytest.approx([2, 0])


def test_a_ridge_keeps_weights_that_cancel_each_other_small() -> None:
    atoms = Atoms(matrix([1, 0], [1, 0.1]))
    target = matrix([0, 1])
    target = target.double()
    index, weights = pursuit(atoms, target, 2)
    assert target.tolist() == [[0, 1]]
    assert sorted(weights[0].tolist()) == pytest.approx([-10, 10], rel=1e-4)
    assert shrunk(atoms, index, target, 0.1).abs().max() < 1
    one = Atoms(matrix([2, 0]))
    assert shrunk(one, torch.tensor([[0]]), matrix([6, 0]), 0.5).tolist() == [[2]]  # 12 / (4 + 0.5 · 4)


def test_rows_around_a_mean_need_no_weights_for_it() -> None:
    rows = matrix([10, 1], [10, -1])
    atoms = Atoms(rows, torch.tensor([10.0, 0.0], dtype=torch.float64))
    centre = torch.tensor([5.0, 5.0, 5.0], dtype=torch.float64)
    own = matrix([5, 6, 5], [5, 4, 5])
    made = pursued(atoms, own, centre, matrix([10, 3], [10, 0]), FillParams(k=1))
    assert made.tolist() == [[5, 8, 5], [5, 5, 5]]


def test_moments_are_added_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergecore_plugins.transplant.statistics.CHUNK", 4)  # two rows at once
    rows = InMemory(matrix([1, 0], [3, 0], [5, 6]))
    assert mean_row(rows).tolist() == [3, 2]
    assert covariance(rows, mean_row(rows)).tolist() == [[8 / 3, 4], [4, 8]]
    assert spread(rows, mean_row(rows)) == pytest.approx((32 / 6) ** 0.5)  # 8 + 24 over 6 numbers
    assert mean_row(InMemory(torch.zeros(0, 2))).tolist() == [0, 0]


def test_procrustes_finds_a_turn_with_a_scale() -> None:
    quarter = matrix([0, 2], [-2, 0])
    source = matrix([3, 1], [1, 1], [2, 5])
    found = procrustes(InMemory(source), InMemory(source @ quarter + 7))
    torch.testing.assert_close(found(matrix([1, 0])), (matrix([1, 0]) @ quarter + 7).double())


def test_procrustes_into_more_columns_keeps_distances() -> None:
    source = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    goal = torch.cat([source, torch.zeros(9, 1)], dim=1)
    torch.testing.assert_close(procrustes(InMemory(source), InMemory(goal))(source), goal.double())


def test_rows_do_not_depend_on_those_beside_them() -> None:
    atoms = Atoms(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)))
    targets = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    index, weights = pursuit(atoms, targets, 4)
    alone, same = pursuit(atoms, targets[2:3], 4)
    assert torch.equal(index[2:3], alone)
    torch.testing.assert_close(weights[2:3], same)


def test_the_nearest_are_found_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergecore_plugins.transplant.atoms.CHUNK", 4)  # two rows at once
    atoms = Atoms(matrix([9, 0], [1, 1], [0, 2], [1, 0], [5, 5]))
    assert set(nearest(atoms, matrix([1, 0.2]), 2, cosine=False)[0].tolist()) == {1, 3}
    assert set(nearest(atoms, matrix([2, 2.1]), 2, cosine=True)[0].tolist()) == {1, 4}
    assert nearest(atoms, matrix([1, 1]), 9, cosine=False).shape == (1, 5)


def rows_of(*rows: list[float]) -> Tensor:
    return torch.tensor([rows], dtype=torch.float64)


def test_weights_by_distance_are_its_inverse() -> None:
    rows, target = rows_of([1, 0], [3, 0]), torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    assert by_distance(rows, target, cosine=False)[0].tolist() == pytest.approx([0.75, 0.25])  # 1 : 1/3
    assert by_distance(rows_of([0, 0], [3, 0]), target, cosine=False)[0, 0] == pytest.approx(1)


def test_weights_by_angle_are_never_negative() -> None:
    target = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    weights = by_distance(rows_of([0, 1], [-1, 0]), target, cosine=True)
    assert weights[0].tolist() == pytest.approx([2 / 3, 1 / 3])  # 1 - cosine is 1 and 2


def test_barycentric_weights_add_up_to_one() -> None:
    rows, target = rows_of([0, 0], [4, 0]), torch.tensor([[1.0, 7.0]], dtype=torch.float64)
    assert barycentric(rows, target, cosine=False)[0].tolist() == pytest.approx([0.75, 0.25])
    same = rows_of([1, 1], [1, 1])
    assert barycentric(same, target, cosine=False)[0].tolist() == pytest.approx([0.5, 0.5])


def test_least_squares_weights_come_nearest() -> None:
    rows, target = rows_of([2, 0], [0, 1]), torch.tensor([[1.0, 7.0]], dtype=torch.float64)
    assert least_squares(rows, target, cosine=False)[0].tolist() == pytest.approx([0.5, 7])
    more = rows_of([1, 0], [1, 0], [0, 1])  # more rows than columns: the shortest weights
    assert least_squares(more, target, cosine=False)[0].tolist() == pytest.approx([0.5, 0.5, 7])


def test_every_way_to_weigh_is_of_the_shape_of_the_rows() -> None:
    rows = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for weigh in WEIGHTS.values():
        assert weigh(rows, target, False).shape == (3, 5)


@pytest.mark.parametrize(
    ("pieces", "embedding", "head"),
    [
        ("mean", [1 / 3] * 3, [1 / 3] * 3),
        ("sum", [1] * 3, [1] * 3),
        ("weighted_mean", [1 / 6, 2 / 6, 3 / 6], [3 / 6, 2 / 6, 1 / 6]),
        ("first_last", [0, 0, 1], [1, 0, 0]),
    ],
)
def test_an_embedding_looks_at_the_last_piece_and_a_head_at_the_first(
    pieces: str, embedding: list[float], head: list[float]
) -> None:
    assert piece_weights(pieces, 3, head=False).tolist() == pytest.approx(embedding)
    assert piece_weights(pieces, 3, head=True).tolist() == pytest.approx(head)
