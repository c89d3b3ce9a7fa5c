"""Checks of reporters; read `check_reporter`, then `REPORTER`."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Collection, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from mergecore.testing.findings import Property, demand, hold
from mergecore.types import Event
from mergecore.types.events import Display, Fetching, ModelSealed, PlanReady, StepDone, Warned


def check_reporter(report: Callable[[Event], object], *, without: Collection[str] = ()) -> None:
    """Check that a reporter hears every event, also those that it does not know, and prints nothing unasked.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    hold("reporter", REPORTER, report, without)


@dataclass(frozen=True)
class LaterEvent:
    """An event that a later version may have."""

    display: Display = field(default_factory=Display)


def events(display: Display) -> list[Any]:
    """An event of each kind, and one that no reporter knows."""
    return [
        PlanReady(display, ("org/a", "org/b"), 2, 64, 1 << 28, ("something is odd",)),
        Fetching(display, "org/a", "model.safetensors", 10, 20, 10, 20, 0.5, 0.0),
        StepDone(display, "model.norm.weight", 1, 2, 32, 64, 0.5, 0.0),
        Warned(display, "something is odd"),
        StepDone(display, "lm_head.weight", 2, 2, 64, 64, 1.0, 0.5),
        LaterEvent(display),
        ModelSealed(display, "out", 64, 1.0),
        ModelSealed(display, "out", 64, 0.0, made=False, compared="every byte"),
    ]


DISPLAYS = tuple(
    Display(style, verbosity) for style in ("console", "jsonl", "none") for verbosity in (-1, 0, 1)
)


def _hears_everything(report: Callable[[Any], object]) -> None:
    for display in DISPLAYS:
        for event in events(display):
            try:
                with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                    report(event)
            except Exception as error:
                raise AssertionError(
                    f"it raises {type(error).__name__} for {type(event).__name__} with {display}: {error}; "
                    "a reporter that raises is not called again; ignore events that it does not know"
                ) from error


def _prints_nothing_unasked(report: Callable[[Any], object]) -> None:
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(io.StringIO()):
        for event in events(Display("none")):
            report(event)
    demand(
        not printed.getvalue(),
        f"it prints {printed.getvalue()[:60]!r} to the standard output where `display.style` is 'none'; "
        "that is for results",
    )


def _leaves_events_alone(report: Callable[[Any], object]) -> None:
    made = events(Display("none"))
    before = pickle.dumps(made)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        for event in made:
            report(event)
    demand(pickle.dumps(made) == before, "it changes an event, which other reporters hear, too")


REPORTER: Sequence[Property[Callable[[Event], object]]] = (
    Property("hears", "it hears every event without an error", _hears_everything),
    Property("quiet", "it prints nothing where nothing is to be shown", _prints_nothing_unasked),
    Property("events", "events stay as they are", _leaves_events_alone),
)
"""What every reporter keeps."""
