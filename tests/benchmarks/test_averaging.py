"""The benchmark of averaged checkpoints: a run of few steps, and its table."""

from __future__ import annotations

import pytest
from benchmarks.averaging import AVERAGES, LAST, PAGE, RATES, RUNS, Run, Score, report, run_seed
from benchmarks.pages import END, begin, with_tables


@pytest.mark.slow
def test_a_short_run_is_averaged_and_scored() -> None:
    """With a rate of almost 0 nothing is learnt, so that all models are the same."""
    run = Run(steps=4, window=3, every=1, rate=1e-12, batch=2)
    assert run.checkpoints == 4
    found = run_seed(0, run)
    assert list(found) == [LAST, *AVERAGES, *RATES]
    assert [one.loss for one in found.values()] == pytest.approx([found[LAST].loss] * len(found), abs=1e-5)


def test_the_table_shows_differences_to_the_last_checkpoint() -> None:
    """90 and 94 against 88 and 96: +2 and -2.  Losses of 0.4 and 0.2 against 0.5 and 0.1: -0.1 and +0.1."""
    found = [
        {LAST: Score(88, 0.5), "mean": Score(90, 0.4)},
        {LAST: Score(96, 0.1), "mean": Score(94, 0.2)},
    ]
    assert report(found).splitlines()[2:] == [
        "| the last checkpoint | 92.0 ± 5.7 |  | 0.300 ± 0.283 |  |  |",
        "| mean | 92.0 ± 2.8 | +0.0 ± 2.8 | 0.300 ± 0.141 | +0.000 ± 0.141 | 1 of 2 |",
    ]


def test_the_page_has_a_place_for_the_tables() -> None:
    page = PAGE.read_text(encoding="utf8")
    assert begin("make averaging") in page
    assert END in page
    assert "new" in with_tables(page, "make averaging", "new")
    assert [f"for {run.steps}" in page for run in RUNS] == [True, True]
