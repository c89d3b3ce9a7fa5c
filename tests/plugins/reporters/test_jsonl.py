"""What a merge tells programs."""

from __future__ import annotations

import json

import pytest

from mergecore.types.events import Display, StepDone, Warned
from mergecore_plugins.reporters.jsonl import mergecore_report


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    mergecore_report(StepDone(Display(style="jsonl"), "a\nb", 1, 2, 3, 4, 5.5, 5.0))
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "event": "StepDone",
        "name": "a\nb",
        "done": 1,
        "total": 2,
        "done_bytes": 3,
        "total_bytes": 4,
        "seconds": 5.5,
        "previous_seconds": 5.0,
    }


def test_nothing_is_told_when_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    mergecore_report(Warned(Display(), "x"))
    assert capsys.readouterr() == ("", "")
