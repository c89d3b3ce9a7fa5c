"""A bar on a terminal, a line now and then elsewhere.

Events say how far a merge is, so nothing is kept between them: each draws the bar anew.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergecore import hookimpl
from mergecore.errors import counted, printable
from mergecore.files import size_text
from mergecore.types import Event, Fetching, ModelSealed, PlanReady, StepDone, Warned

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 10
UPDATES_PER_SECOND = 10
BAR_WIDTH, WIDE = 24, 100
"""The bar has this width on terminals of so many columns; on narrower ones the words need the room."""
STEADY_BYTES = 256_000_000
"""The time left is shown when so much is done, or a twentieth of all."""


@hookimpl
def mergecore_report(event: Event) -> None:
    if event.display.style != "console" or event.display.verbosity < 0:
        return
    match event:
        case PlanReady():
            models = "1 model" if len(event.models) == 1 else f"{len(event.models)} models"
            size = f"{event.tensors} tensors, {size_text(event.nbytes)}"
            doing = event.doing or f"merging {models}"
            memory = size_text(event.peak_memory)
            say(event, f"{document(event)}{doing}: {size}, about {memory} of memory")
            for text in event.warnings:
                say(event, f"warning: {text}")
        case Fetching():
            fetching(event)
        case StepDone():
            step(event)
        case Warned():
            say(event, f"warning: {event.text}")
        case ModelSealed(made=False):
            compared = f": {event.compared}" if event.compared and event.display.verbosity > 0 else ""
            say(event, f"{event.path} holds this merge already; nothing to do{compared}")
        case ModelSealed():
            rate = size_text(int(event.nbytes / max(event.seconds, 1e-9)))
            size = size_text(event.nbytes)
            say(event, f"done: {event.path} ({size} in {event.seconds:.1f} s, {rate}/s)")


def document(event: PlanReady) -> str:
    """Which of several documents it is about to make."""
    name = f" ({event.document})" if event.document else ""
    return f"document {event.number} of {event.count}{name}: " if event.count else ""


def fetching(event: Fetching) -> None:
    """A line for each file that has come; on a terminal a bar of all files, elsewhere a line each ten seconds."""
    if event.done_bytes == event.total_bytes:
        say(event, f"downloaded {event.model}: {event.file} ({size_text(event.total_bytes)})")
    elif redraws(event):
        if crossed(event.previous_seconds, event.seconds, 1 / UPDATES_PER_SECOND):
            bar(event, event.all_done_bytes, event.all_bytes, download(event))
    elif crossed(event.previous_seconds, event.seconds, SECONDS_BETWEEN_LINES):
        say(event, download(event)[0])


def download(event: Fetching) -> list[str]:
    """How far the download of all files is, and of which one something has come; then the same in fewer words."""
    got = f"downloading {size_text(event.all_done_bytes)} of {size_text(event.all_bytes)}"
    rate, left = speed(event.all_done_bytes, event.all_bytes, event.seconds)
    return [joined(got, rate, left, event.file), joined(got, rate, left), joined(got, left), got]


def step(event: StepDone) -> None:
    """Show progress: over and over in one line on a terminal, else each ten seconds in a new one."""
    if event.display.verbosity > 0:
        say(event, f"  {event.name}")
    if event.done == event.total:
        clear(event)
    elif redraws(event):
        if event.done == 1 or crossed(event.previous_seconds, event.seconds, 1 / UPDATES_PER_SECOND):
            bar(event, event.done_bytes, event.total_bytes, progress(event))
    elif crossed(event.previous_seconds, event.seconds, SECONDS_BETWEEN_LINES):
        say(event, progress(event)[0])


def progress(event: StepDone) -> list[str]:
    """How far the merge is; then the same in fewer words."""
    tensors = f"{event.done} of {counted(event.total, 'tensor')}"
    size = f"{size_text(event.done_bytes)} of {size_text(event.total_bytes)}"
    rate, left = speed(event.done_bytes, event.total_bytes, event.seconds)
    return [joined(tensors, size, rate, left), joined(tensors, size, left), joined(tensors, left), tensors]


def joined(*parts: str) -> str:
    """The parts that are not empty, with commas between."""
    return ", ".join(part for part in parts if part)


def speed(done: int, total: int, seconds: float) -> tuple[str, str]:
    """Bytes in a second, and how long the rest will take; nothing before so much is done that both are sure."""
    if seconds < 1 or done < max(min(total / 20, STEADY_BYTES), 1):
        return "", ""
    rate = done / seconds
    return f"{size_text(int(rate))}/s", f"{duration((total - done) / rate)} left"


def duration(seconds: float) -> str:
    """Seconds as people say them: `45 s`, `12 min`, `3 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def bar(event: Event, done: int, total: int, texts: Sequence[str]) -> None:
    """A bar and the longest of the texts that fits the terminal, in place of the line before."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    screen = console()
    width = BAR_WIDTH if screen.width >= WIDE else max(screen.width // 8, 4)
    room = screen.width - width - 2
    text = next((one for one in map(printable, texts) if len(one) <= room), texts[-1])
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=width)
    grid.add_column(no_wrap=True, overflow="crop")
    grid.add_row(ProgressBar(total=total, completed=done), Text(printable(text)))
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
