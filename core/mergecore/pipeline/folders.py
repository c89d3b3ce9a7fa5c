"""A plan carried out in a folder; read `execute` first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from mergecore.config.documents import Configs
from mergecore.engine.run import Run, tell
from mergecore.errors import (
    InputError,
    MergeError,
    OutputError,
    PluginError,
    Problems,
)
from mergecore.files.exhaustion import TO_RUN, check_memory, enough
from mergecore.files.paths import path_of
from mergecore.output.inputs import InputFile, check_unchanged, fetched, input_files, pinned
from mergecore.output.intermediate import (
    check_may_replace,
    check_room,
    content_of,
    folder_for,
    remove,
)
from mergecore.output.manifest import identity
from mergecore.output.replacing import manifest_of
from mergecore.output.resume import described
from mergecore.output.storages.folder import Stage
from mergecore.output.target import check_target
from mergecore.output.verify import reader_of
from mergecore.pipeline.arguments import check, check_plan
from mergecore.pipeline.plans import plan
from mergecore.planning.before import (
    Actual,
    in_order,
    reopened,
    scratch_folder,
)
from mergecore.planning.state_dicts import NOWHERE
from mergecore.plugins.registry import Registry
from mergecore.types import (
    Checkpoint,
    Earlier,
    Plan,
)
from mergecore.types.events import ModelSealed, Progress, Warned
from mergecore.types.execution import Mode, RunOptions
from mergecore.types.plans import PlanOptions


def merge(
    config: Path | str | Configs,
    out: Path | str,
    *,
    registry: Registry | None = None,
    plan_options: PlanOptions | None = None,
    run_options: RunOptions | None = None,
    progress: Progress | None = None,
) -> Path:
    """Merge as `config` says, a file, a mapping or a list of mappings, into the folder `out`; the folder.

    registry: the plugins to use; None for all that are installed.
    progress: called with every event (`mergecore.types.events`) in the thread that called `merge`.  What it raises
    stops the run, which can be resumed with `RunOptions(mode="resume")`.

    Raises:
        MergecoreError: what is wrong with config, models, output or plugins; then nothing is left behind that
            a later run with `mode="resume"` could not go on from.
    """
    check(registry=registry, plan_options=plan_options, run_options=run_options, progress=progress)
    out = path_of(out, "out")
    registry = registry or Registry.discover()
    return execute(
        plan(config, registry=registry, options=plan_options),
        out,
        registry=registry,
        options=run_options,
        progress=progress,
    )


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
    check_plan(plan)
    check(registry=registry, run_options=options, progress=progress)
    registry, options = registry or Registry.discover(), options or RunOptions()
    target = path_of(out, "out")
    before = [one.name for one in plan.earlier]
    if before:
        plan = _after_earlier(plan, target, registry, options, progress)
    plan = pinned(plan)
    reads = input_files(plan)
    started = Run(plan, registry, options, progress)
    check_memory(TO_RUN + started.estimate.peak)
    with _stage(plan, target, options, reads, started) as stage:
        already = stage.complete
        if not already:
            _fill(stage, started, reads)
        if stage.kept:
            what = f"kept in {target}, not written by the merge that was replaced: {', '.join(stage.kept)}"
            started.report(Warned(options.display, what))
    size = plan.layout.size
    sealed = ModelSealed(options.display, str(target), size, started.seconds, not already, stage.compared)
    started.report(sealed)
    if options.remove_intermediate and before:
        remove(folder_for(target, options.intermediate), before)
    return target


def _after_earlier(
    plan: Plan, target: Path, registry: Registry, options: RunOptions, progress: Progress | None
) -> Plan:
    """Carry out the plans before `plan`, each in a folder of its own; the plan that reads what they made."""
    parts = folder_for(target, options.intermediate)

    def make(one: Earlier) -> Actual:
        folder = parts / one.name
        run_one = partial(execute, one.plan, folder, registry=registry, progress=progress)
        try:
            run_one(options=replace(options, overwrite=False))
        except (OutputError, Problems) as error:
            said = Warned(options.display, check_may_replace(folder, error))
            tell(said, registry, progress)
            mode: Mode = "restart" if error.code == "E508" else options.mode
            run_one(options=replace(options, overwrite=True, mode=mode))
        return partial(reopened, folder, content_of(folder))

    if manifest_of(target) is None:  # else it may hold this very merge
        check_target(target, [], options.overwrite, nbytes=plan.layout.size)
    check_room(plan, target, parts)
    with scratch_folder() as scratch:
        return in_order(plan, make, scratch)


def _stage(plan: Plan, target: Path, options: RunOptions, reads: Sequence[InputFile], started: Run) -> Stage:
    """The output, begun or resumed; what stands in its way is found before anything is said to begin."""
    inputs = [_protected(model) for model in plan.models if model.folder != NOWHERE]
    known = identity(plan)
    described_as = described(known, plan.layout)
    check_target(target, inputs, options.overwrite, nbytes=plan.layout.size, plan=described_as)
    started.begin()
    return Stage.open(
        target,
        plan.layout,
        plan.outputs,
        known,
        mode=options.mode,
        overwrite=options.overwrite,
        inputs=inputs,
        recheck=options.recheck,
        reads=reads,
        read_back=reader_of(started.registry, plan.writer) if plan.writer else None,
    )


def _fill(stage: Stage, started: Run, reads: Sequence[InputFile]) -> None:
    """Make every tensor that is not there yet, and complete the folder."""
    for name in stage.damaged:
        what = f"tensor '{name}' of the interrupted run is damaged and is merged again"
        started.report(Warned(started.options.display, what))
    with _discarding(stage), enough(started.estimate.peak):
        started.fetch()
        stage.note_inputs(more := fetched(reads))
        started.steps(stage)
    plan = started.plan
    unchanged = partial(check_unchanged, [*reads, *more])
    said = started.finished(stage)
    digests = {name: digest for name, digest in plan.side_digests.items() if name not in said.files}
    facts = started.facts() | ({"facts": dict(said.facts)} if said.facts else {})
    stage.seal({**plan.side_files, **said.files}, facts, digests, unchanged)


def _protected(model: Checkpoint) -> Path:
    """What an output must not touch: the folder of a model, or the file where it is only that."""
    files = [file.path for file in model.weight_files]
    alone = len(files) == 1 and files[0].name == Path(model.reference.path).name
    return files[0] if alone else model.folder


@contextmanager
def _discarding(stage: Stage) -> Iterator[None]:
    """Discard what is staged when the body finds that this plan can never be carried out."""
    try:
        yield
    except (MergeError, PluginError, InputError) as error:
        later = isinstance(error, InputError) and error.code not in ("E233", "E234")
        if not later and error.code not in ("E406", "E407", "E408"):
            stage.discard()
        raise
