"""The pipeline: config to plan to folder.  Read this first; each stage is one call.

`plan` decides everything from headers, `execute` makes it so in a folder and `run` in memory; `merge` is both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergecore.config.documents import Configs, document_of, documents_of
from mergecore.engine.run import Run, tell
from mergecore.errors import (
    ConfigError,
    InputError,
    MergeError,
    OutputError,
    PluginError,
    Problems,
)
from mergecore.files.exhaustion import TO_RUN, check_memory, enough
from mergecore.output.inputs import InputFile, check_unchanged, fetched, input_files, pinned
from mergecore.output.intermediate import (
    check_may_replace,
    check_room,
    content_of,
    folder_for,
    is_made,
    remove,
)
from mergecore.output.manifest import identity
from mergecore.output.replacing import manifest_of
from mergecore.output.resume import described, fingerprint
from mergecore.output.storages.folder import Stage
from mergecore.output.storages.memory import Memory, in_dtypes
from mergecore.output.target import check_target, holds_result
from mergecore.output.verify import reader_of
from mergecore.planning.before import (
    Actual,
    Before,
    in_memory,
    in_order,
    is_promised,
    reopened,
    scratch_folder,
)
from mergecore.planning.planner import DocumentPlanner
from mergecore.planning.several.compiling import Making, compiled, planned
from mergecore.planning.state_dicts import NOWHERE, StateDicts, config_of
from mergecore.plugins.registry import Registry
from mergecore.types import (
    Array,
    Checkpoint,
    Earlier,
    MergeMethod,
    OutputTensor,
    Plan,
    StateDict,
)
from mergecore.types.events import ModelSealed, Progress, Warned
from mergecore.types.execution import Mode, RunOptions
from mergecore.types.plans import Planner, PlanOptions

if TYPE_CHECKING:
    import torch
    from torch import Tensor


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
    registry = registry or Registry.discover()
    return execute(
        plan(config, registry=registry, options=plan_options),
        out,
        registry=registry,
        options=run_options,
        progress=progress,
    )


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
    registry = registry or Registry.discover()
    making = Making(registry, options or PlanOptions(), pinned, partial(_fused, registry), is_made)
    with scratch_folder() as scratch:
        return planned(documents_of(config), making, {}, scratch)


def _fused(registry: Registry, plan: Plan, promised: Checkpoint) -> Checkpoint:
    from mergecore.engine.fused import computed_model  # it loads torch, which few plans need

    return computed_model(plan, promised, registry)


def planner(*, registry: Registry | None = None, options: PlanOptions | None = None) -> Planner:
    """What opens and describes models where there is no document: for commands and scripts."""
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


def run(
    plan: Plan,
    *,
    registry: Registry | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Carry out a plan in memory; every tensor of the output by its name, on the host, in its output dtype.

    Nothing is written; the options that concern a folder (`mode`, `overwrite`, `recheck`) have no effect.

    Raises:
        MergecoreError: what is wrong with the models' numbers or the plugins.
    """
    registry = registry or Registry.discover()
    if plan.earlier:
        with scratch_folder() as scratch:
            run_one = partial(run, registry=registry, options=options, progress=progress)
            return run_one(in_order(plan, lambda one: partial(in_memory, run_one(one.plan)), scratch))
    plan = in_dtypes(pinned(plan))
    reads = input_files(plan)
    started = Run(plan, registry, options or RunOptions(), progress)
    check_memory(TO_RUN + started.estimate.peak)
    started.begin()
    storage = Memory(_outputs(plan))
    with enough(started.estimate.peak):
        started.fetch()
        started.steps(storage)
    check_unchanged([*reads, *fetched(reads)])
    return storage.tensors


def merge_state_dicts(
    config: str | MergeMethod[Any] | Path | Configs,
    models: Mapping[str, StateDict],
    *,
    base: str | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    registry: Registry | None = None,
    plan_options: PlanOptions | None = None,
    run_options: RunOptions | None = None,
    progress: Progress | None = None,
    **parameters: object,
) -> dict[str, Tensor]:
    """Merge models that are in memory; every tensor of the result by its name, on the host.

    config: a merge method, or its name; or a config, a mapping or the path of a file, which has the models by
    their names in `models`.  A module counts by its `state_dict()`, and its `config` if it has one.
    base, dtype, seed, parameters: for a method, what a config would say: the name of the base model, the dtype
    of the result (that of the models if None), and the parameters of the method.  A parameter that may differ
    from model to model can be a list, in the order of the models without the base, or a dict by their names;
    `lambda` is a word of Python, so write `scale` (`threshold` for consensus_ta and consensus_ties).

    No tensor of `models` is copied or changed.  The numbers are those of a merge of the same models on disk.

    Raises:
        MergecoreError: everything that is wrong with config, models or plugins, several as `Problems`.
    """
    given = StateDicts(models)
    registry = registry or Registry.discover()
    if isinstance(config, MergeMethod) and config not in registry.all(MergeMethod):
        registry = registry.with_methods(config)
    if isinstance(config, str | MergeMethod):
        method = registry.get(MergeMethod, config) if isinstance(config, str) else config
        more = {"seed": seed, **({"dtype": str(dtype)} if dtype is not None else {})}
        config = config_of(method, list(models), base, parameters, more)
    elif parameters or base is not None or dtype is not None or seed:
        what = "base, dtype, seed and parameters belong in the config"
        raise ConfigError("E104", what, hint="write them there, or name a method in place of the config")
    registry = registry.with_sources(given.source)
    made = plan(config, registry=registry, options=plan_options)
    given.check_opened()
    merged = run(made, registry=registry, options=run_options, progress=progress)
    return merged | {name: merged[one] for name, one in given.tied.items() if one in merged}


def merge_tensors(
    method: str | MergeMethod[Any],
    tensors: Sequence[Array],
    *,
    base: Array | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    name: str = "tensor",
    registry: Registry | None = None,
    run_options: RunOptions | None = None,
    **parameters: object,
) -> Tensor:
    """Merge tensors of one shape, each of which may have its own dtype; the result has that shape.

    tensors: of torch, or arrays of numpy; the models beside `base`.
    name: what a method that draws random numbers draws by, and what messages call the tensor.
    dtype, seed, parameters: as for `merge_state_dicts`.

    Raises:
        MergecoreError: what is wrong with tensors or parameters, several as `Problems`.
    """
    if not isinstance(tensors, Iterable):
        raise ConfigError("E104", f"the tensors are a {type(tensors).__name__}; a list of them is expected")
    everyone = {f"tensors[{i}]": one for i, one in enumerate(tensors)}
    everyone |= {} if base is None else {"base": base}
    given: dict[str, StateDict] = {key: {name: one} for key, one in everyone.items()}
    merged = merge_state_dicts(
        method,
        given,
        base=None if base is None else "base",
        dtype=dtype,
        seed=seed,
        registry=registry,
        plan_options=None,
        run_options=run_options,
        progress=None,
        **parameters,
    )
    return merged[name]


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
    registry, options, target = registry or Registry.discover(), options or RunOptions(), Path(out)
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
        _outputs(plan),
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


def _outputs(plan: Plan) -> list[OutputTensor]:
    return [one for step in plan.steps for one in step.outputs]


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
