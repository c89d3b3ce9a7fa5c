"""What a merge method is given: tensors in blocks, exact order statistics, sums, random numbers; read `group` first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.compute.devices import device
    from mergecore.compute.random import normal, uniform_numbers
    from mergecore.compute.reduction import gram, tree_sum
    from mergecore.compute.threads import one_thread_each
    from mergecore.compute.topk.one_tensor import kept_count
    from mergecore.compute.topk.whole_model import GroupInput, ModelCut, find_cuts, inputs_by_model
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "devices": "device",
            "random": "normal uniform_numbers",
            "reduction": "gram tree_sum",
            "threads": "one_thread_each",
            "topk.one_tensor": "kept_count",
            "topk.whole_model": "GroupInput ModelCut find_cuts inputs_by_model",
        },
    )

__all__ = [
    "GroupInput",
    "ModelCut",
    "device",
    "find_cuts",
    "gram",
    "inputs_by_model",
    "kept_count",
    "normal",
    "one_thread_each",
    "tree_sum",
    "uniform_numbers",
]
