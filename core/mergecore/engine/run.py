"""One run of a plan: its clock, its warnings, its progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mergecore.compute.devices import device
from mergecore.config.chosen import Choice, read_params
from mergecore.engine.job import EngineJob
from mergecore.engine.memory import Estimate, estimate
from mergecore.files.dtypes import torch_dtype
from mergecore.output.manifest import facts, libraries
from mergecore.planning.toolkit import codecs_of, methods_of
from mergecore.plugins.registry import Registry
from mergecore.types import Executor, Finished, Json, Plan, Recipe, Step, StepResult
from mergecore.types.events import Event, Fetching, PlanReady, Progress, StepDone, Warned
from mergecore.types.execution import Bytes, RunOptions, Storage

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore.engine.step import Runner


def tell(event: Event, registry: Registry, progress: Progress | None) -> Sequence[str]:
    """Tell the caller and the reporters of an event; which reporters failed, each once."""
    if progress:
        with registry.of_results():
            progress(event)
    return registry.report(event)


class Run:
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
        self.executor: Executor[Any] = registry.get(Executor, options.executor or plan.executor)
        self.estimate: Estimate = estimate(
            plan, self._methods, options.threads, options.max_memory, self.executor.memory
        )
        self.executor_params = plan.executor_params if self.executor.name == plan.executor else None
        if self.executor_params is None:
            choice = Choice(Executor, self.executor.name, {}, ("executor",))
            self.executor_params = read_params(self.executor.params, choice)
        if options.device != "cpu":
            device(options.device)  # that it can be used is known before anything is made
        self._begin = time.monotonic()
        self._previous = 0.0

    @property
    def seconds(self) -> float:
        """Since the execution began."""
        return time.monotonic() - self._begin

    def report(self, event: Event) -> None:
        """Report to the caller and the reporters; a reporter that fails is named once."""
        for failure in tell(event, self.registry, self.progress):
            self.warn(failure)

    def warn(self, text: str) -> None:
        """Warn the user, and note it for the manifest."""
        self.warnings.append(text)
        self.report(Warned(self.options.display, text))

    def facts(self) -> dict[str, Json]:
        """What the manifest says beside what was written."""
        known = facts(self.plan, libraries(), self.warnings)
        return known | ({"prepared": dict(self.states)} if self.states else {})

    def finished(self, storage: Bytes) -> Finished:
        """What the recipe says about tensors that are all written."""
        if not self.plan.recipe:
            return Finished()
        recipe = self.registry.get(Recipe, self.plan.recipe)
        if recipe.finish is None:
            return Finished()
        made = {one.name: one for one in self.plan.outputs}

        def read(name: str) -> Tensor:
            import torch

            from mergecore.engine.weights import as_bytes

            tensor = torch.empty(made[name].count, dtype=torch_dtype(made[name].dtype))
            storage.read(name, 0, as_bytes(tensor))
            return tensor.view(made[name].shape)

        with self.registry.calling(Recipe, recipe.name):
            return recipe.finish(self.plan, read)

    def fetch(self) -> None:
        """Bring the weights that are not here yet."""
        absent = [file for model in self.plan.models for file in model.weight_files if not any(file.stamp)]
        here: dict[tuple[str, str], int] = {}
        for model in self.plan.models:
            if model.fetch:
                model.fetch(partial(self._fetched, model.name, sum(file.size for file in absent), here))

    def _fetched(
        self, model: str, whole: int, here: dict[tuple[str, str], int], file: str, done: int, total: int
    ) -> None:
        """Say how far the download of a file is."""
        if here.get((model, file)) == done:
            return
        here[model, file] = done
        now = self.seconds
        got = sum(here.values())
        self.report(Fetching(self.options.display, model, file, done, total, got, whole, now, self._previous))
        self._previous = now

    def begin(self) -> None:
        """Say that nothing stands in the way, and which plugins cannot be used."""
        self.report(
            PlanReady(
                self.options.display,
                tuple(model.name for model in self.plan.models),
                len(self.plan.layout.slots),
                self.plan.layout.size,
                self.estimate.peak,
                self.plan.warnings,
                *((part.name, part.number, part.count) if (part := self.plan.part) else ("", 0, 0)),
                self.plan.doing,
            )
        )
        for plugin in self.registry.unusable():
            what = f"plugin '{plugin.name}' ({plugin.origin}) cannot be used: {plugin.reason}; {plugin.cure}"
            self.report(Warned(self.options.display, what))

    def steps(self, storage: Storage, ready: Callable[[Mapping[str, Json]], object] | None = None) -> None:
        """Merge what an earlier run has not; `ready` is called with what methods have prepared, before the first."""
        from mergecore.compute.threads import one_thread_each  # torch is loaded where weights are
        from mergecore.engine.step import Runner
        from mergecore.engine.weights import WeightFiles

        with WeightFiles(self.plan.models) as files, one_thread_each():
            runner = Runner(
                plan=self.plan,
                methods=self._methods,
                providers=self._providers,
                files=files,
                storage=storage,
                device=device(self.options.device),
                allow_nonfinite=self.options.allow_nonfinite,
                codecs=codecs_of(self.plan, self.registry),
            )
            self.states = self._prepared(runner)
            runner = replace(runner, states=self.states)
            if ready:
                ready(self.states)
            todo = [step for step in self.plan.steps if not _is_done(step, storage)]
            progress = _Progress(self.plan, todo)
            for result in self._results(self._job(todo, runner, storage)):
                storage.finish(result)
                for one in result.outputs:
                    if one.nonfinite:
                        self.warn(f"tensor '{one.name}': {one.nonfinite} values are not finite")
                self._step_done(result, progress)
            files.check_unchanged()

    def _job(self, todo: list[Step], runner: Runner, storage: Storage) -> EngineJob:
        return EngineJob(
            self.plan,
            tuple(_copies_first(todo)),
            self.estimate.workers,
            self.options.device,
            self.options.allow_nonfinite,
            self.states,
            self.registry,
            storage,
            runner,
        )

    def _prepared(self, runner: Runner) -> dict[str, Json]:
        """What methods take of all tensors before the first is merged; also when a run is resumed."""
        preparing = {name: method for name, method in runner.methods.items() if method.prepare}
        if not preparing:
            return {}
        with (
            self.registry.calling(Executor, self.executor.name),
            self.executor.workers(self.estimate.workers) as workers,
        ):
            states = {name: runner.prepare(method, workers) for name, method in preparing.items()}
        return {name: state for name, state in states.items() if state is not None}

    def _results(self, job: EngineJob) -> Iterator[StepResult]:
        with self.registry.calling(Executor, self.executor.name):
            yield from self.executor.run(job, self.executor_params)

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
        left = [one.name for step in todo for one in step.outputs]
        self.total = len(sizes)
        self.done = self.total - len(left)
        self.total_bytes = sum(sizes.values())
        self.done_bytes = self.total_bytes - sum(sizes[name] for name in left)

    def add(self, result: StepResult) -> None:
        """Count what one more step has made."""
        self.done += len(result.outputs)
        self.done_bytes += sum(one.nbytes for one in result.outputs)


def _is_done(step: Step, storage: Storage) -> bool:
    """Whether an earlier run has made all that a step makes; what is there in part is made again."""
    return all(one.name in storage.done for one in step.outputs)


def _copies_first(steps: Sequence[Step]) -> list[Step]:
    """The steps in the order to run them: what may still fail without being merged comes first."""
    return [step for step in steps if step.method is None] + [step for step in steps if step.method]
