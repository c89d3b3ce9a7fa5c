"""Checks of executors; read `check_executor`, then `EXECUTOR`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import torch

from mergecore.errors import InputError, MergecoreError
from mergecore.output.verify import verify_folder
from mergecore.pipeline.folders import merge
from mergecore.plugins.registry import Registry
from mergecore.testing.checkpoints import tiny_model
from mergecore.testing.findings import Property, demand, hold
from mergecore.testing.kinds.writers import digests
from mergecore.testing.registries import registry_with
from mergecore.types import Executor, Json
from mergecore.types.execution import RunOptions
from mergecore.types.params import Params


def check_executor(
    executor: Executor[Any],
    *,
    params: Params | Mapping[str, Json] | None = None,
    registry: Registry | None = None,
    without: Collection[str] = (),
) -> None:
    """Check that merges with an executor have the bytes and the errors of merges with the built-in one.

    params: its parameters; None for the defaults.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    with executor_case(executor, params, registry) as case:
        hold(f"executor '{executor.name}'", EXECUTOR, case, without)


@dataclass
class ExecutorCase:
    """An executor with its parameters, and models to merge."""

    executor: Executor[Any]
    params: Params
    registry: Registry
    folder: Path

    @cached_property
    def models(self) -> tuple[Path, Path]:
        """Two models to merge."""
        return tiny_model(self.folder / "a", seed=1), tiny_model(self.folder / "b", seed=2)

    @cached_property
    def damaged(self) -> Path:
        """A model with a number that is not finite."""

        def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            tensors["model.norm.weight"][0] = float("nan")
            return tensors

        return tiny_model(self.folder / "damaged", seed=3, change=spoil)

    def config(self, second: Path | None = None, method: str = "linear") -> dict[str, Any]:
        """A merge of two models."""
        listed = [
            {"model": str(one), "parameters": {"weight": 0.5}}
            for one in (self.models[0], second or self.models[1])
        ]
        return {"merge_method": method, "models": listed}

    def merge(self, name: str, threads: int = 2, own: bool = True, **config: Any) -> Path:
        """The merge, with this executor or without."""
        said = self.params.model_dump(mode="json", exclude_defaults=True)
        document = {**self.config(), **config}
        if own:
            document["executor"] = {"name": self.executor.name, **said}
        options = RunOptions(threads=threads)
        return merge(document, self.folder / name, registry=self.registry, run_options=options)


@contextmanager
def executor_case(
    executor: Executor[Any],
    params: Params | Mapping[str, Json] | None = None,
    registry: Registry | None = None,
) -> Iterator[ExecutorCase]:
    """A case for `EXECUTOR`."""
    made = params if isinstance(params, Params) else executor.params.model_validate(dict(params or {}))
    with TemporaryDirectory() as folder:
        yield ExecutorCase(executor, made, registry or registry_with(Executor, executor), Path(folder))


def _says_its_memory(case: ExecutorCase) -> None:
    memory: object = case.executor.memory
    demand(isinstance(memory, int) and memory >= 0, f"`memory` is {memory!r}; a number of bytes is expected")


def _lends_workers(case: ExecutorCase) -> None:
    for count, tasks in ((1, 5), (3, 20), (2, 0)):
        calls: list[int] = []
        lock = Lock()

        def note(index: int, calls: list[int] = calls, lock: Lock = lock) -> None:
            with lock:
                calls.append(index)

        with case.executor.workers(count) as workers:
            workers.for_each(tasks, note)
        demand(
            sorted(calls) == list(range(tasks)),
            f"`workers({count})` calls the work of {tasks} tasks with {sorted(calls)}; "
            "`for_each` calls it once with every index, and waits for all",
        )


def _workers_raise(case: ExecutorCase) -> None:
    def fail(index: int) -> None:
        if index == 2:
            raise RuntimeError("the task fails")

    with case.executor.workers(2) as workers:
        try:
            workers.for_each(4, fail)
        except RuntimeError:
            return
    raise AssertionError("`for_each` of its workers keeps an error to itself; raise it once all have stopped")


def _same_bytes(case: ExecutorCase) -> None:
    wanted = digests(case.merge("plain", own=False))
    for threads in (1, 3):
        found = digests(case.merge(f"own{threads}", threads))
        differing = sorted(name for name in {**wanted, **found} if wanted.get(name) != found.get(name))
        demand(
            not differing,
            f"with {threads} workers, a merge has other bytes in {', '.join(differing)} than elsewhere",
        )


def _verifies(case: ExecutorCase) -> None:
    verify_folder(case.merge("verified"), case.registry)


def _passes(case: ExecutorCase) -> None:
    base = str(tiny_model(case.folder / "base", seed=0))
    more: dict[str, Any] = {
        "merge_method": "ties",
        "base_model": base,
        "parameters": {"density": 0.4, "scope": "model"},
    }
    wanted = digests(case.merge("plain_passes", own=False, **more))
    demand(
        digests(case.merge("passes", **more)) == wanted,
        "a method that makes passes before the first step gives other bytes than with the built-in executor",
    )


def _raises(case: ExecutorCase) -> None:
    for threads in (1, 3):
        try:
            case.merge(f"failing{threads}", threads, **case.config(case.damaged))
        except InputError as error:
            demand(error.code == "E234", f"for a NaN in a model, it raises {error.code} in place of E234")
        except MergecoreError as error:
            raise AssertionError(
                f"for a NaN in a model, it raises {type(error).__name__} {error.code}; pass on the error of the step"
            ) from error
        else:
            raise AssertionError("a step that fails goes unnoticed; raise the first error that a step raises")


EXECUTOR: Sequence[Property[ExecutorCase]] = (
    Property("memory", "the memory of a worker is said", _says_its_memory),
    Property("workers", "workers do every task once", _lends_workers),
    Property("errors", "workers pass on errors", _workers_raise),
    Property("bytes", "merges have the bytes that they have elsewhere", _same_bytes),
    Property("verify", "what is merged is verified", _verifies),
    Property("passes", "passes before the first step work", _passes),
    Property("failure", "a step that fails ends the run with its error", _raises),
)
"""What every executor keeps."""
