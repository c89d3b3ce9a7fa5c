"""Reports: one HTML file that needs no network, can be printed, and reads well in the dark and without colours.

`page` makes the file of `Part`s; the others make what they hold.  Any plugin may import these names.
"""

from __future__ import annotations

from mergecore_plugins.reports.cells import HeatMap, heat_map
from mergecore_plugins.reports.drawing.bars import bars
from mergecore_plugins.reports.drawing.dots import Dot, dots
from mergecore_plugins.reports.drawing.lines import Line, lines
from mergecore_plugins.reports.drawing.parallel import Axis, parallel
from mergecore_plugins.reports.drawing.points import Point, points
from mergecore_plugins.reports.evaluations import evaluation_report
from mergecore_plugins.reports.html import Part, bullets, command, data_table, fact_list, page, paragraph
from mergecore_plugins.reports.layers import LayerMap, Spot, layer_map, layer_maps, spot
from mergecore_plugins.reports.searches import search_report
from mergecore_plugins.reports.words import counted, joined

__all__ = [
    "Axis",
    "Dot",
    "HeatMap",
    "LayerMap",
    "Line",
    "Part",
    "Point",
    "Spot",
    "bars",
    "bullets",
    "command",
    "counted",
    "data_table",
    "dots",
    "evaluation_report",
    "fact_list",
    "heat_map",
    "joined",
    "layer_map",
    "layer_maps",
    "lines",
    "page",
    "paragraph",
    "parallel",
    "points",
    "search_report",
    "spot",
]
