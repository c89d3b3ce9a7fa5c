"""How far a merge is, from the events that it writes; read `progress_of`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mergecore import MergecoreError
from mergecore.files import parse_json, size_text
from mergecore_plugins.ui.runs.run import OUTPUT, Run

TAIL = 1 << 16
"""Bytes at the end of the events that are read."""


@dataclass(frozen=True)
class Progress:
    """A share from 0 to 1, None where it is not known; and words."""

    share: float | None
    words: str


def progress_of(run: Run) -> Progress:
    """How far a run is."""
    event = _last(run)
    match event.get("event"):
        case "StepDone":
            return _steps(event, left=run.state == "running")
        case "Fetching":
            share = event["all_done_bytes"] / max(event["all_bytes"], 1)
            words = f"downloading {event['model']}: {_of(event['all_done_bytes'], event['all_bytes'])}"
            return Progress(share, words)
        case "ModelSealed" if not event["made"]:
            return Progress(1.0, "it was there already, made in the same way")
        case "ModelSealed":
            return Progress(1.0, f"{size_text(event['nbytes'])} in {duration(event['seconds'])}")
        case "PlanReady":
            return Progress(0.0, f"{event['tensors']} tensors, {size_text(event['nbytes'])}")
    return Progress(None, "")


def made_bytes(run: Run) -> int:
    """The bytes that a run wrote; 0 for one that is not done, or that found everything there already."""
    event = _last(run) if run.state == "done" else {}
    return int(event["nbytes"]) if event.get("event") == "ModelSealed" and event["made"] else 0


def _steps(event: Mapping[str, Any], *, left: bool) -> Progress:
    share = event["done_bytes"] / max(event["total_bytes"], 1)
    words = f"{event['done']} of {event['total']} tensors, {_of(event['done_bytes'], event['total_bytes'])}"
    if left and event["seconds"] > 2 and 0 < share < 1:
        words += f", about {duration(event['seconds'] * (1 - share) / share)} left"
    return Progress(share, words)


def _of(done: int, total: int) -> str:
    return f"{size_text(done)} of {size_text(total)}"


def duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _last(run: Run) -> Mapping[str, Any]:
    """The last event that a run wrote to its end; empty where there is none."""
    try:
        with (run.folder / OUTPUT).open("rb") as file:
            file.seek(max(file.seek(0, 2) - TAIL, 0))
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return {}
    for line in reversed(lines):
        if line.endswith(b"\n") and line.startswith(b'{"event"'):
            try:
                found = parse_json(line, code="E104", nan=True, infinite=True)
            except MergecoreError:
                continue
            if isinstance(found, dict) and found.get("event") in (
                "StepDone",
                "Fetching",
                "ModelSealed",
                "PlanReady",
            ):
                return found
    return {}
