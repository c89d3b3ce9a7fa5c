"""The reporter for people: a bar on a terminal, a line now and then elsewhere; on standard error.

Events say how far a merge is, so nothing is kept between them: each draws the bar anew.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mergecore import hookimpl
from mergecore.errors import printable
from mergecore.files import size_text
from mergecore.types import Event, ModelSealed, PlanReady, StepDone, Warned

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 10
UPDATES_PER_SECOND = 10
BAR_WIDTH = 24


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
    if event.display.verbosity > 0:
        say(event, f"  {event.name}")
    if event.done == event.total:
        clear(event)
    elif redraws(event):
        if event.done == 1 or crossed(event.previous_seconds, event.seconds, 1 / UPDATES_PER_SECOND):
            draw(event)
    elif crossed(event.previous_seconds, event.seconds, SECONDS_BETWEEN_LINES):
        say(event, progress(event))


def progress(event: StepDone) -> str:
    """How far the merge is; how long it will take is said when a second has shown the speed."""
    rate = event.done_bytes / max(event.seconds, 1e-9)
    left = (event.total_bytes - event.done_bytes) / max(rate, 1e-9)
    text = f"{event.done} of {event.total} tensors, {size_text(event.done_bytes)} of {size_text(event.total_bytes)}"
    return f"{text}, {size_text(int(rate))}/s, {left:.0f} s left" if event.seconds >= 1 else text


def draw(event: StepDone) -> None:
    """The bar and the progress in one line, cut to the width of the terminal, in place of the one before."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    screen = console()
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=min(BAR_WIDTH, screen.width // 3))
    grid.add_column(no_wrap=True, overflow="crop")
    grid.add_row(ProgressBar(total=event.total_bytes, completed=event.done_bytes), Text(progress(event)))
    with screen.capture() as drawn:
        screen.print(grid, width=screen.width - 1, crop=True)
    clear(event)
    sys.stderr.write(drawn.get().rstrip())
    sys.stderr.flush()


def console() -> Console:
    """Standard error as rich sees it."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False)


def crossed(before: float, after: float, step: float) -> bool:
    """Whether a multiple of `step` seconds lies between two times."""
    return int(before // step) != int(after // step)


def redraws(event: Event) -> bool:
    """Whether a line can be written again: on a terminal that is not a dumb one."""
    return event.display.terminal and os.environ.get("TERM") != "dumb"


def say(event: Event, text: str) -> None:
    """Write a line, where the bar was if there is one, wrapped at words on a terminal; names in it come from files."""
    clear(event)
    if redraws(event):
        from rich.text import Text

        console().print(Text(printable(text)))
    else:
        sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def clear(event: Event) -> None:
    """Take the bar away from a terminal."""
    if redraws(event):
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
