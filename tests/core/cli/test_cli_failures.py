"""The command line where something is wrong: its exit codes, and that a merge that fails leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import torch
from cli_runs import Config, Q, other_shape, write
from fixture_types import Cli, Outcome
from tiny import listing, llama, llama_config, write_checkpoint, write_llama

import mergecore.cli.app
from mergecore.cli.app import Interrupted

pytestmark = pytest.mark.usefixtures("_models")


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
        (
            ["merge", "c.yml"],
            "error E115: Missing argument 'OUT'. "
            "Hint: the command is `mergecore merge CONFIG OUT`; see `mergecore merge --help`",
        ),
        (["extract-lora", "a"], "the command is `mergecore extract-lora FINETUNED BASE OUT`; see `mergecore"),
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
        (["merge", "out", "c.yml"], "E115: the config comes first: mergecore merge c.yml out"),
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
