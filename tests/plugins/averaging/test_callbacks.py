"""Averages that Trainer makes on the way: real runs of seconds, one of them killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tiny_training
import torch
from fixture_types import Cli
from tiny import read_config, read_tensors
from torch import Tensor, nn
from training_runs import write_run, write_saved, write_state

from mergecore import MergecoreError
from mergecore_plugins.averaging import AveragingCallback, RunningAverageCallback
from mergecore_plugins.averaging.callbacks.evaluating import check_single
from mergecore_plugins.averaging.callbacks.window import Kept

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
WEIGHTS = "model.safetensors"
ROUNDING = 2e-7
"""Two roundings of float32 in numbers of about 1, which those of the norms are."""


def train(folder: Path, **settings: Any) -> list[dict[str, float]]:
    return tiny_training.train(str(folder), settings)


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def loss(log: list[dict[str, float]], name: str) -> list[float]:
    return [line[name] for line in log if name in line]


# ---- the same with and without an interruption -------------------------------------------------------------


def test_a_run_that_is_killed_and_resumed_gives_the_same_averages(tmp_path: Path, cli: Cli) -> None:
    """Checkpoints at 2, 4 … 10, of which Trainer keeps one; the process dies after step 7."""
    settings: dict[str, Any] = {
        "limit": 1,
        "saved": {"last": 3, "schedule": "minus-sqrt"},
        "running": {"out": "running", "start": 3, "decay": 0.5},
    }
    train(tmp_path / "whole", **settings)
    killed = tmp_path / "killed"
    script = Path(tiny_training.__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(killed), json.dumps({**settings, "kill": 7})]
    died = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    assert names(killed) == ["averaging", "checkpoint-6"]
    assert names(killed / "averaging") == ["checkpoint-2", "checkpoint-4", "checkpoint-6", "running"]
    train(killed, **settings, resume=True)
    for out in ("averaged", "running"):
        assert (killed / out / WEIGHTS).read_bytes() == (tmp_path / "whole" / out / WEIGHTS).read_bytes()
    done = cli("average", killed / "averaging", tmp_path / "out", "--last", "3", "--schedule", "minus-sqrt")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (killed / "averaged" / WEIGHTS).read_bytes()


def test_the_average_is_that_of_the_checkpoints(tmp_path: Path, cli: Cli) -> None:
    """All five are still there; the average in memory differs by roundings of float32."""
    run = tmp_path / "run"
    train(run, saved={"last": 5}, running={"every": 2, "out": "running"})
    assert cli("average", run, tmp_path / "out").code == 0
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (run / "averaged" / WEIGHTS).read_bytes()
    assert distance(read_tensors(tmp_path / "out"), read_tensors(run / "running")) < ROUNDING
    assert distance(read_tensors(tmp_path / "out"), read_tensors(run / "checkpoint-10")) > 1e-3


def test_a_moving_average_is_that_of_the_checkpoints(tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "run"
    train(run, running={"every": 2, "decay": 0.7})
    assert cli("average", run, tmp_path / "out", "--schedule", "ema", "--decay", "0.7").code == 0
    assert distance(read_tensors(tmp_path / "out"), read_tensors(run / "averaged")) < ROUNDING


# ---- what the callbacks leave alone ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["saved", "running"])
def test_the_average_is_evaluated_and_training_goes_on_as_without(name: str, tmp_path: Path) -> None:
    """The loss is that of the folder, evaluated by itself; the last checkpoint is the same to the bit."""
    parameters: dict[str, Any] = {"at": "save", "last": 3} if name == "saved" else {}
    log = train(tmp_path / "run", **{name: parameters}, evaluate=True)
    plain = train(tmp_path / "plain", watch=True)
    one, other = (tmp_path / folder / "checkpoint-10" / WEIGHTS for folder in ("run", "plain"))
    assert one.read_bytes() == other.read_bytes()
    assert loss(log, "eval_loss") == loss(plain, "eval_loss")
    found = loss(log, "eval_averaged_loss")
    assert len(found) == (4 if name == "saved" else 5)
    model = tiny_training.tiny_model().from_pretrained(tmp_path / "run" / "averaged")
    rows = torch.stack([one["input_ids"] for one in tiny_training.examples("llama")[:8]])
    with torch.no_grad():
        assert float(model.eval()(input_ids=rows, labels=rows).loss) == pytest.approx(found[-1], abs=1e-6)


def test_a_module_of_no_known_class_is_averaged_and_evaluated(tmp_path: Path) -> None:
    log = train(
        tmp_path / "run",
        kind="plain",
        saved={"last": 2},
        running={"out": "running", "every": 2},
        evaluate=True,
    )
    wanted = {
        name: (one + read_tensors(tmp_path / "run" / "checkpoint-10")[name]) / 2
        for name, one in read_tensors(tmp_path / "run" / "checkpoint-8").items()
    }
    assert distance(read_tensors(tmp_path / "run" / "averaged"), wanted) < 1e-7
    assert len(loss(log, "eval_averaged_loss")) == 6
    assert read_tensors(tmp_path / "run" / "running").keys() == wanted.keys()


def test_tied_and_transposed_weights_of_a_plain_module_are_written(tmp_path: Path) -> None:
    model = nn.Module()
    model.turned = nn.Parameter(torch.arange(12.0).view(4, 3).T)
    model.table, model.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    model.head.weight = model.table.weight
    callback, state = RunningAverageCallback(), SimpleNamespace(global_step=1)
    arguments: Any = SimpleNamespace(output_dir=str(tmp_path))
    callback._join(model)
    callback._store(arguments, 1)
    wanted = {name: one.clone() for name, one in model.state_dict().items()}
    callback.on_train_end(arguments, cast("Any", state), cast("Any", None), model=model)
    found = read_tensors(tmp_path / "averaged")
    assert len(found) == 2
    assert all(torch.equal(one, wanted[name]) for name, one in found.items())


# ---- the window --------------------------------------------------------------------------------------------


def test_checkpoints_of_the_window_outlive_what_trainer_deletes(tmp_path: Path) -> None:
    train(tmp_path / "run", limit=1, saved={"last": 4})
    assert names(tmp_path / "run") == ["averaged", "averaging", "checkpoint-10"]
    kept = tmp_path / "run" / "averaging"
    assert names(kept) == ["checkpoint-10", "checkpoint-4", "checkpoint-6", "checkpoint-8"]
    assert names(kept / "checkpoint-4") == [
        "config.json",
        "generation_config.json",
        WEIGHTS,
        "trainer_state.json",
    ]
    assert (kept / "checkpoint-10" / WEIGHTS).stat().st_nlink == 2
    assert (kept / "checkpoint-4" / WEIGHTS).stat().st_nlink == 1


def test_what_only_training_needs_is_not_kept(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 1)
    saved = run / "checkpoint-1"
    for folder in ("optimizer_0", "pytorch_model_fsdp_0"):
        (saved / folder).mkdir()
        (saved / folder / "__0_0.distcp").write_bytes(b"x")
    for file in ("optimizer.bin", "rng_state_0.pth", "random_states_1.pkl", "scheduler.pt", "scaler.pt"):
        (saved / file).write_bytes(b"x")
    Kept(run, 2).add(1)
    assert set(names(run / "averaging" / "checkpoint-1")) == {
        *("config.json", "trainer_state.json", WEIGHTS, "pytorch_model_fsdp_0")
    }


def test_without_links_the_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    run = write_run(tmp_path / "run", 1)
    Kept(run, 2).add(1)
    copied, own = (folder / "checkpoint-1" / WEIGHTS for folder in (run / "averaging", run))
    assert copied.read_bytes() == own.read_bytes()
    assert copied.stat().st_nlink == 1


def test_steps_can_be_named_and_trainer_saves_there(tmp_path: Path) -> None:
    """Saved are 3, 4, 7, 8 and 10; the two newest are averaged at 3 (not yet), 7 and 10."""
    train(tmp_path / "run", save=4, saved={"last": 2, "at": [3, 7, 10], "out": "at-{step}"})
    assert [name for name in names(tmp_path / "run") if name.startswith("at-")] == ["at-10", "at-7"]
    read = {step: read_tensors(tmp_path / "run" / f"checkpoint-{step}") for step in (3, 4, 7, 8, 10)}
    for one, two in ((4, 7), (8, 10)):
        wanted = {name: (tensor + read[two][name]) / 2 for name, tensor in read[one].items()}
        assert distance(read_tensors(tmp_path / "run" / f"at-{two}"), wanted) < 1e-7


def test_a_run_goes_on_with_what_it_had_saved_until_then(tmp_path: Path) -> None:
    """Resumed at 4: what was kept beyond is forgotten, what was not kept is, unless it is unfinished."""
    run = write_run(tmp_path / "run", 1, 2, 3, 4, 5)
    kept = Kept(run, 3)
    kept.begin(0)
    for step in (1, 5):
        kept.add(step)
    (run / "averaging" / ".half-7").mkdir()
    (run / "checkpoint-3" / "trainer_state.json").unlink()
    kept.begin(4)
    assert kept.steps == [1, 2, 4]
    assert names(run / "averaging") == ["checkpoint-1", "checkpoint-2", "checkpoint-4"]
    kept.begin(0)
    assert kept.steps == []


def test_a_checkpoint_that_is_saved_again_replaces_the_one_that_is_kept(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 1, 2)
    kept = Kept(run, 3)
    kept.add(2)
    before = read_tensors(run / "averaging" / "checkpoint-2")
    write_saved(run / "checkpoint-2", 2)
    kept.add(2)
    assert distance(read_tensors(run / "averaging" / "checkpoint-2"), before) == 0
    assert kept.steps == [2]


def test_averages_of_the_weights_are_stored_for_the_checkpoints_there_are(tmp_path: Path) -> None:
    train(tmp_path / "run", limit=2, running={})
    assert names(tmp_path / "run" / "averaging" / "running") == ["step-10.safetensors", "step-8.safetensors"]


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "code", "texts"),
    [
        ({"saved": {"last": 1}}, "E105", ["last: 1 checkpoints have no average", "two checkpoints or more"]),
        (
            {"saved": {"at": "never"}},
            "E105",
            ["at: 'never' is not a time to average", "write 'end', 'save', or a list of steps"],
        ),
        (
            {"saved": {}, "strategy": "no"},
            "E105",
            ["save_strategy is 'no', so there are no checkpoints", "or use RunningAverageCallback"],
        ),
        (
            {"saved": {"out": "average-{stpe}"}},
            "E105",
            [
                "out: 'average-{stpe}' has braces that are not '{step}'",
                "write {step} for the step, and no other",
            ],
        ),
        ({"saved": {}, "save": 10}, "E201", ["the run saved fewer than two checkpoints", "save more often"]),
        ({"running": {"out": "{}"}}, "E105", ["out: '{}' has braces that are not '{step}'"]),
        (
            {"running": {"every": 0}},
            "E105",
            ["every: 0 and decay: None are no way to average", "every is 1 or more, decay from 0 up to"],
        ),
        ({"running": {"decay": 1.0}}, "E105", ["every: 1 and decay: 1.0 are no way to average"]),
        (
            {"running": {"start": 11}},
            "E201",
            ["no weights joined the average in 10 steps", "choose smaller values of start and every"],
        ),
        (
            {"running": {}, "kind": "peft"},
            "E105",
            ["RunningAverageCallback: the model has adapters", "AveragingCallback() or `mergecore average`"],
        ),
        ({"saved": {}, "kind": "peft", "evaluate": True}, "E105", ["trainer: the model has adapters"]),
    ],
)
def test_what_cannot_be_averaged_is_said(
    settings: dict[str, Any], code: str, texts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(MergecoreError) as caught:
        train(tmp_path / "run", **settings)
    assert caught.value.code == code
    assert all(text in str(caught.value) for text in texts), caught.value


@pytest.mark.parametrize(("out", "there"), [("averaged", "averaged"), ("average-{step}", "average-7")])
@pytest.mark.parametrize("callback", ["saved", "running"])
def test_what_could_not_be_replaced_at_the_end_is_said_at_the_beginning(
    callback: str, out: str, there: str, tmp_path: Path
) -> None:
    (tmp_path / "run" / there).mkdir(parents=True)
    with pytest.raises(
        MergecoreError, match=f"{there} exists, and is not an average that could be"
    ) as caught:
        train(tmp_path / "run", **{callback: {"out": out}})
    assert caught.value.code == "E501"
    assert "remove it, or choose another name with out" in str(caught.value)
    assert names(tmp_path / "run") == [there]


@pytest.mark.parametrize("callback", ["saved", "running"])
def test_an_average_of_a_run_before_is_replaced(callback: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "average-of-mine").mkdir(parents=True)
    first, again = {"steps": 4}, {"steps": 6}
    for settings in (first, again, again):
        train(run, **settings, **{callback: {"out": "average-{step}"}})
    assert {"average-4", "average-6", "average-of-mine"} <= {*names(run)}
    assert distance(read_tensors(run / "average-4"), read_tensors(run / "average-6")) > 1e-4


def test_checkpoints_that_somebody_else_put_there_are_not_deleted(tmp_path: Path) -> None:
    mine = tmp_path / "run" / "averaging" / "checkpoint-500"
    mine.mkdir(parents=True)
    with pytest.raises(
        MergecoreError, match="has checkpoints that this callback did not put there"
    ) as caught:
        train(tmp_path / "run", saved={})
    assert caught.value.code == "E501"
    assert "move them elsewhere: the callback deletes old ones in that folder" in str(caught.value)
    assert mine.is_dir()


def test_an_average_in_memory_that_is_gone_cannot_go_on(tmp_path: Path) -> None:
    train(tmp_path / "run", steps=4)
    with pytest.raises(
        MergecoreError, match="the average of step 4 is not there, so it cannot go on"
    ) as caught:
        train(tmp_path / "run", running={}, resume=True)
    assert caught.value.code == "E201"
    assert "resume from a checkpoint that was saved with this callback" in str(caught.value)


@pytest.mark.parametrize("what", ["trainer", "RunningAverageCallback"])
def test_many_processes_are_refused(what: str) -> None:
    hints = {
        "trainer": "evaluate the averaged folder when the run is over",
        "RunningAverageCallback": "use AveragingCallback",
    }
    for args in (
        SimpleNamespace(world_size=2, fsdp=[], deepspeed=None),
        SimpleNamespace(world_size=1, fsdp=["full_shard"], deepspeed=None),
        SimpleNamespace(world_size=1, fsdp=[], deepspeed="zero.json"),
    ):
        with pytest.raises(MergecoreError, match="this works in one process only, without FSDP") as caught:
            check_single(args, what)  # type: ignore[arg-type]
        assert hints[what] in str(caught.value)


def test_checkpoints_of_adapters_are_averaged_as_whole_models(tmp_path: Path) -> None:
    """The base plus the mean of the two changes s · B · A; alpha 8 by rank 2 is s = 4."""
    base = tmp_path / "base"
    tiny_training.tiny_model().save_pretrained(base)
    run = tmp_path / "run"
    train(run, kind="peft", base=str(base), saved={"last": 2}, limit=1)
    name = "model.layers.0.self_attn.q_proj"
    changes = []
    for step in (8, 10):
        folder = run / "averaging" / f"checkpoint-{step}"
        one = {key.removeprefix("base_model.model."): value for key, value in read_tensors(folder).items()}
        changes.append(4 * one[f"{name}.lora_B.weight"] @ one[f"{name}.lora_A.weight"])
    wanted = read_tensors(base)[f"{name}.weight"] + (changes[0] + changes[1]) / 2
    assert torch.allclose(read_tensors(run / "averaged")[f"{name}.weight"], wanted, atol=1e-7, rtol=0)


def test_weights_that_are_saved_without_a_config_get_that_of_the_model(tmp_path: Path) -> None:
    model = tiny_training.tiny_model()
    run = tmp_path / "run"
    for step in (2, 4):
        model.save_pretrained(run / f"checkpoint-{step}")
        (run / f"checkpoint-{step}" / "config.json").unlink()
        write_state(run / f"checkpoint-{step}", step)
        args: Any = SimpleNamespace(output_dir=str(run))
        state: Any = SimpleNamespace(global_step=step, is_world_process_zero=True)
        control: Any = None
        AveragingCallback(at="save").on_save(args, state, control, model=model)
    assert read_tensors(run / "averaged").keys() == read_tensors(run / "checkpoint-4").keys()
    assert read_config(run / "averaged")["model_type"] == "llama"


def test_the_callbacks_are_loaded_when_they_are_named() -> None:
    script = "import sys, mergecore_plugins.averaging as a; print([*{'torch', 'numpy'} & set(sys.modules)], dir(a))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("[]")
    assert "RunningAverageCallback" in shown
    assert AveragingCallback(at=7).at == (7,)
    assert RunningAverageCallback().every == 1
