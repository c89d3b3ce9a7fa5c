"""The pipeline: config to plan to folder.  Read this first; each stage is one call.

`plan` decides everything from headers, `execute` makes it so, `merge` is both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mergecore import manifest
from mergecore.compiling import PlanOptions
from mergecore.config import parts
from mergecore.errors import ConfigError, InputError, MergecoreError, MergeError, PluginError
from mergecore.estimate import Estimate, estimate
from mergecore.events import Display, Event, ModelSealed, PlanReady, StepDone, Warned
from mergecore.exhaustion import TO_RUN, check_memory, enough
from mergecore.from_python import Config, document_of
from mergecore.inputs import check_unchanged, fetched, input_files, pinned
from mergecore.partial import Mode, described, fingerprint
from mergecore.plan_parts import methods_of
from mergecore.planning import plan_merge
from mergecore.plugins import Registry
from mergecore.references import exists_below
from mergecore.stage import Stage
from mergecore.target import check_target
from mergecore.types import (
    Checkpoint,
    Crew,
    Executor,
    Json,
    MergeMethod,
    OutputTensor,
    Plan,
    Recipe,
    RunStep,
    Step,
    StepResult,
)
from mergecore.yaml_document import read_document

if TYPE_CHECKING:
    import torch

    from mergecore.runner import Runner


Progress: TypeAlias = Callable[[Event], object]
"""Hears what happens while a plan is carried out."""


@dataclass(frozen=True)
class RunOptions:
    """How a plan is executed; nothing here changes the bytes of the result."""

    threads: int | None = None
    """Workers; None for as many as there are processors."""
    max_memory: int | None = None
    """Bytes that blocks may take; None for no bound but the number of workers."""
    device: str = "cpu"
    executor: str | None = None
    """Where the steps run, by name; None for what the plan says."""
    mode: Mode = "new"
    overwrite: bool = False
    allow_nonfinite: bool = False
    recheck: bool = False
    display: Display = field(default_factory=lambda: Display(style="none"))


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
    progress: called with every event (`mergecore.events`) in the thread that called `merge`.  What it raises
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
    for recipe in registry.all(Recipe):
        with registry.calling(Recipe, recipe.name):
            if recipe.accepts(document.data):
                return pinned(recipe.compile(document, registry, options or PlanOptions()))
    return pinned(plan_merge(document, registry, options))


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
        fingerprint=fingerprint(described(identity, plan.layout)),
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


class _Run:
    """One execution: its clock, its warnings, its reporters."""

    def __init__(
        self, plan: Plan, registry: Registry, options: RunOptions, progress: Progress | None = None
    ) -> None:
        self.plan = plan
        self.progress = progress
        self.registry = registry
        self.options = options
        self.warnings: list[str] = []
        self.states: Mapping[str, Json] = {}
        """By method, what it has prepared."""
        self._methods, self._providers = methods_of(plan, registry)
        self.estimate: Estimate = estimate(plan, self._methods, options.threads, options.max_memory)
        self.executor = registry.get(Executor, options.executor or plan.executor)
        if options.device != "cpu":
            device(options.device)  # that it can be used is known before anything is made
        self._begin = time.monotonic()
        self._previous = 0.0

    @property
    def seconds(self) -> float:
        """Since the execution began."""
        return time.monotonic() - self._begin

    def report(self, event: Event) -> None:
        """Tell the caller and the reporters; a reporter that fails is named once."""
        if self.progress:
            self.progress(event)
        for failure in self.registry.report(event):
            self.warn(failure)

    def warn(self, text: str) -> None:
        """Tell the user, and the manifest."""
        self.warnings.append(text)
        self.report(Warned(self.options.display, text))

    def facts(self) -> dict[str, Json]:
        """What the manifest says beside what was written."""
        facts = manifest.facts(self.plan, libraries(), self.warnings)
        return facts | ({"prepared": dict(self.states)} if self.states else {})

    def fetch(self) -> None:
        """Bring the weights that are not here yet."""
        for model in self.plan.models:
            if model.fetch:
                model.fetch()

    def plan_ready(self) -> PlanReady:
        """The event that nothing stands in the way."""
        return PlanReady(
            self.options.display,
            tuple(model.name for model in self.plan.models),
            len(self.plan.steps),
            self.plan.layout.size,
            self.estimate.peak,
            self.plan.warnings,
        )

    def steps(self, stage: Stage) -> None:
        """Merge what an earlier run has not."""
        from mergecore.reading import WeightFiles
        from mergecore.runner import Runner

        todo = [step for step in self.plan.steps if step.name not in stage.done]
        with WeightFiles(self.plan.models) as files, one_thread_each():
            runner = Runner(
                plan=self.plan,
                methods=self._methods,
                providers=self._providers,
                files=files,
                storage=stage,
                device=device(self.options.device),
                allow_nonfinite=self.options.allow_nonfinite,
            )
            self.states = self._prepared(runner)
            runner = replace(runner, states=self.states)
            progress = _Progress(self.plan, todo)
            for result in self._results(_copies_first(todo), runner):
                stage.finish(result.name, result.digest, result.nonfinite)
                if result.nonfinite:
                    self.warn(f"tensor '{result.name}': {result.nonfinite} values are not finite")
                self._step_done(result, progress)
            files.check_unchanged()

    def _prepared(self, runner: Runner) -> dict[str, Json]:
        """What methods take of all tensors before the first is merged; also when a run is taken up again."""
        states: dict[str, Json] = {}
        for name, method in runner.methods.items():

            def prepare(step: Step, crew: Crew, method: MergeMethod[Any] = method) -> StepResult:
                states[method.name] = runner.prepare(method, crew)
                return StepResult(step.name, "", 0)

            if method.prepare:
                for _ in self._results(runner.steps_of(name)[:1], prepare):
                    pass
                if name not in states:
                    what = f"executor '{self.executor.name}' did not prepare method '{name}' in this process"
                    raise PluginError("E605", what, hint="use the executor 'threads'")
        return {name: state for name, state in states.items() if state is not None}

    def _results(self, steps: list[Step], run_step: RunStep) -> Iterator[StepResult]:
        with self.registry.calling(Executor, self.executor.name):
            yield from self.executor.run(steps, run_step, self.estimate.workers)

    def _step_done(self, result: StepResult, progress: _Progress) -> None:
        progress.add(result)
        now = self.seconds
        self.report(
            StepDone(
                self.options.display,
                result.name,
                progress.done,
                progress.total,
                progress.done_bytes,
                progress.total_bytes,
                now,
                self._previous,
            )
        )
        self._previous = now


class _Progress:
    """How far a run is, what an earlier one did included."""

    def __init__(self, plan: Plan, todo: list[Step]) -> None:
        sizes = {name: slot.nbytes for name, slot in plan.layout.slots.items()}
        self.total = len(plan.steps)
        self.done = self.total - len(todo)
        self.total_bytes = sum(sizes.values())
        self.done_bytes = self.total_bytes - sum(sizes[step.name] for step in todo)

    def add(self, result: StepResult) -> None:
        """Count one more."""
        self.done += 1
        self.done_bytes += result.nbytes


def _copies_first(steps: list[Step]) -> list[Step]:
    """The steps in the order to run them: what may still fail without being merged comes first."""
    return [step for step in steps if step.method is None] + [step for step in steps if step.method]


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let every operation of torch run in the thread that calls it: the workers are the threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device(name: str) -> torch.device:
    """The torch device of that name; `auto` takes an accelerator if there is one.

    Raises:
        ConfigError: E105 when numbers cannot be put there and fetched back.
    """
    import torch

    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        torch.zeros(1, device=name).cpu()
        return torch.device(name)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        hint = "write cpu, auto, or an accelerator of this machine such as cuda:0"
        raise ConfigError(
            "E105", f"'{name}' cannot be used: {reason}", place="--device", hint=hint
        ) from error


def libraries() -> dict[str, str]:
    """The versions of what computes and writes."""
    import numpy as np
    import torch

    return {"torch": torch.__version__, "numpy": np.__version__}
