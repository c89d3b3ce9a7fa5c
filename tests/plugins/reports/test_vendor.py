"""The library that pages hold is the published one, with its licence."""

from __future__ import annotations

import hashlib
from pathlib import Path

import report_samples as samples

import mergecore_plugins.reports
from mergecore_plugins.reports import search_report

VENDOR = Path(mergecore_plugins.reports.__file__).with_name("vendor")
PUBLISHED = {  # of the package uplot 1.6.32 of npm
    "LICENSE.md": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


def test_uplot_is_as_it_was_published() -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    assert found == PUBLISHED


def test_a_page_that_holds_it_holds_its_licence() -> None:
    page = search_report(samples.search())
    assert (VENDOR / "uPlot.iife.min.js").read_text() in page
    assert (VENDOR / "LICENSE.md").read_text() in page
    assert "uPlot 1.6.32" in (Path(__file__).parents[3] / "NOTICE").read_text()
