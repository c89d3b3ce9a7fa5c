"""From a config to a plan, which decides everything and reads no weight."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mergecore.config.documents import Configs, document_of, documents_of
from mergecore.output.inputs import pinned
from mergecore.output.intermediate import (
    content_of,
    is_made,
)
from mergecore.output.manifest import identity
from mergecore.output.resume import described, fingerprint
from mergecore.output.target import holds_result
from mergecore.pipeline.arguments import check
from mergecore.planning.before import (
    Actual,
    Before,
    is_promised,
    reopened,
    scratch_folder,
)
from mergecore.planning.planner import DocumentPlanner
from mergecore.planning.several.compiling import Making, compiled, planned
from mergecore.plugins.registry import Registry
from mergecore.types import (
    Checkpoint,
    Plan,
)
from mergecore.types.plans import Planner, PlanOptions


def plan(
    config: Path | str | Configs,
    *,
    registry: Registry | None = None,
    options: PlanOptions | None = None,
) -> Plan:
    """Decide everything that `config` asks for; no weight is read, nothing is written.

    config: a file, a mapping, or a list of mappings for several documents.  They hold what the file would; models
    may also be `pathlib.Path`s, and numbers those of numpy.

    Raises:
        MergecoreError: everything that is wrong, several as `Problems`.
    """
    check(registry=registry, plan_options=options)
    registry = registry or Registry.discover()
    making = Making(registry, options or PlanOptions(), pinned, partial(_fused, registry), is_made)
    with scratch_folder() as scratch:
        return planned(documents_of(config), making, {}, scratch)


def _fused(registry: Registry, plan: Plan, promised: Checkpoint) -> Checkpoint:
    from mergecore.engine.fused import computed_model  # it loads torch, which few plans need

    return computed_model(plan, promised, registry)


def planner(*, registry: Registry | None = None, options: PlanOptions | None = None) -> Planner:
    """What opens and describes models where there is no document: for commands and scripts."""
    check(registry=registry, plan_options=options)
    none = Before(Path)  # nothing comes before where nothing is planned
    return DocumentPlanner(
        document_of({}), registry or Registry.discover(), options or PlanOptions(), compiled, order=none
    )


def made_already(plan: Plan, folder: Path | None) -> tuple[Plan, frozenset[str]]:
    """The names of intermediate results that `folder` holds as they would be made; the plan that reads them there."""
    there: dict[str, Actual] = {}
    with scratch_folder() as scratch:
        for number in range(len(plan.earlier) if folder else 0):
            one = plan.earlier[number]
            if any(is_promised(model) for model in one.plan.models):
                continue  # what it reads has to be made before
            wanted = fingerprint(described(identity(one.plan), one.plan.layout))
            if folder and plan.again and holds_result(folder / one.name, wanted):
                there[one.name] = partial(reopened, folder / one.name, content_of(folder / one.name))
                plan = plan.again(there, scratch)
    return plan, frozenset(there)
