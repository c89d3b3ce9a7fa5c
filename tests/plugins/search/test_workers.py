"""The processes of `mergecore search --jobs`: real ones, which are killed, stopped, or left without their parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Cli, WritePlugin
from near_evaluator import CODE, CONFIG

from mergecore_plugins.search.driving import Task
from mergecore_plugins.search.judging.bench import Asked
from mergecore_plugins.search.judging.workers import InProcesses

TEXT = CONFIG.replace("evaluator: near", "evaluator: told")
COMMAND = [sys.executable, "-m", "mergecore", "search", "s.yml", "out", "--no-write", "--threads", "1"]

WATCHED = """
    from pathlib import Path
    history = Path("out/history.jsonl")
    if Path("deadly-base").exists() and model.name == "./base":
        os._exit(9)
    if Path("deadly").exists() and model.name.startswith("point"):
        if model.plan.document["models"][0]["parameters"]["weight"] > 0.5:
            os._exit(9)
    Path(f"worker-{os.getpid()}").touch()
    if history.exists() and history.read_bytes().count(b"\\n") > 6:
        if Path("kill").exists():
            Path("kill").unlink(missing_ok=True)
            os.kill(os.getpid(), 9)
        if Path("wait").exists():
            import time
            time.sleep(100)
"""
"""What the evaluator does first: it kills its own process over some points, or takes very long, as a file asks."""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("near_models")]


@pytest.fixture(autouse=True)
def config(near_models: None, write_plugin: WritePlugin) -> None:
    begin = "def evaluate(model, params, watch):\n"
    write_plugin(
        "told", CODE.replace('name="near", eval', 'name="told", eval').replace(begin, begin + WATCHED)
    )
    Path("s.yml").write_text(TEXT)


def history(folder: str) -> list[dict[str, Any]]:
    """What was tried, without what a clock says."""
    rows = [json.loads(line) for line in Path(folder, "history.jsonl").read_text().splitlines()]
    return [
        {key: one for key, one in row.items() if key not in ("seconds", "merging", "changed")} for row in rows
    ]


def workers() -> set[int]:
    """The processes that have scored a model."""
    return {int(path.name.removeprefix("worker-")) for path in Path().glob("worker-*")}


def alive(process: int) -> bool:
    """Whether it runs: one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + seconds, "it never came to that"
        time.sleep(0.05)


def waiting() -> subprocess.Popen[str]:
    """A search in a session of its own, whose processes take very long over a point."""
    Path("wait").touch()
    process = subprocess.Popen(
        [*COMMAND, "--jobs", "2"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    file = Path("out/history.jsonl")
    until(lambda: file.exists() and file.read_bytes().count(b"\n") > 6)
    time.sleep(0.5)
    return process


def test_a_worker_that_is_killed_once_changes_nothing(cli: Cli) -> None:
    Path("kill").touch()
    done = subprocess.run([*COMMAND, "--jobs", "2"], capture_output=True, text=True, timeout=240)
    assert not Path("kill").exists()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert cli("search", "s.yml", "whole", "--no-write", "--threads", "1").code == 0
    assert history("out") == history("whole")
    assert not any(map(alive, workers() - {os.getpid()}))


def test_a_point_that_ends_its_process_has_failed_and_is_passed_over() -> None:
    Path("deadly").touch()
    done = subprocess.run([*COMMAND, "--jobs", "2"], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    points = [row for row in history("out") if row.get("kind") == "point"]
    assert len(points) == 8
    for row in points:
        assert (row["state"] == "failed") == (row["point"]["a.weight"] > 0.5)
    why = "a process that scores models died over this point twice, once with no other beside it"
    assert {row.get("error", "") for row in points} == {"", why}
    before = Path("out/history.jsonl").read_bytes()
    again = subprocess.run([*COMMAND, "--jobs", "2", "--resume"], capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert Path("out/history.jsonl").read_bytes() == before


def test_a_model_that_points_are_measured_by_ends_the_search_with_its_process() -> None:
    Path("deadly-base").touch()
    done = subprocess.run([*COMMAND, "--jobs", "2"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 5, done.stderr
    assert (
        "E408: a process that scores models died. Hint: use fewer --jobs, or free some memory; then --resume"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
    Path("deadly-base").unlink()
    again = subprocess.run([*COMMAND, "--jobs", "2", "--resume"], capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr


def test_a_worker_that_is_killed_between_two_batches_is_made_anew() -> None:
    pool = InProcesses(Asked("s.yml", threads=1), (), 2)
    task = Task(0, {"a.weight": 0.5, "b.weight[0]": 0.5, "b.weight[1]": 0.5})
    try:
        assert [one.state for one in pool([task])] == ["complete"]
        (killed,) = workers()
        os.kill(killed, signal.SIGKILL)
        until(lambda: not alive(killed))
        time.sleep(1)
        assert [one.state for one in pool([task])] == ["complete"]
    finally:
        pool.close()


def test_workers_end_with_a_search_that_is_killed() -> None:
    with waiting() as process:
        process.kill()
        process.wait()
        until(lambda: not any(map(alive, workers())), 60)


def test_a_search_that_is_stopped_ends_at_once_and_without_noise() -> None:
    with waiting() as process:
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert not any(map(alive, workers()))
