"""The comparison of the ways to make rows, on tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks import transplant
from click.testing import CliRunner
from tiny_transplant import EMBED, MINE, SHARED, as_donor, rows, write


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The model and the donor, whose rows are those that the model should have."""
    monkeypatch.setattr(transplant, "DONOR_ROWS", EMBED)
    monkeypatch.setattr(transplant, "CHARACTERS", 300)
    own = rows(18, seed=1)
    donor = write(tmp_path / "donor", "Unigram", as_donor(own), None)
    return write(tmp_path / "model", "BPE", own, None), donor


def test_tokens_of_several_characters_are_held_out_and_keep_their_truth(pair: tuple[Path, Path]) -> None:
    trial = transplant.prepare(*pair, held_out=3, seed=0)
    assert (trial.shared, len(trial.atoms), len(trial.rows)) == (len(SHARED), 13, 13)
    assert torch.equal(trial.truth, trial.own[list(trial.ids)])
    assert torch.equal(trial.truth, trial.targets)
    names = {number: token for token, number in MINE.items()}
    assert all(len(names[number]) > 1 for number in trial.ids)


def test_held_out_tokens_are_cut_into_others(pair: tuple[Path, Path]) -> None:
    trial = transplant.prepare(*pair, held_out=3, seed=0)
    tokenizer = transplant.without(trial)
    for number in trial.ids:
        name = next(token for token, one in MINE.items() if one == number)
        pieces = [one.id for one in tokenizer.model.tokenize(name)]
        assert len(pieces) > 1
        assert not set(pieces) & set(trial.ids)


def test_a_perfect_row_has_no_error_and_costs_nothing(pair: tuple[Path, Path]) -> None:
    trial = transplant.prepare(*pair, held_out=3, seed=0)
    assert transplant.scores(trial.truth, trial) == pytest.approx((0, 1, 1))
    assert transplant.scores(0 * trial.truth, trial)[0] == pytest.approx(1)
    reader = transplant.Reader(pair[0], trial)
    before = reader.bits(trial.truth)
    assert reader.bits(trial.truth + 5) != before
    assert reader.bits(trial.truth) == before
    assert 0 < reader.share < 1


def test_the_table_has_a_line_for_each_way(pair: tuple[Path, Path]) -> None:
    model, donor = map(str, pair)
    done = CliRunner().invoke(transplant.main, [model, "--donor", donor, "--held-out", "3"])
    assert done.exit_code == 0, done.output
    assert "16 shared tokens, 3 of them held out" in done.output
    assert "\n| omp, k 4 | " in done.output
    assert done.output.count("\n| ") == 28


def test_whole_vocabularies_are_read_too(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transplant, "WHOLE", ("--method omp -k 4",))
    model, donor = map(str, pair)
    done = CliRunner().invoke(transplant.main, [model, "--donor", donor, "--whole"])
    assert done.exit_code == 0, done.output
    assert "| its own vocabulary | " in done.output
    assert "| `--method omp -k 4` | " in done.output
