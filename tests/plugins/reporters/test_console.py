"""What a merge tells people, on a terminal and elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from terminal import ANSI, python_on_a_terminal

from mergecore.types.events import Display, Event, Fetching, ModelSealed, PlanReady, StepDone, Warned
from mergecore_plugins.reporters.console import crossed, duration, mergecore_report, progress

PIPE, TERMINAL = Display(), Display(terminal=True)
CLEAR = "\r\x1b[K"
READY = PlanReady(PIPE, ("m/a", "m/b"), 21, 3_000_000, 250_000_000, ("mind the gap",))
HALF = StepDone(PIPE, "a.weight", 10, 20, 1_000_000, 3_000_000, 2.0, 1.0)
DONE = ModelSealed(PIPE, "out", 3_000_000, 1.5)


PRELUDE = """
from mergecore.types.events import Display, ModelSealed, PlanReady, StepDone, Warned
from mergecore_plugins.reporters.console import mergecore_report
"""
MERGE_OF_272 = (
    PRELUDE
    + """
display = Display(terminal=True)
mergecore_report(PlanReady(display, ("a", "b"), 272, 272_000_000, 250_000_000, ()))
for i in range(272):
    seconds = 2 * (i + 1) / 272
    mergecore_report(StepDone(display, f"t{i}", i + 1, 272, (i + 1) * 10**6, 272 * 10**6, seconds, 2 * i / 272))
mergecore_report(ModelSealed(display, "out", 272_000_000, 2.0))
"""
)


def said(event: Event, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    mergecore_report(event)
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_the_beginning_and_the_end_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(READY, capsys) == (
        "merging 2 models: 21 tensors, 3 MB, about 250 MB of memory\nwarning: mind the gap\n"
    )
    assert said(replace(READY, doing="merging 2 adapters", warnings=()), capsys) == (
        "merging 2 adapters: 21 tensors, 3 MB, about 250 MB of memory\n"
    )
    assert said(DONE, capsys) == "done: out (3 MB in 1.5 s, 2 MB/s)\n"
    assert said(Warned(PIPE, "careful"), capsys) == "warning: careful\n"


def test_downloads_are_told_file_by_file(capsys: pytest.CaptureFixture[str]) -> None:
    """2 of 8 MB in 2 s, so the other 6 MB take 6 s; a line for a file that has come, else one each ten seconds."""
    part = Fetching(PIPE, "o/n", "model-1.safetensors", 1_000_000, 4_000_000, 2_000_000, 8_000_000, 2.0, 1.85)
    whole = replace(part, done_bytes=4_000_000)
    assert said(part, capsys) == ""
    late = replace(part, seconds=20.0, previous_seconds=19.0)
    assert said(late, capsys) == "downloading 2 MB of 8 MB, 100 kB/s, 60 s left, model-1.safetensors\n"
    assert said(whole, capsys) == "downloaded o/n: model-1.safetensors (4 MB)\n"
    shown = said(replace(part, display=TERMINAL), capsys)
    assert re.fullmatch(
        rf"{re.escape(CLEAR)}[━╸╺ ]{{10}} downloading 2 MB of 8 MB, 1 MB/s, 6 s left, model.*", shown
    )


def test_a_terminal_shows_a_bar_that_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    """1 MB in 2 s, so the other 2 MB take 4 s."""
    shown = said(replace(HALF, display=TERMINAL), capsys)
    assert re.fullmatch(
        rf"{re.escape(CLEAR)}[━╸╺ ]{{10}} 10 of 20 tensors, 1 MB of 3 MB, 500 kB/s, 4 s left *", shown
    )


def test_no_time_is_guessed_in_the_first_second(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(replace(HALF, display=TERMINAL, seconds=0.9, previous_seconds=0.5), capsys)
    assert shown.rstrip().endswith("10 of 20 tensors, 1 MB of 3 MB")


def test_no_time_is_guessed_from_the_first_of_many_bytes() -> None:
    """The first tensor waits for the start: 64 bytes of 1 MB in 3 s are no speed; a twentieth of all is."""
    early = StepDone(TERMINAL, "a", 1, 20, 64, 1_000_000, 3.0, 0.0)
    assert progress(early)[0] == "1 of 20 tensors, 64 bytes of 1 MB"
    assert progress(replace(early, done_bytes=50_000))[0].endswith(", 57 s left")
    large = replace(early, done_bytes=256_000_000, total_bytes=100_000_000_000, seconds=0.5)
    assert "left" not in progress(large)[0]
    assert progress(replace(large, seconds=1.0))[0].endswith(", 256 MB/s, 7 min left")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (120, "1201 of 2900 tensors, 12 GB of 254 GB, 842 MB/s, 5 min left"),
        (80, "1201 of 2900 tensors, 12 GB of 254 GB, 842 MB/s, 5 min left"),
        (66, "1201 of 2900 tensors, 12 GB of 254 GB, 5 min left"),
        (46, "1201 of 2900 tensors, 5 min left"),
        (30, "1201 of 2900 tensors"),
    ],
)
def test_the_words_fit_the_room_they_have(columns: int, words: str) -> None:
    event = "StepDone(Display(terminal=True), 'a', 1201, 2900, 12_040_000_000, 254_100_000_000, 14.3, 14.2)"
    shown = ANSI.sub("", python_on_a_terminal(f"{PRELUDE}mergecore_report({event})", columns))
    assert shown.endswith(f" {words}")
    assert len(shown.strip()) < columns


def test_a_duration_is_said_as_people_say_it() -> None:
    assert [duration(seconds) for seconds in (0, 45, 99, 100, 3600, 10_647)] == [
        "0 s",
        "45 s",
        "99 s",
        "2 min",
        "60 min",
        "2 h 58 min",
    ]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_272_tensors_in_two_seconds_take_one_line_and_twenty_updates(columns: int) -> None:
    screen = python_on_a_terminal(MERGE_OF_272, columns)

    before, _, after = screen.partition("done: ")
    updates = before.split("\r")[1:]
    assert before.count("\n") == (1 if columns > 70 else 2)  # the line that says what is merged
    assert 10 <= sum("of 272 tensors" in one for one in updates) <= 22
    assert max(len(line) for one in updates for line in ANSI.sub("", one).split("\n")) <= columns
    assert after.startswith("out (")


@pytest.mark.parametrize(
    ("variables", "mark"),
    [({"PYTHONIOENCODING": "ascii"}, "-" * 5), ({"TERM": "dumb"}, "")],
    ids=["ascii", "dumb"],
)
def test_a_terminal_that_can_do_less_gets_less(variables: dict[str, str], mark: str) -> None:
    screen = python_on_a_terminal(MERGE_OF_272, 80, variables)

    assert mark in screen
    assert screen.isascii()
    if variables.get("TERM") == "dumb":
        assert "\x1b" not in screen
        assert screen.count("\n") == 2  # the beginning and the end


def test_a_name_in_brackets_is_not_taken_for_a_colour() -> None:
    code = PRELUDE + "mergecore_report(Warned(Display(terminal=True), '[red]x[/red] is odd'))\n"
    assert "warning: [red]x[/red] is odd" in python_on_a_terminal(code, 80)


def test_the_bar_is_taken_away_before_a_line_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(Warned(TERMINAL, "careful"), capsys) == f"{CLEAR}warning: careful\n"
    assert said(replace(HALF, display=TERMINAL, done=20), capsys) == CLEAR


def test_elsewhere_a_line_is_written_each_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(HALF, capsys) == ""
    assert said(replace(HALF, seconds=20.5, previous_seconds=19.9), capsys).startswith("10 of 20 tensors, ")
    assert said(replace(HALF, seconds=20.5, previous_seconds=19.9, done=20), capsys) == ""
    times = [(0, 9.9), (9.9, 10), (10, 19), (1, 35)]
    assert [crossed(*one, step=10) for one in times] == [False, True, False, True]


@pytest.mark.parametrize("terminal", [False, True])
def test_more_is_told_when_asked(terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(replace(HALF, display=Display(verbosity=1, terminal=terminal)), capsys)
    assert "  a.weight\n" in shown
    assert shown.startswith(f"{CLEAR}  a.weight\n" if terminal else "  a.weight\n")


@pytest.mark.parametrize("display", [Display(verbosity=-1), Display(style="jsonl"), Display(style="none")])
@pytest.mark.parametrize("event", [READY, HALF, DONE, Warned(PIPE, "x")])
def test_nothing_is_told_when_not_asked(
    display: Display, event: Event, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(replace(event, display=display), capsys) == ""


def test_names_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    loud = Display(verbosity=1)
    assert said(replace(HALF, display=loud, name="x\x1b[2J"), capsys) == "  x\\x1b[2J\n"
    assert said(replace(DONE, path="o\nut"), capsys).startswith("done: o\\nut (")
    assert said(Warned(PIPE, "a\rb"), capsys) == "warning: a\\rb\n"


def test_nothing_has_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    empty = StepDone(TERMINAL, "e", 1, 2, 0, 0, 0.0, 0.0)
    assert "1 of 2 tensors, 0 bytes of 0 bytes" in said(empty, capsys)
    assert said(ModelSealed(PIPE, "out", 0, 0.0), capsys) == "done: out (0 bytes in 0.0 s, 0 bytes/s)\n"
