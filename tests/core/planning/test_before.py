"""Several plans in order, of which later ones read what earlier ones make: by a recipe of another package."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from fixture_types import Cli, WritePlugin
from safetensors.torch import load_file
from tiny import llama, llama_config, read_tensors, write_checkpoint, write_llama
from tiny_tokenizers import tokenizer_json

import mergecore
from mergecore import OutputError, PlanOptions, PluginError, Registry, RunOptions
from mergecore.planning import Before
from mergecore.types import Plan, StepDone

FOLDER = Path(__file__).resolve().parents[2] / "third_party" / "relay"
WRITTEN = ("--fuse", "never")
DOCUMENT = "relay: [./a, ./b, ./c, ./d]\n"
VALUES = {"a": 1.0, "b": 3.0, "c": 6.0, "d": 12.0}
# leg-1 = (1 + 3) / 2 = 2, leg-2 = (2 + 6) / 2 = 4, the output = (4 + 12) / 2 = 8


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Four models, all of whose numbers are one, in the current folder; and the recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)
    for name, value in VALUES.items():
        write_llama(tmp_path / name, 1, value)
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(tokenizer_json("BPE", list("abcdefgh"))))
    Path("config.yml").write_text(DOCUMENT)
    yield
    sys.modules.pop("relay", None)


def values(folder: str) -> set[float]:
    return {value for one in read_tensors(Path(folder)).values() for value in one.unique().tolist()}


def test_later_plans_read_what_earlier_ones_make(cli: Cli) -> None:
    outcome = cli("merge", "config.yml", "out", *WRITTEN)
    assert outcome.code == 0, outcome.err
    assert values("out") == {8.0}
    assert values("out.parts/leg-1") == {2.0}
    assert values("out.parts/leg-2") == {4.0}
    for folder in ("out", "out.parts/leg-1", "out.parts/leg-2"):
        assert cli("verify", folder).code == 0
        assert (Path(folder) / "tokenizer.json").read_bytes() == Path("a/tokenizer.json").read_bytes()
    manifest = Path("out/mergecore-manifest.json").read_text()
    assert [one["reference"] for one in json.loads(manifest)["models"]] == ["leg-2", "./d"]
    assert str(Path.cwd()) not in manifest
    card = Path("out/README.md").read_text()
    assert "mergecore-" not in card
    document = json.loads(manifest)["document"]
    shown = yaml.safe_load(card.partition("```yaml\n")[2].partition("```")[0])
    assert shown == {
        key: value for key, value in document.items() if key != "made_before"
    }  # the recipe makes that
    [(name, leg)] = document["made_before"].items()
    assert (name, [one["model"] for one in leg["models"]]) == ("leg-2", ["leg-1", "./c"])
    [(name, leg)] = leg["made_before"].items()
    assert (name, [one["model"] for one in leg["models"]], leg.keys()) == (
        "leg-1",
        ["./a", "./b"],
        {"merge_method", "models"},
    )
    assert sorted(path.name for path in Path().iterdir()) == [
        "a",
        "b",
        "c",
        "config.yml",
        "d",
        "out",
        "out.parts",
    ]


def test_everything_is_checked_before_anything_is_made(cli: Cli) -> None:
    write_llama(Path("d"), 2, 1.0)
    outcome = cli("merge", "config.yml", "out", *WRITTEN)
    assert outcome.code == 3
    assert "E231: the models have different numbers of layers: leg-2 1, ./d 2" in outcome.err
    assert not Path("out.parts").exists()


def test_the_plan_shows_all_plans(cli: Cli) -> None:
    text = cli("plan", "config.yml", *WRITTEN).out
    assert text.index("leg-1: a plan that comes before") < text.index("leg-2: a plan that comes before")
    told = json.loads(cli("plan", "config.yml", "--json", *WRITTEN).out)
    assert [one["name"] for one in told["earlier"]] == ["leg-1", "leg-2"]
    assert [one["reference"] for one in told["earlier"][1]["models"]] == ["leg-1", "./c"]
    assert [one["reference"] for one in told["models"]] == ["leg-2", "./d"]
    assert cli("plan", "config.yml", "--check").code == 0


def test_what_is_there_and_unchanged_is_not_made_again(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def merge(**options: bool) -> list[str]:
        made.clear()
        mergecore.merge(
            "config.yml",
            "out",
            plan_options=PlanOptions(fuse="never"),
            run_options=RunOptions(**options),  # type: ignore[arg-type]
            progress=lambda event: made.append(event.name) if isinstance(event, StepDone) else None,
        )
        return made

    steps = len(read_tensors(Path("a")))
    assert len(merge()) == 3 * steps
    assert merge() == []
    write_llama(Path("d"), 1, 0.0)
    with pytest.raises(
        OutputError, match=r"it holds another merge, which differs in \./d/model\.safetensors"
    ):
        merge()
    assert len(merge(overwrite=True)) == steps  # only the last one
    assert values("out") == {2.0}
    write_llama(Path("c"), 1, 0.0)
    assert len(merge(overwrite=True)) == 2 * steps  # leg-2 = (2 + 0) / 2 = 1, and (1 + 0) / 2
    assert values("out") == {0.5}
    Path("out.parts/leg-1/config.json").write_text("{}")
    assert (
        len(merge(overwrite=True)) == 2 * steps
    )  # leg-1 is damaged, so it is made again; leg-2 is as it would be
    assert values("out") == {0.5}


def test_a_folder_that_is_not_ours_is_left_alone(cli: Cli) -> None:
    Path("out.parts/leg-1").mkdir(parents=True)
    Path("out.parts/leg-1/notes.txt").write_text("mine")
    outcome = cli("merge", "config.yml", "out", *WRITTEN)
    assert outcome.code == 6
    assert "E501: " in outcome.err
    assert "out.parts/leg-1" in outcome.err
    assert [path.name for path in Path("out.parts/leg-1").iterdir()] == ["notes.txt"]


def test_what_stands_in_the_way_of_the_output_is_said_before_anything_is_made(cli: Cli) -> None:
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    outcome = cli("merge", "config.yml", "out", *WRITTEN)
    assert outcome.code == 6
    assert "E501: " in outcome.err
    assert not Path("out.parts").exists()


@pytest.mark.parametrize("out", ["new/folder/out", "empty/.", "empty/x/.."])
def test_the_folders_lie_beside_the_output_wherever_that_is(cli: Cli, out: str) -> None:
    Path("empty/x").mkdir(parents=True)
    if out.endswith("/."):
        Path("empty/x").rmdir()
    outcome = cli("merge", "config.yml", out, *WRITTEN)
    if "new" in out:
        assert outcome.code == 0, outcome.err
        assert values("new/folder/out") == {8.0}
        assert values("new/folder/out.parts/leg-1") == {2.0}
    elif outcome.code == 0:
        assert values("empty") == {8.0}
        assert values("empty.parts/leg-1") == {2.0}
    else:
        assert "E501: " in outcome.err
        assert not Path("empty.parts").exists()


def test_other_executors_make_the_same(cli: Cli) -> None:
    assert cli("merge", "config.yml", "out", *WRITTEN).code == 0
    outcome = cli("merge", "config.yml", "other", *WRITTEN, "--executor", "processes", "-j", "2")
    assert outcome.code == 0, outcome.err
    for folder in ("out", "out.parts/leg-2"):
        for path in Path(folder).iterdir():
            assert path.read_bytes() == Path(folder.replace("out", "other"), path.name).read_bytes()


class Stopped(Exception):
    """An interruption."""


@pytest.mark.parametrize("after", [2, 14, 27])
def test_an_interrupted_run_is_resumed_in_whichever_plan_it_stopped(cli: Cli, after: int) -> None:
    steps = len(read_tensors(Path("a")))
    assert 2 < steps < 14 < 2 * steps < 27 < 3 * steps
    assert cli("merge", "config.yml", "whole", *WRITTEN).code == 0
    count = 0

    def stop(event: object) -> None:
        nonlocal count
        count += isinstance(event, StepDone)
        if count == after:
            raise Stopped

    with pytest.raises(Stopped):
        mergecore.merge("config.yml", "out", plan_options=PlanOptions(fuse="never"), progress=stop)
    assert not Path("out").exists()
    assert "E507" in cli("merge", "config.yml", "out", *WRITTEN).err
    assert cli("merge", "config.yml", "out", "--resume", *WRITTEN).code == 0
    for folder in ("out", "out.parts/leg-1", "out.parts/leg-2"):
        for path in Path(folder).iterdir():
            assert path.read_bytes() == Path(folder.replace("out", "whole"), path.name).read_bytes()


def test_a_run_in_memory_makes_the_same(cli: Cli) -> None:
    assert cli("merge", "config.yml", "out", *WRITTEN).code == 0
    made = mergecore.pipeline.run(mergecore.plan("config.yml", options=PlanOptions(fuse="never")))
    stored = load_file("out/model.safetensors")
    assert made.keys() == stored.keys()
    assert all(torch.equal(made[name], stored[name]) for name in stored)


def test_nothing_is_left_of_the_folder_for_what_was_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    plan = mergecore.plan("config.yml", options=PlanOptions(fuse="never"))
    assert [one.name for one in plan.earlier] == ["leg-1", "leg-2"]
    mergecore.execute(plan, "out")
    assert not [*(tmp_path / "scratch").iterdir()]


# ---- vocabularies ------------------------------------------------------------------------------------------

OTHER = """
import mergecore
from mergecore import Recipe, hookimpl

def average(planner, *models, **more):
    entries = [{"model": model, "parameters": {"weight": 1}} for model in models]
    return planner.compile({"merge_method": "linear", "models": entries, **more})

def compile(document, planner):
    BODY

@hookimpl
def mergecore_recipes():
    yield Recipe(name="other", accepts=lambda data: "other" in data, compile=compile)
"""


def test_a_later_plan_aligns_the_vocabulary_that_an_earlier_one_makes(
    write_plugin: WritePlugin, cli: Cli
) -> None:
    """`both` has the tokens of a and, behind them, those of b that a lacks; c has all of them the other way round."""
    body = """planner.before("both", average(planner, "./a", "./b", tokenizer_source="union"))
    return average(planner, "both", "./c", tokenizer_source="base")"""
    write_plugin("other", OTHER.replace("BODY", body))
    for name, tokens in (("a", "abcdefgh"), ("b", "abcdefxy"), ("c", "yxhgfedcba")):
        rows = torch.tensor([[float(ord(token))] * 4 for token in tokens])
        tensors = {**llama(1, 0.0), "model.embed_tokens.weight": rows, "lm_head.weight": rows.clone()}
        write_checkpoint(Path(name), tensors, llama_config(1, vocab_size=len(tokens)))
        (Path(name) / "tokenizer.json").write_text(json.dumps(tokenizer_json("BPE", list(tokens))))
    Path("config.yml").write_text("other: 1\n")
    outcome = cli("merge", "config.yml", "out", *WRITTEN)
    assert outcome.code == 0, outcome.err
    made = read_tensors(Path("out"))["model.embed_tokens.weight"]
    assert made[:, 0].tolist() == [
        float(ord(token)) for token in "abcdefghxy"
    ]  # equal rows stay what they are


# ---- what is wrong with a recipe ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "plan", "told"),
    [
        ("one", "average(planner, './a', './b')", "two plans are called 'one'"),
        (
            "a/b",
            "average(planner, './a', './b')",
            "'a/b' cannot be the name of a plan, which is also that of",
        ),
        ("..", "average(planner, './a', './b')", "'..' cannot be the name of a plan, which is also that of"),
        (
            "raw",
            "average(planner, './a', './b', output={'writer': 'raw'})",
            "the plan 'raw' makes 0.bin, and only safetensors can be read by later plans",
        ),
        (
            "whole",
            "mergecore.plan({'relay': ['./a', './b', './c']})",
            "the plan 'whole' has plans before it; make it with `planner.compile`",
        ),
    ],
)
def test_plans_that_cannot_come_before_are_refused(
    write_plugin: WritePlugin, monkeypatch: pytest.MonkeyPatch, name: str, plan: str, told: str
) -> None:
    monkeypatch.syspath_prepend(FOLDER.parent / "raw")
    body = f"""planner.before("one", average(planner, "./a", "./b"))
    planner.before("{name}", {plan})"""
    write_plugin("other", OTHER.replace("BODY", body))
    with pytest.raises(PluginError) as caught:
        mergecore.plan({"other": 1}, registry=Registry.discover())
    sys.modules.pop("raw", None)
    assert str(caught.value).startswith(told)
    assert caught.value.hint == "report it to the authors of the recipe"


def test_tensors_that_are_encoded_cannot_be_read_by_later_plans(tmp_path: Path) -> None:
    plan = mergecore.plan({"relay": ["./a", "./b"]})
    slots = {name: replace(slot, encoding="Q8_0") for name, slot in plan.layout.slots.items()}
    encoded = replace(plan, layout=replace(plan.layout, slots=slots))
    with pytest.raises(
        PluginError, match=r"encodes 'model\.embed_tokens\.weight', which later plans could not"
    ):
        Before(lambda: tmp_path).add("x", encoded)


def test_a_recipe_that_changes_its_mind_is_stopped(tmp_path: Path) -> None:
    plan = mergecore.plan("config.yml", options=PlanOptions(fuse="never"))
    other = mergecore.plan({"relay": ["./a", "./b", "./c"]})
    assert plan.again
    twisted: Plan = plan.__class__(**{**vars(plan), "again": lambda made, scratch: other})
    with pytest.raises(PluginError, match="makes a different plan once the earlier models exist"):
        mergecore.execute(twisted, "out")
