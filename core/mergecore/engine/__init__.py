"""From a plan to bytes, step by step through the output; read `run`, then `step`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.engine.fused import computed_model
    from mergecore.engine.memory import Estimate, estimate
    from mergecore.engine.run import Run, tell
    from mergecore.engine.tensors import open_tensors
    from mergecore.engine.weights import StepInputs, WeightFiles
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "fused": "computed_model",
            "memory": "Estimate estimate",
            "run": "Run tell",
            "tensors": "open_tensors",
            "weights": "StepInputs WeightFiles",
        },
    )

__all__ = [
    "Estimate",
    "Run",
    "StepInputs",
    "WeightFiles",
    "computed_model",
    "estimate",
    "open_tensors",
    "tell",
]
