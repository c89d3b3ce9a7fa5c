"""Reports: one HTML file that needs no network, can be printed, and reads well in the dark and without colours.

`page` makes the file of `Part`s; `heat_map`, `data_table` and `paragraph` make what they hold.  Any plugin may import
these names.
"""

from __future__ import annotations

from mergecore_plugins.reports.cells import HeatMap, heat_map
from mergecore_plugins.reports.html import Part, data_table, page, paragraph

__all__ = ["HeatMap", "Part", "data_table", "heat_map", "page", "paragraph"]
