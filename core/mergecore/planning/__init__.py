"""From a config and open models to a plan; read `merge`, which is the whole order of events, first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.files.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.planning.before import Actual, Before, in_memory, in_order, scratch_folder
    from mergecore.planning.embedding_rows import rows_in_words
    from mergecore.planning.merge import plan_merge
    from mergecore.planning.planner import DocumentPlanner
    from mergecore.planning.state_dicts import NOWHERE, StateDicts, config_of
    from mergecore.planning.toolkit import checked_side_files, codecs_of, methods_of
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "before": "Actual Before in_memory in_order scratch_folder",
            "embedding_rows": "rows_in_words",
            "merge": "plan_merge",
            "planner": "DocumentPlanner",
            "state_dicts": "NOWHERE StateDicts config_of",
            "toolkit": "checked_side_files codecs_of methods_of",
        },
    )

__all__ = [
    "NOWHERE",
    "Actual",
    "Before",
    "DocumentPlanner",
    "StateDicts",
    "checked_side_files",
    "codecs_of",
    "config_of",
    "in_memory",
    "in_order",
    "methods_of",
    "plan_merge",
    "rows_in_words",
    "scratch_folder",
]
