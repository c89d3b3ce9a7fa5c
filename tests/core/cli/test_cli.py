"""The command line: what it prints, its exit codes, and that a merge that fails leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import torch
import yaml
from fixture_types import Cli, Outcome
from tiny import listing, llama, llama_config, read_tensors, write_checkpoint, write_llama

import mergecore.cli.app
from mergecore.cli.app import Interrupted

Q = "model.layers.0.self_attn.q_proj.weight"
Config = dict[str, Any]


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("base", "a", "b")):
        write_llama(tmp_path / "m" / name, 2, seed=seed)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def linear() -> Config:
    return {"merge_method": "linear", "models": [entry("a"), entry("b")]}


def entry(name: str, **parameters: Any) -> Config:
    return {"model": f"m/{name}", "parameters": {"weight": 1, **parameters}}


def write(config: Config) -> Path:
    Path("c.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    return Path("c.yml")


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


# ---- failures ----------------------------------------------------------------------------------------------


def no_base(config: Config) -> None:
    config["merge_method"] = "ties"


def unknown_method(config: Config) -> None:
    config["merge_method"] = "liner"


def unknown_key(config: Config) -> None:
    config["modles"] = []


def wrong_value(config: Config) -> None:
    config["models"][0]["parameters"]["weight"] = "x"


def zero_weights(config: Config) -> None:
    config["models"][1]["parameters"]["weight"] = -1


def no_model(config: Config) -> None:
    config["models"][0]["model"] = "./nowhere"


def missing_tensor(config: Config) -> None:
    write_checkpoint(Path("m/b"), {name: one for name, one in llama(2).items() if name != Q}, llama_config(2))


def unexpected_tensor(config: Config) -> None:
    write_checkpoint(Path("m/b"), {**llama(2), "extra": torch.ones(1)}, llama_config(2))


def other_shape(config: Config) -> None:
    write_checkpoint(Path("m/b"), {**llama(2), Q: torch.ones(4, 5)}, llama_config(2))


def other_family(config: Config) -> None:
    write_llama(Path("m/b"), 2, model_type="mistral")


def other_integers(config: Config) -> None:
    for name in "ab":
        tensors = {**llama(2), "steps": torch.tensor([ord(name)])}
        write_checkpoint(Path("m") / name, tensors, llama_config(2))


def not_finite(config: Config) -> None:
    tensors = llama(2)
    tensors[Q][1, 2] = float("nan")
    write_checkpoint(Path("m/b"), tensors, llama_config(2))


def truncated(config: Config) -> None:
    file = Path("m/b/model.safetensors")
    file.write_bytes(file.read_bytes()[:-10])


def too_large(config: Config) -> None:
    write_llama(Path("m/a"), 2, 6e4)
    write_llama(Path("m/b"), 2, 6e4)
    config |= {"parameters": {"normalize": False}, "dtype": "float16"}


def too_little_memory(config: Config) -> None:
    config["options"] = ["--max-memory", "1MB"]


FAILURES: dict[Callable[[Config], None], tuple[int, str]] = {
    no_base: (2, "error E110: c.yml:1:15: ties needs a base_model, and the config names none"),
    unknown_method: (2, "error E108: c.yml:1:15: unknown merge method 'liner'; did you mean 'linear'?"),
    unknown_key: (2, "error E103: c.yml:9:1: unknown key 'modles' in a merge config"),
    wrong_value: (2, "error E104: c.yml:5:13: parameter 'weight' is 'x'; a number is expected"),
    zero_weights: (5, "error E404: "),
    no_model: (3, "error E701: "),
    missing_tensor: (3, f"error E231: 1 tensor missing in m/b: '{Q}'"),
    unexpected_tensor: (3, "error E232: 1 tensor unexpected in m/b: 'extra'"),
    other_shape: (3, f"error E230: shapes differ for '{Q}': m/a [4, 4], m/b [4, 5]"),
    other_family: (3, "error E222: the models are of different architectures: m/a is llama, m/b is mistral"),
    other_integers: (
        3,
        "error E233: tensor 'steps' is I64, which is never averaged, and differs between m/a and m/b",
    ),
    not_finite: (
        3,
        f"error E234: m/b: tensor '{Q}': 1 value is not finite (NaN or Inf), the first at index 6",
    ),
    truncated: (3, "error E206: m/b/model.safetensors: "),
    too_large: (5, "values are too large for float16: up to 120000, the limit is 65504"),
    too_little_memory: (5, "error E405: the merge needs about"),
}


@pytest.mark.parametrize("spoil", FAILURES, ids=lambda spoil: spoil.__name__)
def test_a_merge_that_fails_says_why_and_leaves_nothing(
    spoil: Callable[[Config], None], cli: Cli, linear: Config
) -> None:
    spoil(linear)
    options = linear.pop("options", [])
    config = write(linear)
    before = listing(Path())
    failed = cli("merge", *options, config, "out")
    code, text = FAILURES[spoil]
    assert text in failed.err
    assert failed.code == code
    assert "Traceback" not in failed.err
    assert listing(Path()) == before


def test_errors_are_told_to_programs_as_lines(cli: Cli, linear: Config) -> None:
    missing_tensor(linear)
    linear["merge_method"] = "linear"
    failed = cli("merge", "--error-format", "json", write(linear), "out")
    error = json.loads(failed.err)
    assert (error["code"], error["tensor"], error["plugin"]) == ("E231", Q, None)
    assert error["message"] == f"1 tensor missing in m/b: '{Q}'"
    assert "--missing base" in error["hint"]


def test_several_errors_are_told_one_a_line_and_the_first_decides_the_code(cli: Cli, linear: Config) -> None:
    write_checkpoint(Path("m/b"), {**llama(2), "extra": torch.ones(1), Q: torch.ones(1, 4)}, llama_config(2))
    failed = cli("merge", write(linear), "out")
    assert failed.code == 3
    assert [line.split(":")[1] for line in failed.err.splitlines()] == [" error E232", " error E230"]


def test_a_traceback_is_shown_only_when_asked(cli: Cli, linear: Config) -> None:
    no_base(linear)
    assert "Traceback" in cli("merge", "--debug", write(linear), "out").err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["merge", "c.yml"], "error E115: Missing argument 'OUT'. Hint: see `mergecore merge --help`"),
        (
            ["merge", "c.yml", "out", "--resume", "--restart"],
            "E115: --resume and --restart exclude each other",
        ),
        (
            ["merge", "c.yml", "out", "--recheck"],
            "--recheck has no effect without --resume. Hint: see `mergecore merge --help`",
        ),
        (["merge", "c.yml", "out", "-j", "0"], "0 is not in the range"),
        (["merge", "c.yml", "out", "--missing", "x"], "'x' is not one of 'error', 'base', 'skip'"),
        (["merge", "c.yml", "out", "--max-memory", "lots"], "error E105: --max-memory: 'lots' is not a size"),
        (["mrege", "c.yml", "out"], "No such command 'mrege'"),
        (["merge", "nowhere.yml", "out"], "nowhere.yml"),
    ],
)
def test_a_wrong_command_line_ends_with_2(words: list[str], text: str, cli: Cli, linear: Config) -> None:
    write(linear)
    before = listing(Path())
    failed = cli(*words)
    assert failed.code == 2
    assert text in failed.err
    assert listing(Path()) == before


def test_a_wrong_command_line_is_told_to_programs_as_a_line(cli: Cli) -> None:
    failed = cli("merge", "--error-format=json", "--ouput")
    error = json.loads(failed.err)
    assert (failed.code, error["code"]) == (2, "E115")
    assert error["message"].startswith("No such option")


@pytest.mark.parametrize(
    ("words", "can"),
    [(["merge", "c.yml"], True), (["transplant"], True), (["plan"], False), (["no"], False), ([], False)],
)
def test_what_can_be_resumed_says_so_when_it_is_interrupted(
    words: list[str], can: bool, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Interrupted(130)

    monkeypatch.setattr(mergecore.cli.app.cli, "main", stop)
    hint = "; run again with --resume to go on" if can else ""
    assert cli(*words) == Outcome(130, "", f"mergecore: interrupted{hint}\n")


def test_a_command_of_a_plugin_may_fail_as_click_does(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise click.FileError("x.txt", "no such thing")

    monkeypatch.setattr(mergecore.cli.app.cli, "main", fail)
    assert cli("x") == Outcome(1, "", "Error: Could not open file 'x.txt': no such thing\n")


def test_a_group_without_a_command_shows_its_help(cli: Cli) -> None:
    done = cli("methods")
    assert "Usage: mergecore methods" in done.out + done.err
    assert "E115" not in done.err


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
