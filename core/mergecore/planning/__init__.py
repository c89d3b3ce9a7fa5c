"""From a config and open models to a plan; read `merge`, which is the whole order of events, first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.planning.before import (
        Actual,
        Before,
        in_memory,
        in_order,
        is_promised,
        reopened,
        scratch_folder,
    )
    from mergecore.planning.planner import DocumentPlanner
    from mergecore.planning.several.checking import check_text
    from mergecore.planning.several.compiling import Making, compiled, planned
    from mergecore.planning.state_dicts import NOWHERE, StateDicts, config_of, given_twice
    from mergecore.planning.toolkit import checked_side_files, codecs_of, methods_of
    from mergecore.planning.vocabulary.embedding_rows import rows_in_words
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "before": "Actual Before in_memory in_order is_promised reopened scratch_folder",
            "vocabulary.embedding_rows": "rows_in_words",
            "planner": "DocumentPlanner",
            "several.checking": "check_text",
            "several.compiling": "Making compiled planned",
            "state_dicts": "NOWHERE StateDicts config_of given_twice",
            "toolkit": "checked_side_files codecs_of methods_of",
        },
    )

__all__ = [
    "NOWHERE",
    "Actual",
    "Before",
    "DocumentPlanner",
    "Making",
    "StateDicts",
    "check_text",
    "checked_side_files",
    "codecs_of",
    "compiled",
    "config_of",
    "given_twice",
    "in_memory",
    "in_order",
    "is_promised",
    "methods_of",
    "planned",
    "reopened",
    "rows_in_words",
    "scratch_folder",
]
