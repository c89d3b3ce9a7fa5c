"""From `cfg.yml` to a `MergeConfig`: grammar, parameters, filters, model references; read `grammar` first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.config.chosen import Choice, read_params
    from mergecore.config.leftovers import OBSOLETE, OPTIONS, other_document
    from mergecore.config.parameters.settings import values_of
    from mergecore.config.reference import HUB, Exists, exists_below, nearest, parse_reference
    from mergecore.config.values import Dtype, Reference
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "chosen": "Choice read_params",
            "leftovers": "OBSOLETE OPTIONS other_document",
            "parameters.settings": "values_of",
            "reference": "HUB Exists exists_below nearest parse_reference",
            "values": "Dtype Reference",
        },
    )

__all__ = [
    "HUB",
    "OBSOLETE",
    "OPTIONS",
    "Choice",
    "Dtype",
    "Exists",
    "Reference",
    "exists_below",
    "nearest",
    "other_document",
    "parse_reference",
    "read_params",
    "values_of",
]
