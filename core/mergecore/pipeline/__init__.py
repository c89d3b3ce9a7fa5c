"""The pipeline: config to plan to folder.  Read this first; each stage is one call.

`plan` decides everything from headers, `execute` makes it so in a folder and `run` in memory; `merge` is both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.pipeline.coefficients import policy_request, with_coefficients
    from mergecore.pipeline.folders import execute, merge
    from mergecore.pipeline.in_memory import merge_state_dicts, merge_tensors, run
    from mergecore.pipeline.keeping import Kept
    from mergecore.pipeline.opening import OpenedModel, open_model
    from mergecore.pipeline.plans import made_already, plan, planner
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "coefficients": "policy_request with_coefficients",
            "folders": "execute merge",
            "in_memory": "merge_state_dicts merge_tensors run",
            "keeping": "Kept",
            "opening": "OpenedModel open_model",
            "plans": "made_already plan planner",
        },
    )

__all__ = [
    "Kept",
    "OpenedModel",
    "execute",
    "made_already",
    "merge",
    "merge_state_dicts",
    "merge_tensors",
    "open_model",
    "plan",
    "planner",
    "policy_request",
    "run",
    "with_coefficients",
]
