"""The pipeline: config to plan to folder.  Read this first; each stage is one call.

`plan` decides everything from headers, `execute` makes it so, `merge` is both.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mergecore.config.documents import Config, document_of
from mergecore.config.grammar import parts
from mergecore.config.reference import exists_below
from mergecore.engine.run import _Run
from mergecore.errors import InputError, MergecoreError, MergeError, PluginError
from mergecore.files.exhaustion import TO_RUN, check_memory, enough
from mergecore.files.yaml_document import Document, read_document
from mergecore.output import manifest
from mergecore.output.inputs import check_unchanged, fetched, input_files, pinned
from mergecore.output.resume import described
from mergecore.output.store import Stage
from mergecore.output.target import check_target
from mergecore.planning.merge import plan_merge
from mergecore.planning.planner import DocumentPlanner
from mergecore.plugins.registry import Registry
from mergecore.types import (
    Checkpoint,
    OutputTensor,
    Plan,
    Recipe,
)
from mergecore.types.events import ModelSealed, Progress, Warned
from mergecore.types.execution import RunOptions
from mergecore.types.plans import Planner, PlanOptions

if TYPE_CHECKING:
    pass


def merge(
    config: Path | str | Config,
    out: Path | str,
    *,
    registry: Registry | None = None,
    plan_options: PlanOptions | None = None,
    run_options: RunOptions | None = None,
    progress: Progress | None = None,
) -> Path:
    """Merge as `config` says, a file or a mapping, into the folder `out`; the folder.

    registry: the plugins to use; None for all that are installed.
    progress: called with every event (`mergecore.types.events`) in the thread that called `merge`.  What it raises
    stops the run, which can be resumed with `RunOptions(mode="resume")`.

    Raises:
        MergecoreError: what is wrong with config, models, output or plugins; then nothing is left behind that
            a later run with `mode="resume"` could not go on from.
    """
    registry = registry or Registry.discover()
    return execute(
        plan(config, registry=registry, options=plan_options),
        out,
        registry=registry,
        options=run_options,
        progress=progress,
    )


def plan(
    config: Path | str | Config,
    *,
    registry: Registry | None = None,
    options: PlanOptions | None = None,
) -> Plan:
    """Decide everything that `config`, a file or a mapping, asks for; no weight is read, nothing is written.

    A mapping holds what the file would; models may also be `pathlib.Path`s, and numbers those of numpy.

    Raises:
        MergecoreError: everything that is wrong, several as `Problems`.
    """
    registry = registry or Registry.discover()
    document = document_of(config) if isinstance(config, Mapping) else read_document(Path(config))
    with _without_collections():
        made = DocumentPlanner(document, registry, options or PlanOptions(), _compiled)
        return pinned(_compiled(document, made))


def _compiled(document: Document, planner: DocumentPlanner) -> Plan:
    """The plan of a document by the first recipe that accepts it; what none accepts is a merge config."""
    for recipe in planner.registry.all(Recipe):
        with planner.registry.calling(Recipe, recipe.name):
            if recipe.accepts(document.data):
                made = recipe.compile(document, replace(planner, document=document, recipe=recipe.name))
                if not isinstance(made, Plan):
                    what = f"recipe '{recipe.name}' returns {type(made).__name__} in place of a Plan"
                    raise PluginError("E605", what)
                return made
    return plan_merge(document, replace(planner, document=document))


def planner(*, registry: Registry | None = None, options: PlanOptions | None = None) -> Planner:
    """What opens and describes models where there is no document: for commands and scripts."""
    return DocumentPlanner(
        document_of({}), registry or Registry.discover(), options or PlanOptions(), _compiled
    )


@contextmanager
def _without_collections() -> Iterator[None]:
    """Let Python not look for cycles: plans are many small values without any, and a third of the time went there."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def mentioned_folders(config: Path) -> list[Path]:
    """The models that a config names and that are here, even if there is something wrong with it."""
    try:
        document = read_document(config)
    except MergecoreError:
        return []
    named = {
        str(part[key]) for _, part in parts(document.data) for key in ("base_model", "model") if key in part
    }
    return [Path(text) for text in sorted(named) if exists_below(Path())(text)]


def execute(
    plan: Plan,
    out: Path | str,
    *,
    registry: Registry | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> Path:
    """Carry out a plan; the finished folder, which appears under its name at once.

    progress: as for `merge`.

    Raises:
        MergecoreError: what is wrong with the models' numbers, the output or the plugins.
    """
    registry = registry or Registry.discover()
    options = options or RunOptions()
    target = Path(out)
    plan = pinned(plan)
    reads = input_files(plan)
    run = _Run(plan, registry, options, progress)
    check_memory(TO_RUN + run.estimate.peak)
    inputs = [_protected(model) for model in plan.models]
    identity = manifest.identity(plan)
    check_target(
        target,
        inputs,
        options.overwrite,
        nbytes=plan.layout.size,
        plan=described(identity, plan.layout),
    )
    run.report(run.plan_ready())
    for plugin in registry.unusable():
        what = f"plugin '{plugin.name}' ({plugin.origin}) cannot be used: {plugin.reason}"
        run.report(Warned(run.options.display, what))

    outputs = [OutputTensor(step.name, step.dtype, step.shape) for step in plan.steps]
    with Stage.open(
        target,
        plan.layout,
        outputs,
        identity,
        mode=options.mode,
        overwrite=options.overwrite,
        inputs=inputs,
        recheck=options.recheck,
        reads=reads,
    ) as stage:
        already = stage.complete
        if not already:
            for name in stage.damaged:
                what = f"tensor '{name}' of the interrupted run is damaged and is merged again"
                run.report(Warned(options.display, what))
            with _hopeless(stage), enough(run.estimate.peak):
                run.fetch()
                stage.note_inputs(more := fetched(reads))
                run.steps(stage)
            unchanged = partial(check_unchanged, [*reads, *more])
            stage.seal(plan.side_files, run.facts(), plan.side_digests, unchanged)
        if stage.kept:
            what = f"kept in {target}, not written by the merge that was replaced: {', '.join(stage.kept)}"
            run.report(Warned(options.display, what))
    made = not already
    run.report(ModelSealed(options.display, str(target), plan.layout.size, run.seconds, made, stage.compared))
    return target


def _protected(model: Checkpoint) -> Path:
    """What an output must not touch: the folder of a model, or the file where it is only that."""
    files = [file.path for file in model.weight_files]
    alone = len(files) == 1 and files[0].name == Path(model.reference.path).name
    return files[0] if alone else model.folder


@contextmanager
def _hopeless(stage: Stage) -> Iterator[None]:
    """Throw away what is staged when the body finds that this plan can never be carried out."""
    try:
        yield
    except (MergeError, PluginError, InputError) as error:
        later = isinstance(error, InputError) and error.code not in ("E233", "E234")
        if not later and error.code not in ("E406", "E407"):
            stage.discard()
        raise
