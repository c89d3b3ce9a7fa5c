"""The executor of processes: the bytes of threads, whoever dies on the way; errors arrive as they were raised."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import Cli, WritePlugin
from safetensors.torch import load_file, save_file
from tiny import write_llama

import mergecore
from mergecore import MergeMethod, Params, Registry, RunOptions
from mergecore.engine.job import EngineJob, RemoteJob
from mergecore.errors import MergecoreError
from mergecore.types import Event, Json, StepDone
from mergecore_plugins.executors import processes

OPTIONS = RunOptions(executor="processes", threads=2)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Json]:
    """A config of three small models, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "a", "b")):
        write_llama(Path(name), 2, seed=seed)
    return {
        "merge_method": "dare_ties",
        "base_model": "base",
        "models": [{"model": "a"}, {"model": "b"}],
        "parameters": {"density": 0.6, "weight": 0.5},
    }


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_processes_make_the_bytes_of_threads_though_some_are_killed(models: dict[str, Json]) -> None:
    wanted = content(mergecore.merge(models, "threads"))
    drawn = random.Random(5)
    killed: list[int | None] = []

    def kill_one(event: Event) -> None:
        children = [one for one in multiprocessing.active_children() if one.pid not in killed]
        if isinstance(event, StepDone) and event.done % 6 == 1 and len(killed) < 2 and children:
            child = drawn.choice(children)
            killed.append(child.pid)
            child.kill()

    made = mergecore.merge(models, "processes", run_options=OPTIONS, progress=kill_one)
    assert len(killed) == 2
    assert content(made) == wanted
    assert not multiprocessing.active_children()


def test_what_is_wrong_is_said_as_threads_say_it(models: dict[str, Json], cli: Cli) -> None:
    Path("c.yml").write_text(
        "merge_method: linear\nmodels: [{model: a}, {model: bad}]\nparameters: {weight: 1}\n"
    )
    tensors = load_file("b/model.safetensors")
    tensors["model.norm.weight"][3] = torch.nan
    write_llama(Path("bad"), 2, seed=2)
    save_file(tensors, "bad/model.safetensors", {"format": "pt"})
    outcomes = [
        cli("merge", "c.yml", "out", "--executor", name, "-j", "2") for name in ("threads", "processes")
    ]
    assert [outcome.code for outcome in outcomes] == [3, 3]
    assert len({outcome.err.splitlines()[-1] for outcome in outcomes}) == 1
    assert "tensor 'model.norm.weight': 1 value is not finite" in outcomes[1].err
    assert not Path("out").exists()


def test_a_tensor_on_which_every_worker_dies_is_given_up(
    models: dict[str, Json], cli: Cli, write_plugin: WritePlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "DEATHS", 2)
    code = """
import os, signal
from mergecore import MergeMethod, Params, hookimpl

def merge(group, params):
    os.kill(os.getpid(), signal.SIGKILL)

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="deadly", merge=merge, params=Params)
"""
    write_plugin("deadly", code)
    Path("c.yml").write_text("merge_method: deadly\nmodels: [{model: a}, {model: b}]\n")
    outcome = cli("merge", "c.yml", "out", "--executor", "processes", "-j", "1")
    assert outcome.code == 5
    told = "2 worker processes were ended by SIGKILL while they made it"
    assert f"{told}. Hint: allow more memory, or use the executor 'threads'" in outcome.err
    assert not Path("out").exists()


# ---- what cannot travel ------------------------------------------------------------------------------------


def test_a_job_travels_with_what_is_blocked_and_prepared(models: dict[str, Json]) -> None:
    registry = Registry.discover(disabled=["slerp"])
    job = job_of(models, registry)
    other = travelled(job)
    assert isinstance(other, RemoteJob)
    assert other.blocked == ("mergecore:slerp",)
    assert other.states == {"dare_ties": [1, 2]}
    assert other.needed["dare_ties"].startswith("dare_ties of mergecore ")
    assert [step.name for step in other.steps] == [step.name for step in job.steps]


def test_a_plugin_in_another_version_is_refused(models: dict[str, Json]) -> None:
    job = travelled(job_of(models, Registry.discover()))
    job = replace(job, needed={"dare_ties": "dare_ties of mergecore 0"})
    told = (
        r"method 'dare_ties' is dare_ties of mergecore 0, and dare_ties of mergecore \S+ in another process"
    )
    with pytest.raises(MergecoreError, match=told) as caught:
        job.open().__enter__()
    assert caught.value.code == "E605"


def test_a_method_of_the_session_that_cannot_travel_is_refused(models: dict[str, Json]) -> None:
    method: MergeMethod[Any] = MergeMethod(name="mine", merge=lambda group, params: group.x[0], params=Params)
    registry = Registry.discover().with_methods(method)
    config = {"merge_method": "mine", "models": models["models"]}
    with pytest.raises(
        MergecoreError,
        match=r"'mine' was defined in this session.*use the executor 'threads', or put it into a module",
    ):
        mergecore.merge(config, "out", registry=registry, run_options=OPTIONS)
    assert not Path("out").exists()


def test_a_job_that_cannot_travel_is_refused() -> None:
    job: Any = lambda: None  # noqa: E731 - what pickle does not take
    with pytest.raises(
        MergecoreError, match=r"^this merge cannot be sent to another process: .*pickle"
    ) as caught:
        processes._packed(job)
    assert caught.value.code == "E605"


def test_a_script_that_merges_wherever_it_is_imported_is_told_what_to_do(models: dict[str, Json]) -> None:
    Path("script.py").write_text(
        "import mergecore\n"
        "from mergecore_plugins.executors import processes\n"
        "processes.DEATHS = 1\n"
        f"mergecore.merge({models!r}, 'out', run_options=mergecore.RunOptions(executor='processes', threads=1))\n"
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    told = "1 worker processes ended with exit code 1 before they began"
    assert f"{told}. Hint: in a script, call mergecore below `if __name__ == '__main__':`" in done.stderr
    assert not Path("out").exists()


def test_memory_is_of_one_process(models: dict[str, Json]) -> None:
    told = r"made in the memory of this process, .*use the executor 'threads', or write a folder"
    with pytest.raises(MergecoreError, match=told) as caught:
        mergecore.run(mergecore.plan(models), options=OPTIONS)
    assert caught.value.code == "E605"


@pytest.mark.parametrize("error", ["several", "one"])
def test_errors_travel_with_all_they_say(error: str) -> None:
    from mergecore.errors import InputError, Place, Problems

    one = InputError("E234", "a", place=Place("c.yml", 1, 2), tensor="t", plugin="p", hint="h")
    sent = Problems([one, one]) if error == "several" else one
    got = travelled(sent)
    assert (type(got), str(got), got.as_json(), got.exit_code) == (type(sent), str(sent), sent.as_json(), 3)


def travelled(value: object) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - written here


def job_of(models: dict[str, Json], registry: Registry) -> EngineJob:
    plan = mergecore.plan(models, registry=registry)

    class Nowhere:
        def elsewhere(self) -> str:
            return "elsewhere"

    storage: Any = Nowhere()
    return EngineJob(plan, plan.steps, 2, "cpu", False, {"dare_ties": [1, 2]}, registry, storage)
