"""Reports: one HTML file that needs no network, can be printed, and reads well in the dark and without colours.

`page` makes the file of `Part`s; the others make what they hold.  Any plugin may import these names.
"""

from __future__ import annotations

from mergecore_plugins.reports.cells import HeatMap, heat_map
from mergecore_plugins.reports.html import Part, bullets, command, data_table, fact_list, page, paragraph
from mergecore_plugins.reports.layers import LayerMap, Spot, layer_map, layer_maps, spot
from mergecore_plugins.reports.words import counted, joined

__all__ = [
    "HeatMap",
    "LayerMap",
    "Part",
    "Spot",
    "bullets",
    "command",
    "counted",
    "data_table",
    "fact_list",
    "heat_map",
    "joined",
    "layer_map",
    "layer_maps",
    "page",
    "paragraph",
    "spot",
]
