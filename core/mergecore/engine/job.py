"""The job that an executor gets: what a step needs, opened here or in another process; read `EngineJob.open`."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mergecore.compute.devices import device
from mergecore.errors import MergecoreError, PluginError
from mergecore.planning.toolkit import codecs_of, methods_of
from mergecore.plugins.registry import Plugin, Registry
from mergecore.plugins.session import in_session
from mergecore.types import Checkpoint, Json, MergeMethod, Plan, RunStep, Step
from mergecore.types.execution import Reopened, Storage

if TYPE_CHECKING:
    from mergecore.engine.step import Runner


@dataclass(frozen=True)
class EngineJob:
    """The steps of a plan that are not done yet, and everything that one of them needs."""

    plan: Plan
    steps: tuple[Step, ...]
    workers: int
    device: str
    allow_nonfinite: bool
    states: Mapping[str, Json]
    """By method, what it has prepared."""
    registry: Registry = field(compare=False)
    storage: Storage = field(compare=False)
    runner: Runner | None = field(default=None, compare=False)
    """What carries out steps in this process."""

    @contextmanager
    def open(self) -> Iterator[RunStep]:
        """What carries out a step in the process that began the run."""
        assert self.runner is not None
        yield self.runner

    def __reduce__(self) -> tuple[object, ...]:
        """As another process gets it."""
        methods, providers = methods_of(self.plan, self.registry)
        needed = {name: _name(plugin) for name, plugin in providers.items()}
        given = {name: methods[name] for name, plugin in providers.items() if in_session(plugin)}
        for name, method in given.items():
            _check_portable(name, method)
        plugins = self.registry.plugins()
        blocked = [f"{one.distribution}:{one.name}" for one in plugins if one.status == "blocked"]
        portable = replace(self.plan, models=tuple(map(_portable, self.plan.models)))
        facts = (portable, self.steps, self.workers, self.device, self.allow_nonfinite, self.states)
        return RemoteJob, (*facts, self.storage.elsewhere(), tuple(blocked), needed, tuple(given.values()))


@dataclass(frozen=True)
class RemoteJob:
    """The same in a process that did not begin the run."""

    plan: Plan
    steps: tuple[Step, ...]
    workers: int
    device: str
    allow_nonfinite: bool
    states: Mapping[str, Json]
    storage: Reopened
    blocked: tuple[str, ...]
    needed: Mapping[str, str]
    """By method, the plugin and version that provides it where the run began."""
    methods: tuple[MergeMethod[Any], ...]
    """Those that no package provides."""

    @contextmanager
    def open(self) -> Iterator[RunStep]:
        """What carries out a step, with files and output open; numbers are the same as in any other process.

        Raises:
            MergecoreError: PluginError E605 when a plugin is not here, or in another version.
        """
        from mergecore.compute.threads import one_thread_each
        from mergecore.engine.step import Runner
        from mergecore.engine.weights import WeightFiles

        registry = Registry.discover(self.blocked).with_methods(*self.methods)
        methods, providers = methods_of(self.plan, registry)
        for name, plugin in providers.items():
            if not in_session(plugin) and _name(plugin) != self.needed[name]:
                what = f"method '{name}' is {self.needed[name]}, and {_name(plugin)} in another process"
                raise PluginError("E605", what, hint="use the executor 'threads'")
        with WeightFiles(self.plan.models) as files, one_thread_each(), self.storage.open() as storage:
            yield Runner(
                plan=self.plan,
                methods=methods,
                providers=providers,
                files=files,
                storage=storage,
                device=device(self.device),
                allow_nonfinite=self.allow_nonfinite,
                codecs=codecs_of(self.plan, registry),
                states=self.states,
            )


def _portable(model: Checkpoint) -> Checkpoint:
    """A model whose files are here, and those that it is made of."""
    return replace(model, fetch=None, parts=tuple(map(_portable, model.parts)))


def _name(plugin: Plugin) -> str:
    return f"{plugin.name} of {plugin.distribution} {plugin.version}"


def _check_portable(name: str, method: MergeMethod[Any]) -> None:
    try:
        pickle.dumps(method)
    except MergecoreError:
        raise
    except Exception as error:
        what = f"method '{name}' was defined in this session, so other processes cannot load it: {error}"
        raise PluginError("E605", what, hint="use the executor 'threads', or put it into a module") from error
