"""Every option of every command of mergekit 0.1.5, and of its fork, is understood or led to what replaces it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixture_types import WritePlugin
from tiny import write_llama

from mergecore.cli.app import run

CONFIG = "merge_method: linear\nmodels:\n  - model: a\n  - model: b\nparameters: {weight: 0.5}\n"
COMMANDS: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "mergekit_options.json").read_text(encoding="utf8")
)
"""The options beside those of mergekit-yaml, as the commands themselves declare them."""
VALUES = {
    "--out-shard-size": "5B",
    "--max_shard_size": "5GB",
    "--device": "cpu",
    "--compute-device": "cpu",
    "--random-seed": "7",
    "--num-threads": "2",
    "-j": "2",
}


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        write_llama(tmp_path / name, 1, seed=seed)
    Path("c.yml").write_text(CONFIG, encoding="utf-8")


def options() -> Iterator[tuple[str, str, bool]]:
    """Each command with each of its own options, and whether that has a value."""
    for command, kinds in COMMANDS.items():
        for kind, names in kinds.items():
            for name in names.split():
                if (command, name) != ("mergekit-extract-lora", "-i"):  # in mergekit-pytorch it is a flag
                    yield command, name, kind == "with a value"


@pytest.mark.parametrize(("command", "option", "valued"), list(options()))
def test_every_option_of_mergekit_is_understood_or_its_error_says_what_replaces_it(
    command: str, option: str, valued: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["merge", "c.yml", "out", option, *([VALUES.get(option, "1")] if valued else [])])
    err = capsys.readouterr().err
    if command == "mergekit-yaml" and option != "--unsafe-truncate-embeddings":
        assert code == 0, err
    if code == 0:
        assert Path("out/model.safetensors").exists()
    else:
        (error,) = [line for line in err.splitlines() if "error" in line]
        assert error.startswith(f"mergecore: error E115: merge has no option {option}. Hint: "), error
        assert "--help" not in error
        assert "mergecore" in error or "the config says it" in error or "'" in error


def test_the_list_is_whole() -> None:
    """As many as the commands of mergekit 0.1.5 have beside the 39 of mergekit-yaml."""
    counts = {
        command: sum(len(names.split()) for names in kinds.values()) for command, kinds in COMMANDS.items()
    }
    assert counts == {
        "mergekit-yaml": 39,
        "mergekit-legacy": 15,
        "mergekit-layershuffle": 12,
        "mergekit-multi": 5,
        "mergekit-pytorch": 4,
        "mergekit-moe": 3,
        "mergekit-tokensurgeon": 23,
        "mergekit-extract-lora": 15,
        "bakllama": 2,
        "fill-missing-params": 2,
        "mergekit-evolve": 27,
        "mergekit-mega": 6,
        "mergekitty": 3,
    }


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["-k", "64"], "it is an option of mergekit-tokensurgeon, which changes the tokenizer of a model, as "),
        (["-R"], "it is an option of mergekit-multi, where --result NAME says here which of several documents"),
        (["--max-rank=8"], "it is an option of mergekit-extract-lora, which makes an adapter, as `mergecore extract"),
        (["--max-fevals", "9"], "it is an option of mergekit-evolve, which searches for parameters"),
        (["--full-random"], "it is an option of mergekit-layershuffle, which draws layers at random, as `mergecore"),
        (["-w", "0.5"], "the config says it: write 'weight: 0.5' under 'parameters:' there"),
    ],
)  # fmt: skip
def test_an_option_of_another_command_names_ours(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["merge", "c.yml", "out", *words]) == 2
    err = capsys.readouterr().err
    assert f"merge has no option {words[0].partition('=')[0].partition('.')[0]}. Hint: {hint}" in err


def test_an_option_that_is_no_option_of_anything_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["merge", "c.yml", "out", "--wibble"]) == 2
    err = capsys.readouterr().err
    assert "error E115: No such option" in err
    assert "--wibble" in err


def test_a_plugin_tells_of_the_options_that_its_command_stands_for(
    write_plugin: WritePlugin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import click
from mergecore import hookimpl
from mergecore.cli import SHARED, ForeignCommand

class Weave(ForeignCommand):
    foreign = SHARED.extended(program="loom", does="weaves", renamed={"warp": "--threads {value}"}, same={"weft"})

@click.command("weave", cls=Weave)
@click.option("--weft")
def weave(weft):
    pass

@hookimpl
def mergecore_commands():
    yield weave
"""
    write_plugin("looms", code)
    for option in ("--warp", "--weft"):
        assert run(["plan", "c.yml", option, "3"]) == 2
        hint = "it is an option of loom, which weaves, as `mergecore weave` does"
        assert f"plan has no option {option}. Hint: {hint}" in capsys.readouterr().err
    monkeypatch.setenv("MERGECORE_DISABLE_PLUGINS", "looms")
    assert run(["plan", "c.yml", "--warp", "3"]) == 2
    assert "No such option" in capsys.readouterr().err
