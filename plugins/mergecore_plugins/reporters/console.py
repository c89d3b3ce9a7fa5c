"""The reporter for people: a line of progress on a terminal, a line now and then elsewhere; on standard error."""

from __future__ import annotations

import sys

from mergecore import hookimpl
from mergecore.errors import printable
from mergecore.files.sizes import size_text
from mergecore.types.events import Event, ModelSealed, PlanReady, StepDone, Warned

SECONDS_BETWEEN_LINES = 10


@hookimpl
def mergecore_report(event: Event) -> None:
    if event.display.style != "console" or event.display.verbosity < 0:
        return
    match event:
        case PlanReady():
            models = "1 model" if len(event.models) == 1 else f"{len(event.models)} models"
            say(
                event,
                f"merging {models}: {event.tensors} tensors, {size_text(event.nbytes)}, "
                f"about {size_text(event.peak_memory)} of memory",
            )
            for text in event.warnings:
                say(event, f"warning: {text}")
        case StepDone():
            step(event)
        case Warned():
            say(event, f"warning: {event.text}")
        case ModelSealed(made=False):
            compared = f": {event.compared}" if event.compared else ""
            say(event, f"{event.path} holds this merge already; nothing to do{compared}")
        case ModelSealed():
            rate = size_text(int(event.nbytes / max(event.seconds, 1e-9)))
            size = size_text(event.nbytes)
            say(event, f"done: {event.path} ({size} in {event.seconds:.1f} s, {rate}/s)")


def step(event: StepDone) -> None:
    """Show progress: over and over in one line on a terminal, else each ten seconds in a new one."""
    rate = event.done_bytes / max(event.seconds, 1e-9)
    left = (event.total_bytes - event.done_bytes) / max(rate, 1e-9)
    text = (
        f"{event.done} of {event.total} tensors, {size_text(event.done_bytes)} of {size_text(event.total_bytes)}, "
        f"{size_text(int(rate))}/s, {left:.0f} s left"
    )
    if event.display.verbosity > 0:
        say(event, f"  {event.name}")
    if event.done == event.total:
        clear(event)
    elif event.display.terminal:
        clear(event)
        sys.stderr.write(f"{bar(event.done_bytes / max(event.total_bytes, 1))} {text}")
        sys.stderr.flush()
    elif crossed(event.previous_seconds, event.seconds):
        say(event, text)


def crossed(before: float, after: float) -> bool:
    """Whether a multiple of ten seconds lies between two times."""
    return int(before // SECONDS_BETWEEN_LINES) != int(after // SECONDS_BETWEEN_LINES)


def bar(fraction: float, width: int = 24) -> str:
    """A bar that is filled to `fraction`."""
    full = round(fraction * width)
    return "█" * full + "░" * (width - full)


def say(event: Event, text: str) -> None:
    """Write a line, where the bar was if there is one; names in it come from files."""
    clear(event)
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def clear(event: Event) -> None:
    """Take the bar away from a terminal."""
    if event.display.terminal:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
