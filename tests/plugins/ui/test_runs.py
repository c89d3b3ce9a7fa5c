"""Runs of the page: real command lines, one after the other, stopped and resumed, known after a restart."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import WriteModel
from starlette.testclient import TestClient
from ui_server import CONFIG

import mergecore
from mergecore_plugins.ui.runs.progress import duration

TIME = 60.0
Serve = Callable[[], TestClient]

SLOW = """
import time
from mergecore import MergeMethod, Params, hookimpl

def merge(group, params):
    time.sleep(0.3)
    return group.map(lambda block: block.x[0])

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="slow", merge=merge, params=Params)
"""
SLOWLY = "merge_method: slow\nmodels:\n  - model: a\n  - model: b\n"


def run_of(folder: Path, number: int = 1) -> dict[str, Any]:
    """What is written of a run."""
    facts: dict[str, Any] = json.loads((folder / f".mergecore-ui/runs/{number}/run.json").read_text())
    return facts


def wait(what: Callable[[], object]) -> None:
    end = time.monotonic() + TIME
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def state(folder: Path, number: int = 1) -> str:
    return str(run_of(folder, number)["state"])


def ask(page: TestClient, text: str, out: str, **options: object) -> int:
    answer = page.post("/runs", json={"text": text, "out": out, **options})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["number"])


def test_a_merge_is_that_of_the_command_line(page: TestClient, folder: Path) -> None:
    ask(page, CONFIG, "out/mean")
    wait(lambda: state(folder) == "done")
    mergecore.merge("mean.yml", "other")
    assert (folder / "out/mean/model.safetensors").read_bytes() == Path(
        "other/model.safetensors"
    ).read_bytes()
    html = page.get("/runs").text
    assert "mergecore merge .mergecore-ui/runs/1/config.yml out/mean" in html
    assert "done" in html
    assert "every 1s" not in html
    assert mergecore.verify_folder(folder / "out/mean").tensors


def test_the_config_of_a_run_is_that_which_was_asked_for(page: TestClient, folder: Path) -> None:
    ask(page, CONFIG, "out/mean", threads="1", **{"max-memory": "2GB"})
    assert page.get("/runs/1/config").json()["text"] == CONFIG
    assert run_of(folder)["words"] == [
        *("merge", "{config}", "out/mean", "--threads=1", "--max-memory=2GB", "--offline")
    ], "no network, as long as nobody ticked that models are looked for on the hub"


@pytest.mark.parametrize(
    ("text", "out", "said"),
    [
        (CONFIG, "", "say where to write the merged model"),
        (CONFIG, "--overwrite", "say where to write the merged model"),
        (CONFIG.replace("weight", "wieght", 1), "out", "the config cannot be merged yet"),
        (CONFIG.replace("model: b", "model: ./c"), "out", "the config cannot be merged yet"),
    ],
)
def test_what_the_command_line_would_refuse_is_not_run(
    page: TestClient, folder: Path, text: str, out: str, said: str
) -> None:
    answer = page.post("/runs", json={"text": text, "out": out})
    assert answer.status_code == 422
    assert said in answer.json()["message"]
    assert not (folder / ".mergecore-ui/runs/1").exists()


def test_what_is_there_is_not_replaced_unless_that_is_asked_for(page: TestClient, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/mine.txt").write_text("mine")
    ask(page, CONFIG, "out")
    wait(lambda: state(folder) == "failed")
    html = page.get("/runs").text
    assert "error E501" in html
    assert (folder / "out/mine.txt").read_text() == "mine"


def test_runs_wait_for_each_other_and_can_be_taken_out(page_of_slow: TestClient, folder: Path) -> None:
    for out in ("one", "two", "three"):
        ask(page_of_slow, SLOWLY, out)
    wait(lambda: state(folder, 1) == "running")
    assert state(folder, 2) == "waiting"
    assert "Take out" in page_of_slow.get("/runs").text
    page_of_slow.post("/runs/2/stop")
    page_of_slow.post("/runs/1/stop")
    wait(lambda: state(folder, 3) in ("running", "done"))
    assert state(folder, 2) == state(folder, 1) == "stopped"
    assert not (folder / "two").exists()


@pytest.fixture
def page_of_slow(write_plugin: Any, serve: Serve) -> TestClient:
    write_plugin("slow", SLOW)
    return serve()


def test_a_merge_is_stopped_and_resumed_with_the_same_bytes(page_of_slow: TestClient, folder: Path) -> None:
    ask(page_of_slow, SLOWLY, "out")
    wait(lambda: "StepDone" in (folder / ".mergecore-ui/runs/1/out.log").read_text())
    assert "every 1s" in page_of_slow.get("/runs").text
    page_of_slow.post("/runs/1/stop")
    wait(lambda: state(folder) == "stopped")
    assert run_of(folder)["exit_code"] == 130
    assert "mergecore: interrupted; run again with --resume to go on" in page_of_slow.get("/runs").text
    assert not (folder / "out").exists()
    page_of_slow.post("/runs/1/resume")
    wait(lambda: state(folder) == "done")
    assert run_of(folder)["words"] == ["merge", "{config}", "out", "--offline", "--resume"]
    assert (folder / "out/model.safetensors").read_bytes() == (folder / "a/model.safetensors").read_bytes()


def test_the_end_of_the_server_stops_what_runs_and_the_next_one_resumes(
    write_plugin: Any, serve: Serve, folder: Path
) -> None:
    write_plugin("slow", SLOW)
    first = serve()
    ask(first, SLOWLY, "one")
    ask(first, SLOWLY, "two")
    wait(lambda: state(folder, 1) == "running")
    first.__exit__()
    assert state(folder, 1) == "stopped"
    assert state(folder, 2) == "waiting"
    second = serve()
    wait(lambda: state(folder, 2) == "done")
    second.post("/runs/1/resume")
    wait(lambda: state(folder, 1) == "done")


def test_a_run_that_outlived_its_server_is_found_by_the_next(
    write_plugin: Any, folder: Path, serve: Serve
) -> None:
    """As after `kill -9`: the merge is a process of its own."""
    from ui_server import served

    write_plugin("slow", SLOW)
    with served(folder) as (process, address):
        import httpx

        base = address.partition("/?")[0]
        with httpx.Client(follow_redirects=True, base_url=base, headers={"origin": base}) as client:
            client.get(address)
            assert client.post("/runs", json={"text": SLOWLY, "out": "out"}).status_code == 200
            wait(lambda: (folder / ".mergecore-ui/runs/1/run.json").is_file() and state(folder) == "running")
            process.kill()
            process.wait()
    page = serve()
    assert state(folder) == "running"
    assert "Stop" in page.get("/runs").text
    wait(lambda: state(folder) == "done")
    assert (folder / "out/mergecore-manifest.json").is_file()


def test_a_run_that_is_removed_leaves_what_it_made(page: TestClient, folder: Path) -> None:
    ask(page, CONFIG, "out")
    wait(lambda: state(folder) == "done")
    page.post("/runs/1/remove")
    assert not (folder / ".mergecore-ui/runs/1").exists()
    assert (folder / "out").is_dir()
    assert "run-1" not in page.get("/runs").text


def test_runs_that_nobody_asked_for_are_not_known(page: TestClient) -> None:
    assert page.get("/runs/7/config").status_code == 404
    assert page.post("/runs/7/stop").status_code == 200
    assert page.post("/runs/7/explode").status_code == 404


def test_merges_are_listed_and_reopened_with_their_comments(page: TestClient, folder: Path) -> None:
    ask(page, CONFIG, "out/mean")
    wait(lambda: state(folder) == "done")
    html = page.get("/history").text
    assert "out/mean" in html
    assert "linear" in html
    found = page.get("/history/open", params={"path": "out/mean"}).json()
    assert (found["text"], found["out"]) == (CONFIG, "out/mean")


def test_a_merge_of_the_command_line_is_reopened_from_its_manifest(page: TestClient, folder: Path) -> None:
    mergecore.merge("mean.yml", "typed")
    text = page.get("/history/open", params={"path": "typed"}).json()["text"]
    assert text.startswith("# typed, as its manifest says\nmerge_method: linear\n")
    assert page.post("/plan", json={"text": text}).json()["ok"]


@pytest.mark.parametrize("path", ["", "..", "/etc", "a", "nowhere"])
def test_nothing_but_a_merge_below_the_folder_is_reopened(page: TestClient, path: str) -> None:
    assert page.get("/history/open", params={"path": path}).status_code == 422


def test_a_broken_manifest_breaks_nothing(page: TestClient, folder: Path) -> None:
    (folder / "odd").mkdir()
    (folder / "odd/mergecore-manifest.json").write_text("{")
    assert page.get("/history").status_code == 200


def test_names_with_html_in_them_are_text(page: TestClient, folder: Path, write_model: WriteModel) -> None:
    name = "<img src=x onerror=alert(1)>"
    ask(page, CONFIG, f"out/{name}")
    wait(lambda: state(folder) == "done")
    for path in ("/runs", "/history"):
        text = page.get(path).text
        assert "&lt;img src=x" in text
        assert "<img src=x" not in text


def test_the_time_of_a_plan_is_judged_by_the_last_merge(page: TestClient, folder: Path) -> None:
    assert "known after the first merge" in page.post("/plan", json={"text": CONFIG}).json()["html"]
    ask(page, CONFIG, "out")
    wait(lambda: state(folder) == "done")
    facts = run_of(folder)
    html = page.post("/plan", json={"text": CONFIG}).json()["html"]
    assert f"<dt>Time</dt><dd>{duration(facts['ended'] - facts['started'])}</dd>" in html


def test_a_report_is_written_and_shown_without_an_origin(page: TestClient, folder: Path) -> None:
    mergecore.merge("mean.yml", "typed")
    assert "Write a report" in page.get("/history").text
    number = page.post("/history/report", json={"path": "typed"}).json()["number"]
    wait(lambda: state(folder, number) == "done")
    assert run_of(folder)["words"] == ["report", "typed", "typed.html"]
    assert 'href="/report?path=typed"' in page.get("/runs").text
    assert "See its report" in page.get("/history").text
    answer = page.get("/report", params={"path": "typed"})
    assert answer.text == (folder / "typed.html").read_text()
    policy = answer.headers["content-security-policy"]
    assert "sandbox allow-scripts" in policy
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy
    assert "default-src 'none'" in policy


def test_only_a_report_that_was_written_has_a_link(page: TestClient, folder: Path) -> None:
    mergecore.merge("mean.yml", "typed")
    (folder / "typed.html").mkdir()  # in the way of the report
    number = page.post("/history/report", json={"path": "typed"}).json()["number"]
    wait(lambda: state(folder, number) == "failed")
    ask(page, CONFIG, "out")
    wait(lambda: state(folder, number + 1) == "done")
    assert "/report?path=" not in page.get("/runs").text


@pytest.mark.parametrize("path", ["", "..", "/etc/passwd", "a", "secret"])
def test_nothing_but_reports_of_merges_is_shown(page: TestClient, folder: Path, path: str) -> None:
    (folder / "secret.html").write_text("secret")
    assert page.get("/report", params={"path": path}).status_code == 404
    assert page.post("/history/report", json={"path": path}).status_code == 422


def test_a_report_that_is_a_link_is_not_followed(page: TestClient, folder: Path) -> None:
    mergecore.merge("mean.yml", "typed")
    (folder.parent / "secret").write_text("secret")
    (folder / "typed.html").symlink_to(folder.parent / "secret")
    assert page.get("/report", params={"path": "typed"}).status_code == 404


def test_what_is_in_the_way_is_replaced_where_one_says_so(page: TestClient, folder: Path) -> None:
    mergecore.merge("mean.yml", "out")
    ask(page, CONFIG.replace("weight: 1", "weight: 2", 1), "out")
    wait(lambda: state(folder) == "failed")
    assert "Replace what is there" in page.get("/runs").text
    page.post("/runs/1/overwrite")
    wait(lambda: state(folder) == "done")


def test_an_interrupted_run_of_another_plan_can_be_started_again(
    page_of_slow: TestClient, folder: Path
) -> None:
    ask(page_of_slow, SLOWLY, "out")
    wait(lambda: "StepDone" in (folder / ".mergecore-ui/runs/1/out.log").read_text())
    page_of_slow.post("/runs/1/stop")
    wait(lambda: state(folder) == "stopped")
    ask(page_of_slow, CONFIG, "out")
    wait(lambda: state(folder, 2) == "failed")
    assert "Start again" in page_of_slow.get("/runs").text
    page_of_slow.post("/runs/2/restart")
    wait(lambda: state(folder, 2) == "done")


def test_modules_in_the_folder_are_not_imported(page: TestClient, folder: Path) -> None:
    for name in ("json", "yaml", "torch", "mergecore"):
        (folder / f"{name}.py").write_text("raise SystemExit('taken')\n")
    ask(page, CONFIG, "out")
    wait(lambda: state(folder) == "done")


def test_a_merge_that_was_made_anew_is_not_that_of_the_run(page: TestClient, folder: Path) -> None:
    ask(page, CONFIG, "out")
    wait(lambda: state(folder) == "done")
    time.sleep(1.1)
    (folder / "other.yml").write_text(CONFIG.replace("weight: 1", "weight: 5", 1))
    mergecore.merge("other.yml", "out", run_options=mergecore.RunOptions(overwrite=True))
    text = page.get("/history/open", params={"path": "out"}).json()["text"]
    assert "weight: 5" in text
    assert "the mean of two" not in text
