"""Every report in Chromium: no network, no complaint, nothing for axe-core to find, narrow and wide, dark and light."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import report_samples as samples
from browser import PHONE, WIDE, Browser, needed, started, violations
from fixture_types import Cli
from tiny import llama, llama_config, write_checkpoint

from mergecore_plugins.reports import evaluation_report, search_report

ALL = ("minor", "moderate", "serious", "critical")
CONFIG = """
merge_method: ties
base_model: base
models:
  - {model: a, parameters: {weight: [{filter: mlp, value: 0.9}, {value: [0.1, 0.5]}], density: 0.5}}
  - {model: b, parameters: {weight: 0.3, density: [1, 0.2]}}
"""
NAMES = ("plan", "merge", "diff", "evaluation", "search")


@pytest.fixture(scope="module")
def shown() -> Iterator[Browser]:
    with started(needed()) as one:
        yield one


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "a", "b")):
        tensors = {key: one + 0.1 * seed * one.flip(0) for key, one in llama(6).items()}
        write_checkpoint(tmp_path / name, tensors, llama_config(6))
    (tmp_path / "cfg.yml").write_text(CONFIG)
    for words in (
        ("plan", "cfg.yml", "--html", "plan.html"),
        ("merge", "cfg.yml", "out", "--report", "merge.html"),
        ("diff", "a", "b", "--base", "base", "--html", "diff.html"),
    ):
        done = cli(*words)
        assert (tmp_path / words[-1]).is_file(), done.err
    (tmp_path / "evaluation.html").write_text(evaluation_report(samples.evaluation()))
    (tmp_path / "search.html").write_text(search_report(samples.search(2)))
    return tmp_path


@pytest.mark.slow
def test_reports_are_for_everyone(pages: Path, shown: Browser) -> None:
    for name in NAMES:
        address = (pages / f"{name}.html").as_uri()
        shown.requests.clear()
        for width in (PHONE, WIDE):
            for scheme in ("light", "dark"):
                shown.wide(width)
                shown.colours(scheme)
                shown.open(address)
                assert shown.value("document.documentElement.scrollWidth") <= width, name
                assert violations(shown, ALL) == [], name
        assert shown.complaints == [], name
        assert {*shown.requests} == {address}


@pytest.mark.slow
def test_a_table_is_sorted_by_keyboard(pages: Path, shown: Browser) -> None:
    shown.open((pages / "diff.html").as_uri())
    shown.value("document.querySelector('thead button').focus()")
    column = "[...document.querySelector('tbody').rows].map(row => row.cells[0].textContent)"
    before = shown.value(column)
    shown.press("Enter")
    assert shown.value(column) == sorted(before)
    assert shown.value("document.activeElement.parentElement.getAttribute('aria-sort')") == "ascending"
    shown.press("Enter")
    assert shown.value(column) == sorted(before, reverse=True)
    shown.press("Tab")
    shown.press(" ")
    counts = shown.value(
        "[...document.querySelector('tbody').rows].map(row => Number(row.cells[1].textContent))"
    )
    assert counts == sorted(counts)


@pytest.mark.slow
def test_a_picture_can_be_reached_and_scrolled_by_keyboard(pages: Path, shown: Browser) -> None:
    shown.wide(PHONE)
    shown.open((pages / "merge.html").as_uri())
    shown.value("document.querySelector('figure .wide').focus()")
    assert shown.value("document.activeElement.className") == "wide"
    assert shown.value("document.querySelector('svg').getAttribute('aria-label').length") > 40


@pytest.mark.slow
def test_lines_are_drawn_by_script_on_the_screen_and_without_one_on_paper(
    pages: Path, shown: Browser
) -> None:
    shown.wide(WIDE)
    shown.open((pages / "search.html").as_uri())
    looks = "getComputedStyle(document.querySelector('{}')).display"
    assert shown.value("document.querySelectorAll('.chart canvas').length") == 2
    assert shown.value(looks.format(".chart > .wide")) == "none"
    shown.ask("Emulation.setEmulatedMedia", media="print")
    assert shown.value(looks.format(".chart > .wide")) == "block"
    assert shown.value(looks.format(".chart > .live")) == "none"
    shown.ask("Emulation.setEmulatedMedia", media="")
    shown.ask("Emulation.setScriptExecutionDisabled", value=True)
    shown.open((pages / "search.html").as_uri())
    shown.ask("Emulation.setScriptExecutionDisabled", value=False)
    assert shown.value(looks.format(".chart > .wide")) == "block"
    assert shown.value("document.querySelectorAll('thead button').length") == 0
