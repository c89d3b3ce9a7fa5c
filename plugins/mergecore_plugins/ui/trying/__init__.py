"""Two parts of the page that try a merge before it is kept: `Ask` and `Evaluate`, each the real command in a run.

`words` makes command lines, `results` reads what they print, `data` finds what models can be evaluated with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mergecore_plugins.ui.panels import Panel

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from mergecore_plugins.ui.desk import Desk


def _asking(desk: Desk) -> Sequence[BaseRoute]:
    from mergecore_plugins.ui.trying.routes import asking

    return asking(desk)


def _evaluating(desk: Desk) -> Sequence[BaseRoute]:
    from mergecore_plugins.ui.trying.routes import evaluating

    return evaluating(desk)


ASK = Panel(
    name="ask",
    title="Ask",
    folder=Path(__file__).parent,
    place="below",
    routes=_asking,
    scripts=("trying.js",),
    styles=("trying.css",),
    first="ask-prompts",
)
"""Prompts to the merge and the models beside it."""

EVALUATE = Panel(
    name="evaluate",
    title="Evaluate",
    folder=Path(__file__).parent,
    place="below",
    routes=_evaluating,
    first="evaluate-data",
)
"""Scores of the merge and of the models beside it, with intervals."""
