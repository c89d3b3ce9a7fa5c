"""One run of a plan: its clock, its warnings, its progress."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mergecore.config.chosen import Choice, read_params
from mergecore.engine.memory import Estimate, estimate
from mergecore.errors import ConfigError, PluginError
from mergecore.output import manifest
from mergecore.output.manifest import libraries
from mergecore.output.store import Stage
from mergecore.planning.toolkit import methods_of
from mergecore.plugins.registry import Registry
from mergecore.types import Crew, Executor, Json, MergeMethod, Plan, RunStep, Step, StepResult
from mergecore.types.events import Event, PlanReady, Progress, StepDone, Warned
from mergecore.types.execution import RunOptions

if TYPE_CHECKING:
    import torch

    from mergecore.engine.step import Runner


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
        self.executor: Executor[Any] = registry.get(Executor, options.executor or plan.executor)
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
        """Tell the caller and the reporters; a reporter that fails is named once."""
        if self.progress:
            with self.registry.of_results():
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
        from mergecore.engine.step import Runner
        from mergecore.engine.weights import WeightFiles

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
            yield from self.executor.run(steps, run_step, self.estimate.workers, self.executor_params)

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
