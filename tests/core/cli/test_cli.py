"""The command line: what it prints, and what is in the output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from cli_runs import Config, Q, other_shape, write
from fixture_types import Cli, Outcome
from tiny import listing, llama, llama_config, read_tensors, write_checkpoint, write_llama

pytestmark = pytest.mark.usefixtures("_models")


# ---- merges ------------------------------------------------------------------------------------------------


def test_a_merge_says_what_it_does_and_ends_with_0(cli: Cli, linear: Config) -> None:
    done = cli("merge", write(linear), "out")
    assert (done.code, done.out) == (0, "")
    first, last = done.err.splitlines()
    assert first.startswith("merging 2 models: 21 tensors, ")
    assert last.startswith("done: out (")
    assert set(listing(Path("out"))) == {
        "README.md",
        "config.json",
        "mergecore-manifest.json",
        "model.safetensors",
    }
    wanted = (llama(2, seed=1)[Q] + llama(2, seed=2)[Q]) / 2
    assert read_tensors(Path("out"))[Q].allclose(wanted)


@pytest.mark.parametrize("closing", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_hurt(linear: Config, closing: str) -> None:
    command = f'"$0" -m mergecore merge "$1" out {closing}'
    done = subprocess.run(["/bin/sh", "-c", command, sys.executable, write(linear)], check=False)
    assert done.returncode == 0
    wanted = (llama(2, seed=1)[Q] + llama(2, seed=2)[Q]) / 2
    assert read_tensors(Path("out"))[Q].allclose(wanted)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_the_output_is_no_bug() -> None:
    command = '"$0" -m mergecore methods list > /dev/full'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable], capture_output=True, text=True, check=False
    )
    assert done.returncode == 6
    assert (
        done.stderr
        == "mergecore: error E504: the output of the command cannot be written: the disk is full\n"
    )


def test_numbers_that_are_not_finite_are_told_where_they_are_allowed(cli: Cli, linear: Config) -> None:
    tensors = llama(2, seed=1)
    tensors[Q][0, :2] = float("nan")
    write_checkpoint(Path("m/a"), tensors, llama_config(2))
    done = cli("merge", write(linear), "out", "--allow-nonfinite")
    assert done.code == 0
    assert f"warning: tensor '{Q}': 2 values are not finite" in done.err


def test_a_quiet_merge_says_nothing(cli: Cli, linear: Config) -> None:
    assert cli("merge", "-q", write(linear), "out") == Outcome(0, "", "")


def test_a_talkative_merge_names_the_tensors(cli: Cli, linear: Config) -> None:
    done = cli("merge", "-v", write(linear), "out")
    assert f"  {Q}\n" in done.err
    assert len(done.err.splitlines()) == 2 + 21


def test_events_are_told_to_programs_as_lines(cli: Cli, linear: Config) -> None:
    done = cli("merge", "--json", write(linear), "out")
    assert (done.code, done.err) == (0, "")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["event"] for event in events] == ["PlanReady", *["StepDone"] * 21, "ModelSealed"]
    assert [event["done"] for event in events[1:-1]] == list(range(1, 22))
    assert events[-2]["done_bytes"] == events[-2]["total_bytes"]
    assert events[-1]["path"] == "out"


def test_options_of_the_command_line_reach_the_merge(cli: Cli, linear: Config) -> None:
    write_checkpoint(Path("m/b"), {**llama(2, seed=2), "extra": torch.ones(1)}, llama_config(2))
    assert cli("merge", write(linear), "refused").code == 3
    options = ["--unexpected", "copy", "--shard-size", "400", "--seed", "9", "--max-memory", "2GB", "-j", "2"]
    assert cli("merge", *options, write(linear), "out").code == 0
    assert len(list(Path("out").glob("*.safetensors"))) > 1
    assert "extra" in read_tensors(Path("out"))
    manifest = json.loads(Path("out/mergecore-manifest.json").read_text())
    assert manifest["seed"] == 9
    assert "`--unexpected copy --seed 9 --shard-size 400`" in Path("out/README.md").read_text()


def test_a_finished_merge_is_replaced_only_when_asked(cli: Cli, linear: Config) -> None:
    assert cli("merge", write(linear), "out").code == 0
    before = listing(Path("out"))
    linear["models"][0]["parameters"]["weight"] = 3
    refused = cli("merge", write(linear), "out")
    assert refused.code == 6
    assert "error E501: out: the output folder is not empty: it holds another merge" in refused.err
    assert listing(Path("out")) == before
    assert cli("merge", "--overwrite", write(linear), "out").code == 0
    assert listing(Path("out")) != before


def test_the_same_merge_again_is_done_already(cli: Cli, linear: Config) -> None:
    assert cli("merge", write(linear), "out").code == 0
    before = listing(Path("out"))
    assert cli("merge", write(linear), "out").code == 0
    assert listing(Path("out")) == before


def test_a_merged_model_is_verified(cli: Cli, linear: Config) -> None:
    cli("merge", write(linear), "out")
    assert cli("verify", "out").out == "out: 21 tensors and 3 files are as they were written\n"
    content = bytearray(Path("out/model.safetensors").read_bytes())
    content[-1] ^= 1
    Path("out/model.safetensors").write_bytes(content)
    assert cli("verify", "out").code == 6


# ---- plans -------------------------------------------------------------------------------------------------


def test_a_plan_is_shown_and_nothing_is_written(cli: Cli, linear: Config) -> None:
    config = write(linear)
    before = listing(Path())
    shown = cli("plan", config)
    assert (shown.code, shown.err) == (0, "")
    assert "output\n  21 tensors: 21 linear\n" in shown.out
    facts = json.loads(cli("plan", "--json", "--tensor", "q_proj", config).out)
    assert [tensor["name"] for tensor in facts["tensors"]] == [Q, Q.replace("0", "1")]
    assert "weight [1, 1], normalize true" in cli("plan", "--tensor", "embed", config).out
    assert listing(Path()) == before


def test_a_check_is_a_line_and_warnings(cli: Cli, linear: Config) -> None:
    config = write(linear)
    assert (
        cli("plan", "--check", config).out
        == f"{config}: 21 tensors of 2 models can be merged, into 3.42 kB\n"
    )
    write_checkpoint(Path("m/b"), {**llama(2, seed=2), "extra": torch.ones(1)}, llama_config(2))
    told = "1 tensor only in m/b, left out: 'extra'"
    assert cli("plan", "--check", "--unexpected", "drop", config).out.splitlines()[1:] == [f"warning: {told}"]
    facts = json.loads(cli("plan", "--check", "--json", "--unexpected", "drop", config).out)
    assert facts == {"models": ["m/a", "m/b"], "tensors": 21, "bytes": 3424, "warnings": [told]}
    refused = cli("plan", "--check", config)
    assert (refused.code, refused.out) == (3, "")
    assert "E232" in refused.err


def test_a_plan_fails_as_the_merge_would(cli: Cli, linear: Config) -> None:
    other_shape(linear)
    config = write(linear)
    failed = cli("plan", config)
    assert (failed.code, failed.out) == (3, "")
    assert failed.err == cli("merge", config, "out").err


# ---- what is in the output ---------------------------------------------------------------------------------

EVIL = "x\n---\nlicense: 'mit'\n```\n`\"# [y](z)"


def test_names_of_folders_cannot_change_the_card_or_leak_the_place(
    cli: Cli, tmp_path: Path, linear: Config
) -> None:
    """The models are named by their full paths; one is a page of Markdown."""
    evil = tmp_path / "home" / "me" / EVIL
    write_llama(evil, 2)
    linear["models"] = [
        {"model": {"path": str(evil)}, "parameters": {"weight": 1}},
        {"model": str(tmp_path / "m" / "a"), "parameters": {"weight": 1}},
    ]
    assert cli("merge", write({**linear, "name": EVIL}), "out").code == 0
    for file in Path("out").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file
        assert b"/home/me" not in file.read_bytes(), file
    card = Path("out/README.md").read_text()
    front = yaml.safe_load(card.split("\n---\n")[0])
    assert set(front) == {"library_name", "tags"}


def test_paths_of_an_earlier_training_are_not_carried(cli: Cli, linear: Config) -> None:
    write_llama(
        Path("m/a"), 2, _name_or_path="/home/me/train", text_config={"_name_or_path": "/home/me/train"}
    )
    assert cli("merge", write(linear), "out").code == 0
    assert "/home/me" not in Path("out/config.json").read_text()
