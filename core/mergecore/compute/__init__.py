"""What a merge method is given: tensors in blocks, exact order statistics, sums, random numbers; read `group` first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.files.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.compute.random import normal, uniform_numbers
    from mergecore.compute.reduction import gram, tree_sum
    from mergecore.compute.topk import kept_count
    from mergecore.compute.topk_model import GroupInput, ModelCut, find_cuts, inputs_by_model
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "random": "normal uniform_numbers",
            "reduction": "gram tree_sum",
            "topk": "kept_count",
            "topk_model": "GroupInput ModelCut find_cuts inputs_by_model",
        },
    )

__all__ = [
    "GroupInput",
    "ModelCut",
    "find_cuts",
    "gram",
    "inputs_by_model",
    "kept_count",
    "normal",
    "tree_sum",
    "uniform_numbers",
]
