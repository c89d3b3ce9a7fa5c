"""One JSON object for each event, a line each, on standard output."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from mergecore import hookimpl
from mergecore.types import Event


@hookimpl
def mergecore_report(event: Event) -> None:
    if event.display.style != "jsonl":
        return
    facts = {key: value for key, value in asdict(event).items() if key != "display"}
    sys.stdout.write(json.dumps({"event": type(event).__name__, **facts}) + "\n")
    sys.stdout.flush()
