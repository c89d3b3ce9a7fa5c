"""What a merge method is given: tensors in blocks, exact order statistics, sums, random numbers; read `group` first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.files.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.compute.reduction import gram, tree_sum
    from mergecore.compute.topk import kept_count
    from mergecore.compute.topk_model import ModelCut, find_cuts, parts_of_models
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "reduction": "gram tree_sum",
            "topk": "kept_count",
            "topk_model": "ModelCut find_cuts parts_of_models",
        },
    )

__all__ = [
    "ModelCut",
    "find_cuts",
    "gram",
    "kept_count",
    "parts_of_models",
    "tree_sum",
]
