"""What all parts of the page work with; read `Desk`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from mergecore import Registry, check_text
from mergecore.types import Json
from mergecore_plugins.ui.faults import Fault, faults_of

if TYPE_CHECKING:
    from jinja2 import Environment

    from mergecore_plugins.ui.planning.planner import Planned, Planner
    from mergecore_plugins.ui.runs.history import History
    from mergecore_plugins.ui.runs.queue import Runs

NAME = "config.yml"
"""What the text in the editor is called as long as it has no other name."""


@dataclass(frozen=True)
class Desk:
    """The folder that the page works in, what is installed, what plans and what runs.

    disabled: the plugins that are not used, also by runs.
    """

    folder: Path
    registry: Registry
    planner: Planner
    runs: Runs
    history: History
    templates: Environment
    disabled: Sequence[str] = ()

    @property
    def can_report(self) -> bool:
        """Whether `mergecore report` is there, which writes a page about a merge."""
        return any(one.name == "report" for one in self.registry.all(click.Command))

    async def check(self, text: str, name: str = NAME) -> list[Fault]:
        """What is wrong with a text, as far as it shows without opening a model; within milliseconds."""
        return await run_in_threadpool(
            lambda: faults_of(check_text(text, name, registry=self.registry), name)
        )

    async def plan(
        self,
        text: str,
        name: str = NAME,
        *,
        offline: bool = True,
        threads: int | None = None,
        max_memory: int | None = None,
    ) -> Planned:
        """The plan of a text, or all that is wrong with it, as the command line says it.

        Raises:
            Superseded: when newer text was to be planned meanwhile.
        """
        asked: Mapping[str, Json] = {
            "text": text,
            "name": name,
            "offline": offline,
            "threads": threads,
            "max_memory": max_memory,
        }
        return await self.planner.plan(asked)

    def render(self, template: str, status_code: int = 200, **context: object) -> HTMLResponse:
        """A template, filled; it may use `desk`."""
        text = self.templates.get_template(template).render(desk=self, **context)
        return HTMLResponse(text, status_code)
