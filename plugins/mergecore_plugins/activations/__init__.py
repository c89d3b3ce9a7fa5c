"""What flows through a real model of transformers, with the weights of one layer in memory at a time.

`runnable` finds out from headers how a model can be run; `observe` runs it over ids of tokens and shows what enters and
leaves its modules; `input_statistics` adds that up.  Any plugin may import these names; torch is loaded with the first
that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mergecore_plugins.activations.layout import RunLayout, Runnable, runnable
    from mergecore_plugins.activations.passes import Observer, Point, observe
    from mergecore_plugins.activations.statistics import Moments, Statistic, input_statistics
else:
    _HOMES = {
        **dict.fromkeys(("RunLayout", "Runnable", "runnable"), "layout"),
        **dict.fromkeys(("Observer", "Point", "observe"), "passes"),
        **dict.fromkeys(("Moments", "Statistic", "input_statistics"), "statistics"),
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})


__all__ = [
    "Moments",
    "Observer",
    "Point",
    "RunLayout",
    "Runnable",
    "Statistic",
    "input_statistics",
    "observe",
    "runnable",
]
