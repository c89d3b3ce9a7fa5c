"""{{ cookiecutter.name }}: a line for every model that is made, in the file that $MERGE_LOG names."""

import os
from pathlib import Path

from mergecore import hookimpl
from mergecore.types import Event, ModelSealed


@hookimpl
def mergecore_report(event: Event) -> None:
    """Take note of finished models; all other events are passed over."""
    name = os.environ.get("MERGE_LOG")
    if name and isinstance(event, ModelSealed):
        with Path(name).open("a", encoding="utf8") as log:
            log.write(f"{event.path}\t{event.nbytes} bytes\t{event.seconds:.1f} s\n")
