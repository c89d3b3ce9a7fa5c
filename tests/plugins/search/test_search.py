"""`mergecore search` as a whole: on models whose weights are 0, 1 and 3, with an evaluator that wants 1.4."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fixture_types import Cli
from near_evaluator import CONFIG
from tiny import read_tensors, write_llama

from mergecore import Checkpoint, ModelSource, Registry, plan
from mergecore.types import ModelReference, OpenOptions
from mergecore_plugins.search.judging.bench import Asked
from mergecore_plugins.search.judging.candidates import opening_once
from mergecore_plugins.search.searching import Prepared, prepared

HELD_OUT = f"{CONFIG}  holdout: {{data: 1}}\n"

pytestmark = pytest.mark.usefixtures("near_models")


def written(text: str = CONFIG, name: str = "s.yml") -> str:
    Path(name).write_text(text)
    return name


def checked(text: str = CONFIG, **instead: Any) -> Prepared:
    return prepared(Asked(written(text), json.dumps(instead), threads=1))


def history(folder: str) -> list[dict[str, Any]]:
    """What was tried, without what a clock says."""
    rows = [json.loads(line) for line in Path(folder, "history.jsonl").read_text().splitlines()]
    return [
        {key: one for key, one in row.items() if key not in ("seconds", "merging", "changed")} for row in rows
    ]


def test_the_best_point_is_an_ordinary_config_and_its_model_an_ordinary_merge(cli: Cli) -> None:
    outcome = cli("search", written(HELD_OUT), "out")
    assert outcome.code == 0, outcome.err
    assert "the best point beats the average: on the data held out" in outcome.out
    found = json.loads(Path("out/search.json").read_text())
    assert (found["recommended"], found["held_out"], len(found["trials"])) == ("best", True, 4 + 8)
    assert [row["kind"] for row in found["table"]] == ["point", "average", "parent", "parent", "base"]
    best = yaml.safe_load(Path("out/best.yml").read_text())
    assert best["x-search"]["point"] == found["best"]["number"]
    assert cli("merge", "out/best.yml", "again").code == 0
    assert cli("verify", "out/merged").code == 0
    ours, again = read_tensors(Path("out/merged")), read_tensors(Path("again"))
    assert all(torch.equal(ours[name], again[name]) for name in again)
    card = Path("out/merged/README.md").read_text()
    manifest = json.loads(Path("out/merged/mergecore-manifest.json").read_text())
    assert "x-search:" in card
    assert manifest["document"]["x-search"]["sampler"] == "tpe"


def test_trials_are_what_a_whole_merge_and_evaluation_give(cli: Cli) -> None:
    """What is taken over from one point to the next changes nothing: each is scored again alone."""
    assert cli("search", written(CONFIG), "out", "--no-write").code == 0
    for row in history("out")[1:]:
        if row["kind"] == "point" and row["state"] == "complete":
            made = checked()
            alone = made.bench.score(_task(row))
            assert [one.value for one in alone.scores] == [one["value"] for one in row["scores"]]
            assert alone.identity == row["identity"]


def _task(row: dict[str, Any]) -> Any:
    from mergecore_plugins.search.driving import Task

    return Task(row["number"], row["point"])


def test_only_tensors_that_change_are_merged_again() -> None:
    made = checked()
    point = {"a.weight": 0.5, "b.weight[0]": 0.5, "b.weight[1]": 0.5}
    first = made.bench.score(_task({"number": 0, "point": point}))
    second = made.bench.score(_task({"number": 1, "point": {**point, "b.weight[1]": 0.25}}))
    assert first.changed > second.changed > 0  # layer 0, and what has no layer, stand at the first knot
    third = made.bench.score(_task({"number": 2, "point": point}))
    assert third.scores == first.scores


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_to_the_same_end(cli: Cli) -> None:
    assert cli("search", written(CONFIG), "whole", "--no-write", "--threads", "1").code == 0
    chance = random.Random(5)
    command = [
        sys.executable,
        "-m",
        "mergecore",
        "search",
        "s.yml",
        "killed",
        "--no-write",
        "-q",
        "--threads",
        "1",
    ]
    for _ in range(40):
        more = ["--resume"] if Path("killed/history.jsonl").exists() else []
        process = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL)
        lines, wanted = _count("killed"), chance.randrange(3, 9)
        while process.poll() is None and _count("killed") < lines + wanted:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0
    assert history("killed") == history("whole")
    assert Path("killed/best.yml").read_bytes() == Path("whole/best.yml").read_bytes()


def _count(folder: str) -> int:
    file = Path(folder, "history.jsonl")
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_a_torn_line_does_not_count(cli: Cli) -> None:
    assert cli("search", written(CONFIG), "out", "--no-write", "--threads", "1").code == 0
    whole, file = history("out"), Path("out/history.jsonl")
    for size in (len(file.read_bytes()) - 7, len(file.read_bytes()) // 2):
        file.write_bytes(file.read_bytes()[:size])
        assert cli("search", "s.yml", "out", "--no-write", "--threads", "1", "--resume").code == 0
        assert history("out") == whole


def test_more_points_go_on_where_a_search_ended(cli: Cli) -> None:
    assert cli("search", written(CONFIG), "out", "--no-write", "--trials", "4", "--threads", "1").code == 0
    assert cli("search", "s.yml", "out", "--no-write", "--resume", "--threads", "1").code == 0
    assert cli("search", "s.yml", "new", "--no-write", "--threads", "1").code == 0
    assert history("out") == history("new")


@pytest.mark.slow
def test_several_processes_come_to_the_same_end(cli: Cli) -> None:
    assert cli("search", written(CONFIG), "one", "--no-write", "--threads", "1").code == 0
    outcome = cli("search", "s.yml", "two", "--no-write", "--threads", "1", "--jobs", "2")
    assert outcome.code == 0, outcome.err
    assert history("two") == history("one")


def test_without_a_signal_nothing_beats_the_average(cli: Cli) -> None:
    """The scores are noise of the model, whatever its weights are."""
    for seed in range(3):
        text = HELD_OUT.replace("evaluator: near", f"evaluator: near, signal: 0, data: {seed + 10}")
        text = text.replace("{data: 1}", f"{{data: {seed + 20}}}")
        outcome = cli("search", written(text), f"out{seed}", "--seed", str(seed))
        assert "nothing beats the average: use it (" in outcome.out, outcome.out
        found = json.loads(Path(f"out{seed}/search.json").read_text())
        assert found["recommended"] == "average"
        assert read_tensors(Path(f"out{seed}/merged"))["model.norm.weight"].unique().tolist() == [
            2.0
        ]  # (1 + 3) / 2


def test_ends_of_all_ranges_are_checked_before_any_weight_is_read(cli: Cli) -> None:
    text = (
        CONFIG.replace("!range [0, 1]", "!range [0, 1], density: !range [0.5, 2]")
        .replace("merge_method: task_arithmetic", "merge_method: !choice [ties, dare_ties]")
        .replace("models:", "parameters: {lambda: !choice [1, much]}\nmodels:", 1)
    )
    outcome = cli("search", written(text), "out")
    assert outcome.code == 2, outcome.err
    assert "s.yml:7:" in outcome.err
    assert "(where a.density is 2" in outcome.err
    assert "(where lambda is much)" in outcome.err
    assert not Path("out").exists()


def test_check_says_what_would_be_done(cli: Cli) -> None:
    outcome = cli("search", written(CONFIG), "out", "--check", "--time", "2h")
    assert outcome.code == 0
    assert outcome.err.splitlines() == [
        "checked 3 values by tpe, 8 points or 7200 s",
        "also scored:",
        "  average",
        "  ./a",
        "  ./b",
        "  ./base",
        "nothing is wrong; no weight was read",
    ]
    assert not Path("out").exists()


def test_public_test_sets_are_refused_unless_insisted_on(cli: Cli) -> None:
    written(CONFIG.replace("evaluator: near", "evaluator: near, public: true"))
    outcome = cli("search", "s.yml", "out")
    assert outcome.code == 4, outcome.err
    assert "E310" in outcome.err
    assert (
        "'near' is the public test set of NEAR: a model that is chosen by it says nothing of how good it is. "
        "Hint: search on other data; --allow-public-test-sets insists"
    ) in outcome.err
    assert cli("search", "s.yml", "out", "--check", "--allow-public-test-sets").code == 0


def test_models_that_cannot_be_averaged_are_searched_without_an_average(cli: Cli, tmp_path: Path) -> None:
    text = """
merge_method: passthrough
slices:
- sources: [{model: ./a, layer_range: [0, 2], parameters: {scale: !range [0.5, 1.5]}}]
- sources: [{model: ./wide, layer_range: [0, 1]}]
search: {trials: 4, objectives: [{evaluator: near}]}
"""
    write_llama(tmp_path / "wide", 5, 2.0)
    outcome = cli("search", written(text), "out")
    assert outcome.code == 0, outcome.err
    assert "note: the average of the models cannot be made, so nothing is measured by it:" in outcome.err
    assert "there is no average to compare the best point with" in outcome.out


def test_points_that_cannot_be_merged_fail_and_a_search_without_others_ends(cli: Cli) -> None:
    text = CONFIG.replace("!range [0, 1]", "!range [4e38, 5e38]")  # float32 ends at 3.4e38
    outcome = cli("search", written(text), "out", "--trials", "4")
    assert outcome.code == 5, outcome.err
    assert "E409: none of 4 points could be scored; the first: " in outcome.err
    assert (
        "Hint: look at the errors in history.jsonl; the ranges may leave nothing that can be merged"
        in outcome.err
    )
    assert [row["state"] for row in history("out")[1:]] == ["complete"] * 4 + ["failed"] * 4
    broken = written(CONFIG.replace("evaluator: near", "evaluator: near, signal: 1e308"))
    said = cli("search", broken, "bad").err
    assert "average: 'near' is not a finite number" in said


def test_a_point_to_begin_with_is_scored_first(cli: Cli) -> None:
    text = f"{CONFIG}  start: [uniform, {{a.weight: 0.2, 'b.weight[0]': 0.4, 'b.weight[1]': 0.4}}]\n"
    assert cli("search", written(text), "out", "--no-write", "--trials", "5").code == 0
    points = [row["point"] for row in history("out")[1:] if row["kind"] == "point"]
    assert points[0] == {"a.weight": 0.2, "b.weight[0]": 0.4, "b.weight[1]": 0.4}
    outcome = cli("search", written(text.replace("a.weight: 0.2, ", "")), "other")
    assert "a point of 'start' has no value for a.weight" in outcome.err
    outcome = cli("search", written(text.replace("a.weight: 0.2", "a.weight: 2")), "other")
    assert "a point of 'start' has 2 for a.weight, which is not in its range" in outcome.err


def test_several_objectives_have_a_front(cli: Cli) -> None:
    text = CONFIG.replace(
        "[{evaluator: near}]", "[{evaluator: near}, {evaluator: near, name: light, score: weight}]"
    ).replace("trials: 8", "trials: 8\n  sampler: {name: nsga2, population: 4}")
    outcome = cli("search", written(text), "out", "--no-write")
    assert outcome.code == 0, outcome.err
    found = json.loads(Path("out/search.json").read_text())
    assert found["front"]
    assert {int(file.stem) for file in Path("out/front").glob("*.yml")} == set(found["front"])
    alone = cli("search", "s.yml", "x", "--sampler", "cma").err
    assert "the sampler 'cma' takes one objective, not 2" in alone
    assert "Hint: give each objective a 'weight', or use the sampler 'nsga2'" in alone
    weighted = text.replace("evaluator: near}", "evaluator: near, weight: 1}").replace(
        "score: weight", "score: weight, weight: 0.1"
    )
    assert cli("search", written(weighted), "sum", "--no-write", "--trials", "6").code == 0
    wrong = cli("search", written(text.replace("score: weight", "score: heavy")), "y")
    assert "the evaluator 'near' has no score 'heavy'. Hint: its scores: near, weight" in wrong.err


def test_a_search_whose_points_are_all_worse_leaves_the_average(cli: Cli) -> None:
    text = CONFIG.replace("near}", "near, wanted: 2}").replace("!range [0, 1]", "!range [-2, -1]")
    outcome = cli("search", written(text), "out", "--trials", "4")
    assert outcome.code == 0, outcome.err
    assert "nothing beats the average: use it (each of 4 points failed, or was ended early" in outcome.out
    assert read_tensors(Path("out/merged"))["model.norm.weight"].unique().tolist() == [2.0]


def test_models_are_opened_once(tmp_path: Path) -> None:
    opened: list[str] = []

    def open_counted(reference: ModelReference, options: OpenOptions) -> Checkpoint:
        opened.append(reference.path)
        return options.open_model(str(tmp_path / reference.path.removeprefix("counted:")))

    source = ModelSource(
        name="counted",
        accepts=lambda reference, _: reference.path.startswith("counted:"),
        open=open_counted,
        rank=0,
    )
    registry = opening_once(Registry.discover().with_sources(source))
    for weight in (0.1, 0.2, 0.3):
        entries = [{"model": f"counted:{name}", "parameters": {"weight": weight}} for name in "ab"]
        assert plan({"merge_method": "linear", "models": entries}, registry=registry).steps
    assert opened == ["counted:a", "counted:b"]


def test_a_page_is_written_that_tells_what_came_out(cli: Cli) -> None:
    Path("there.html").write_text("mine")
    refused = cli("search", written(HELD_OUT), "out", "--html", "there.html")
    assert (refused.code, Path("there.html").read_text(), Path("out").exists()) == (6, "mine", False)
    done = cli("search", written(HELD_OUT), "out", "--html", "out/search.html", "--no-write")
    assert done.code == 0, done.err
    assert "wrote out/search.html, " in done.err
    page = Path("out/search.html").read_text()
    found = json.loads(Path("out/search.json").read_text())
    scores = [one["scores"][0]["value"] for one in found["trials"] if one["state"] == "complete"]
    assert f"The best, {max(scores):.4g}, came with trial " in page
    points = sum(one["kind"] == "point" for one in found["trials"])
    assert f"{points} points and {len(found['trials']) - points} models to compare with: " in page
    assert cli("search", written(HELD_OUT), "out", "--resume", "--html", "again.html", "--no-write").code == 0
