"""`mergecore average`: checkpoints of one training run, found by their steps and merged by the method `average`.

`runs.py` finds the checkpoints, `choosing.py` makes a merge config of those that are asked for.  The callbacks of
Trainer are names that anybody may import; transformers is loaded with the first of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

import click

from mergecore import hookimpl
from mergecore_plugins.averaging.command import average
from mergecore_plugins.methods.common import Schedule

if TYPE_CHECKING:
    from mergecore_plugins.averaging.callbacks.running import RunningAverageCallback
    from mergecore_plugins.averaging.callbacks.saved import AveragingCallback
else:
    _HOMES = {"AveragingCallback": "saved", "RunningAverageCallback": "running"}

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(import_module(f"{__name__}.callbacks.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})


__all__ = ["AveragingCallback", "RunningAverageCallback", "Schedule"]


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the command `average`."""
    yield average
