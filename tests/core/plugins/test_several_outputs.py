"""Steps that make several tensors: numbers, threads, interruptions, and what a method can do wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixture_types import Cli, WritePlugin
from safetensors.torch import load_file, save_file
from torch import Tensor

THIRD = Path(__file__).resolve().parents[2] / "third_party" / "factors"
NAMES = ["long.0", "long.1", "short.0", "short.1", "tall.0", "tall.1", "wide.0", "wide.1"]


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The tensors of the model `m`, which `c.yml` takes apart."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(THIRD)
    drawn = torch.Generator().manual_seed(3)
    shapes = {"tall": (40, 24), "wide": (16, 56), "short": (5,), "long": (600_001,)}  # three blocks
    tensors = {name: torch.randn(shape, generator=drawn) for name, shape in shapes.items()}
    Path("m").mkdir()
    Path("m/config.json").write_text("{}")
    save_file(tensors, "m/model.safetensors")
    Path("c.yml").write_text("factors: ./m\n")
    return tensors


def content(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_step_makes_several_tensors(model: dict[str, Tensor], cli: Cli) -> None:
    outcome = cli("merge", "c.yml", "out", "-j", "1")
    assert outcome.code == 0, outcome.err
    made = load_file("out/model.safetensors")
    assert sorted(made) == NAMES
    for name in ("tall", "wide"):  # u·s times vᵀ is the matrix
        product = made[f"{name}.0"].double() @ made[f"{name}.1"].double()
        assert torch.allclose(product, model[name].double(), atol=1e-5)
        assert torch.allclose(
            made[f"{name}.1"] @ made[f"{name}.1"].T, torch.eye(16 if name == "wide" else 24), atol=1e-5
        )
    for name in ("short", "long"):
        assert torch.equal(torch.cat([made[f"{name}.0"], made[f"{name}.1"]]), model[name])
    assert len(made["short.0"]) == 2
    outcome = cli("verify", "out")
    assert outcome.code == 0, outcome.err
    manifest = json.loads(Path("out/mergecore-manifest.json").read_text())
    assert sorted(manifest["tensors"]) == NAMES
    assert manifest["dropped"] == []


def test_threads_and_processes_make_the_same_bytes(cli: Cli) -> None:
    for out, words in {
        "one": ["-j", "1"],
        "two": ["-j", "2"],
        "more": ["-j", "2", "--executor", "processes"],
    }.items():
        outcome = cli("merge", "c.yml", out, *words)
        assert outcome.code == 0, outcome.err
    assert content("one") == content("two") == content("more")


KILLED = """
import os, signal, sys
import mergecore
from mergecore.output.storages import folder
folder.COMMIT_BYTES = 0  # every step is journaled at once

def kill(event):
    if getattr(event, "done", 0) >= int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

mergecore.merge("c.yml", "out", run_options=mergecore.RunOptions(mode=sys.argv[2], threads=2), progress=kill)
"""


def test_killed_at_any_step_a_run_goes_on_to_the_same_bytes(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("merge", "c.yml", "whole").code == 0
    monkeypatch.setenv("PYTHONPATH", str(THIRD))
    for done, mode in (("2", "new"), ("6", "resume")):
        killed = subprocess.run([sys.executable, "-c", KILLED, done, mode], check=False)
        assert killed.returncode == -9
    [journal] = Path().glob(".out*/.work/journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert [line for line in lines if b'"t":' in line]
    assert cli("merge", "c.yml", "out", "--resume").code == 0
    assert content("out") == content("whole")


def test_a_step_of_which_only_one_tensor_is_journaled_is_done_again(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("merge", "c.yml", "whole").code == 0
    monkeypatch.setenv("PYTHONPATH", str(THIRD))
    assert subprocess.run([sys.executable, "-c", KILLED, "4", "new"], check=False).returncode == -9
    [journal] = Path().glob(".out*/.work/journal")
    *lines, last = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines) + last[: len(last) // 2])  # torn by a power cut
    named = [json.loads(line.split(b" ", 1)[1]).get("t") for line in lines]
    assert len([name for name in named if name]) % 2
    outcome = cli("merge", "c.yml", "out", "--resume")
    assert outcome.code == 0, outcome.err
    assert content("out") == content("whole")


def test_damage_to_one_of_two_tensors_is_found(cli: Cli) -> None:
    assert cli("merge", "c.yml", "out").code == 0
    data = bytearray(Path("out/model.safetensors").read_bytes())
    data[-1] ^= 1
    Path("out/model.safetensors").write_bytes(data)
    outcome = cli("verify", "out")
    assert outcome.code != 0
    assert "tensor 'wide.1' is damaged" in outcome.err


def test_a_plan_shows_all_that_a_step_makes(cli: Cli) -> None:
    text = cli("plan", "c.yml", "--tensor", "tall.1").out
    assert "8 tensors: 4 halve, 4 factor" in text
    assert "tall.0 [40, 24] float32" in text
    assert "tall.1 [24, 24] float32" in text
    shown = json.loads(cli("plan", "c.yml", "--tensor", "tall.1", "--json").out)
    [step] = shown["tensors"]
    assert (step["name"], step["shape"]) == ("tall.0", [40, 24])
    assert step["further"] == [{"name": "tall.1", "dtype": "F32", "shape": [24, 24]}]


# ---- what a method does wrong ------------------------------------------------------------------------------

WRONG = """
from mergecore import MergeMethod, NoParams, Recipe, hookimpl
from mergecore.types import OutputTensor, SideFiles, Step, TensorInput

def merge(group, params):
    import torch
    return RESULT

def compile(document, planner):
    model = planner.open("./m")
    made = tuple(OutputTensor(name, "F32", (3,)) for name in ("x", "y"))
    step = Step(made, (TensorInput(0, model.tensors["short"]),), "wrong", NoParams())
    return planner.plan([model], [step], SideFiles())

@hookimpl
def mergecore_recipes():
    method = MergeMethod(name="wrong", merge=merge, params=NoParams, needs_whole_tensors=True)
    yield Recipe(name="wrong", accepts=lambda data: "wrong" in data, compile=compile, methods=(method,))
"""
SCATTERED = "group.scatter(lambda block: [(0, 0, block.x[0, :3]), {}])"


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("group.x[0]", "it returned 1 tensors, and 2 are to be made"),
        ("(group.x[0, :3],) * 3", "it returned 3 tensors, and 2 are to be made"),
        ("(group.x[0, :3], group.x[0])", "it returned [5] of float32 for a tensor of [3]"),
        ("(group.x[0, :3], 7)", "it returned int for a block, not a tensor"),
        ("(group.x[0, :3], torch.ones(3, dtype=torch.int64))", "it made [3] of int64; numbers of float32 or"),
        (
            "group.map(lambda block: block.x[0])",
            "it uses `map`, which makes one tensor of the shape of the inputs, [5]; here [3], [3] is",
        ),
        ("group.map_columns(lambda block: block.x[0])", "it uses `map_columns`, which makes one"),
        (SCATTERED.format("(0, 0, block.x[0, :3])"), "it makes elements 0 to 3 twice of tensor 'x'"),
        (SCATTERED.format("(1, 1, block.x[0, :2])"), "it makes no elements 0 to 1 of tensor 'y'"),
        (SCATTERED.format("(1, 0, block.x[0, :2])"), "it makes no elements 2 to 3 of tensor 'y'"),
        (SCATTERED.format("(2, 0, block.x[0, :2])"), "it makes numbers of output 2, and there are 2"),
        (SCATTERED.format("(1, 1, block.x[0, :3])"), "it makes elements 1 to 4 of output 1, which has 3"),
        (SCATTERED.format("(1, 0, 7)"), "it returned int for a block, not a tensor"),
    ],
)
def test_what_a_method_with_several_outputs_does_wrong_is_said(
    write_plugin: WritePlugin, cli: Cli, result: str, told: str
) -> None:
    write_plugin("wrong", WRONG.replace("RESULT", result))
    Path("w.yml").write_text("wrong: true\n")
    outcome = cli("merge", "w.yml", "out")
    assert outcome.code != 0
    assert told in outcome.err
    assert not Path("out").exists()


def test_numbers_that_are_not_finite_are_told_by_the_tensor_that_has_them(
    write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("wrong", WRONG.replace("RESULT", "(group.x[0, :3], group.x[0, :3] / 0)"))
    Path("w.yml").write_text("wrong: true\n")
    assert "E401: tensor 'y': 3 values are not finite after 'wrong'" in cli("merge", "w.yml", "out").err
