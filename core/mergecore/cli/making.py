"""Commands that make a model of a document, as `transplant` does: their options, and what they do with them.

`making_options` adds the options; a `Maker` plans what the command asks for, and shows the plan or carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mergecore.cli.options import common_options, output_options, run_options, size_options
from mergecore.cli.screen import show_text

if TYPE_CHECKING:
    from mergecore.config.documents import Config
    from mergecore.types import Plan, PlanOptions

F = TypeVar("F", bound=Callable[..., Any])


def making_options(seed: str | None = None) -> Callable[[F], F]:
    """Add `--plan`, `--offline`, and the options that `size_options`, `output_options` and `common_options` add.

    seed: the help of `--seed`; None where nothing is random.
    """

    def add(command: F) -> F:
        for option in (common_options, output_options, size_options, _OFFLINE):
            command = option(command)
        if seed is not None:
            command = click.option(
                "--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help=seed
            )(command)
        return _PLAN(command)

    return add


_OFFLINE = click.option(
    "--offline", is_flag=True, help="Do not use the network; read hub models from the cache."
)
_PLAN = click.option("--plan", "only_plan", is_flag=True, help="Show what would be done; read headers only.")


class Maker:
    """Plans documents and carries them out, as the options of a command say.

    given: the values of all options that `making_options` adds, by name; and of those of `merge` that say how models
        must agree, such as `allow_crimes`, where the command has them.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Read the options and find the plugins.

        Raises:
            click.UsageError: when options exclude each other.
        """
        from mergecore.plugins.registry import Registry
        from mergecore.types.plans import PlanOptions

        self.given = given
        self.run_options = run_options(given)
        self.registry = Registry.discover(given["disabled"])
        more = {
            name: given[name] for name in ("allow_crimes", "missing", "unexpected", "strict") if name in given
        }
        self.plan_options: PlanOptions = PlanOptions(given["offline"], shard_size=given["shard_size"], **more)

    def plan(self, document: Config) -> Plan:
        """The plan of a document."""
        from mergecore import pipeline

        return pipeline.plan(document, registry=self.registry, options=self.plan_options)

    def shown(self, plan: Plan) -> str:
        """The plan as `--plan` shows it: text, or JSON with `--json`."""
        from mergecore.cli.show_plan import plan_shown

        return plan_shown(plan, self.registry, self.given)

    def show(self, text: str) -> None:
        """Print what `shown` returned, perhaps with more of the command's own."""
        (click.echo if self.given["as_json"] else show_text)(text)

    def execute(self, plan: Plan, out: Path) -> Path:
        """Carry out the plan; the finished folder."""
        from mergecore import pipeline

        return pipeline.execute(plan, out, registry=self.registry, options=self.run_options)

    def show_or_execute(self, plan: Plan, out: Path) -> Path | None:
        """Show the plan where `--plan` asks for that, and return nothing; otherwise carry it out."""
        if self.given["only_plan"]:
            self.show(self.shown(plan))
            return None
        return self.execute(plan, out)
