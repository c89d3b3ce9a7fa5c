"""The panels of the page, in the order in which they stand on it."""

from __future__ import annotations

from mergecore_plugins.ui.grid import PANEL as GRID
from mergecore_plugins.ui.panels import Panel
from mergecore_plugins.ui.trying import ASK, EVALUATE

PANELS: tuple[Panel, ...] = (GRID, ASK, EVALUATE)
