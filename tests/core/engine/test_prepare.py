"""What a method takes of all tensors before the first is merged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fixture_types import WriteModel, WritePlugin

import mergecore
from mergecore.errors import MergecoreError
from mergecore.types import Json
from mergecore.types.execution import RunOptions

PLUGIN = """
from mergecore import ConfigError, Executor, MergeMethod, Params, hookimpl

class P(Params):
    wanted: bool = True

def prepare(groups, params):
    if not params[0].wanted:
        return None
    sums = [group.reduce(lambda block: block.x.sum()).item() for group in groups]
    return {{"names": [group.name for group in groups], "sum": sums}}

def broken(groups, params):
    {broken}

def merge(group, params):
    mean = sum(group.state["sum"]) / 36 if group.state else 0
    assert group.state is None or group.state["names"][group.index] == group.name
    return group.map(lambda block: block.x[0] - mean)

def check_plan(steps, names):
    if any(step.params.wanted for step in steps) and not all(step.params.wanted for step in steps):
        raise ConfigError("E105", f"{{names[0]}}: {{len(steps)}} tensors want different things")

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="centred", merge=merge, params=P, prepare={prepare}, check_plan=check_plan)
"""


class Merge:
    """Merges a model of 36 ones with the method `centred`."""

    def __init__(self, folder: Path, write_plugin: WritePlugin, write_model: WriteModel) -> None:
        self.folder = folder
        self.model = write_model(folder / "model", 1.0)
        self._write_plugin = write_plugin

    def plugin(self, broken: str = "") -> None:
        prepare = "broken" if broken else "prepare"
        self._write_plugin("centred", PLUGIN.format(broken=broken or "pass", prepare=prepare))

    def manifest(self, **parameters: Json) -> Any:
        config: dict[str, Json] = {
            "merge_method": "centred",
            "models": [{"model": str(self.model)}],
            "parameters": parameters,
        }
        out = mergecore.merge(config, self.folder / "out", run_options=RunOptions(threads=2))
        return json.loads((out / "mergecore-manifest.json").read_text())

    def refusal(self, code: str) -> str:
        with pytest.raises(MergecoreError) as caught:
            self.manifest()
        assert caught.value.code == code
        return str(caught.value)


@pytest.fixture
def centred(tmp_path: Path, write_plugin: WritePlugin, write_model: WriteModel) -> Merge:
    return Merge(tmp_path, write_plugin, write_model)


def test_groups_come_in_the_order_of_the_plan_and_the_state_goes_into_the_manifest(centred: Merge) -> None:
    centred.plugin()
    manifest = centred.manifest()
    tensors = manifest["tensors"]
    sums = [math.prod(one["shape"]) for one in tensors.values()]  # each of ones
    assert manifest["prepared"] == {"centred": {"names": list(tensors), "sum": sums}}


def test_parameters_that_need_nothing_prepare_nothing(centred: Merge) -> None:
    centred.plugin()
    assert "prepared" not in centred.manifest(wanted=False)


def test_tensors_are_checked_together_while_planning(centred: Merge) -> None:
    centred.plugin()
    with pytest.raises(MergecoreError, match="model: 9 tensors want different things"):
        centred.manifest(wanted=[{"filter": "mlp", "value": True}, {"value": False}])
    assert not (centred.folder / "out").exists()


@pytest.mark.parametrize(
    ("broken", "code", "told"),
    [
        ("return 1 // 0", "E604", "ZeroDivisionError: integer division or modulo by zero"),
        (
            "return groups",
            "E605",
            "what its `prepare` returned is not plain values: Object of type Groups is not JSON",
        ),
        (
            "return float('nan')",
            "E605",
            "what its `prepare` returned is not plain values: Out of range float values",
        ),
        (
            "return groups[0].map(lambda block: block.x[0])",
            "E605",
            "it makes a result where it may only read",
        ),
    ],
)
def test_a_method_that_prepares_wrongly_is_blamed(centred: Merge, broken: str, code: str, told: str) -> None:
    centred.plugin(broken)
    message = centred.refusal(code)
    assert (
        f"method 'centred' of plugin 'centred' (centred 1.0) failed before the first tensor: {told}"
        in message
    )


def test_the_workers_of_the_executor_prepare(centred: Merge, monkeypatch: pytest.MonkeyPatch) -> None:
    from mergecore import NoParams
    from mergecore.types import Alone, Executor
    from mergecore_plugins.executors import threads

    counts: list[int] = []

    class Counted(Alone):
        def for_each(self, count: int, work: Callable[[int], None]) -> None:
            counts.append(count)
            super().for_each(count, work)

    @contextmanager
    def workers(count: int) -> Iterator[Counted]:
        yield Counted()

    counting = Executor(name="threads", run=threads.run_threads, workers=workers, params=NoParams)
    monkeypatch.setattr(threads, "Executor", lambda **_: counting)
    centred.plugin()
    centred.manifest()
    assert counts
