"""How the routers of a mixture are made: prompts, modes, and the step that runs the base over them.

`GateKeys` and `PromptKeys` are what a document says, `gate_step` plans, `gate_method` carries out, and `conditions`
looks at what was written.
"""

from __future__ import annotations

from mergecore_plugins.moe.gating.methods import gate_method
from mergecore_plugins.moe.gating.planning import GatePlan, Router, gate_step
from mergecore_plugins.moe.gating.report import conditions
from mergecore_plugins.moe.gating.settings import MODES, RANDOM, GateKeys, GateMode, PromptKeys

__all__ = [
    "MODES",
    "RANDOM",
    "GateKeys",
    "GateMode",
    "GatePlan",
    "PromptKeys",
    "Router",
    "conditions",
    "gate_method",
    "gate_step",
]
