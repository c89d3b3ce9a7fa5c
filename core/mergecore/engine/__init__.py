"""From a plan to bytes, step by step through the output; read `run`, then `step`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.files.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.engine.memory import Estimate, estimate
    from mergecore.engine.run import Run
    from mergecore.engine.tensors import open_tensors
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "memory": "Estimate estimate",
            "run": "Run",
            "tensors": "open_tensors",
        },
    )

__all__ = [
    "Estimate",
    "Run",
    "estimate",
    "open_tensors",
]
