"""What a search does with the folder that it writes to: its own, of another search, of somebody else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_types import Cli
from near_evaluator import CONFIG


@pytest.fixture(autouse=True)
def config(near_models: None) -> None:
    Path("s.yml").write_text(CONFIG)


def test_what_stands_in_the_way_of_the_folder_is_said(cli: Cli) -> None:
    assert cli("search", "s.yml", "out", "--no-write", "--trials", "4").code == 0
    again = cli("search", "s.yml", "out")
    assert (
        "out holds a search that is finished. Hint: --resume goes on if there are more --trials, "
        in again.err
    )
    assert cli("search", "s.yml", "out", "--no-write", "--trials", "4", "--resume").code == 0
    assert "out holds a search that is finished" in cli("search", "s.yml", "out").err
    lines = Path("out/history.jsonl").read_bytes().splitlines(keepends=True)
    Path("out/history.jsonl").write_bytes(b"".join(lines[:-1]))
    again = cli("search", "s.yml", "out")
    assert (
        "out holds a search that was begun. Hint: --resume goes on with it, --restart throws it away"
        in again.err
    )
    other = cli("search", "s.yml", "out", "--resume", "--seed", "3")
    assert (
        "it holds another search: search differ. Hint: --restart throws it away; or choose another"
        in other.err
    )
    assert cli("search", "s.yml", "out", "--no-write", "--restart", "--seed", "3", "--trials", "4").code == 0
    assert "a exists, and is not of a search. Hint: choose another folder" in cli("search", "s.yml", "a").err
    assert "x/y: the folder x does not exist. Hint: make it" in cli("search", "s.yml", "x/y").err
    Path("out/history.jsonl").write_text('{"format": "mergecore-search/0"}\n')
    said = cli("search", "s.yml", "out", "--resume").err
    assert "its history is of another version of mergecore" in said
    assert (
        "--resume and --restart exclude each other"
        in cli("search", "s.yml", "out", "--resume", "--restart").err
    )


@pytest.mark.parametrize("mode", [(), ("--resume",), ("--restart",)])
@pytest.mark.parametrize("text", ["my notes\n", '{"format": "of another tool"}\n', "[1]\n"])
def test_a_history_of_somebody_else_is_left_alone(text: str, mode: tuple[str, ...], cli: Cli) -> None:
    Path("out").mkdir()
    Path("out/history.jsonl").write_text(text)
    Path("out/precious").write_text("x")
    outcome = cli("search", "s.yml", "out", "--no-write", "--trials", "4", *mode)
    assert outcome.code == 6
    assert (
        "E501: out/history.jsonl is not the history of a search. Hint: choose another folder" in outcome.err
    )
    assert {one.name: one.read_text() for one in Path("out").iterdir()} == {
        "history.jsonl": text,
        "precious": "x",
    }


def test_beginning_anew_removes_what_searches_write_and_nothing_beside(cli: Cli) -> None:
    assert cli("search", "s.yml", "out", "--trials", "4").code == 0
    Path("out/precious").write_text("x")
    before = Path("out/history.jsonl").read_bytes()
    assert cli("search", "s.yml", "out", "--no-write", "--restart", "--seed", "3", "--trials", "4").code == 0
    assert Path("out/precious").read_text() == "x"
    assert not Path("out/merged").exists()
    assert Path("out/history.jsonl").read_bytes() != before


def test_a_history_with_other_points_is_not_gone_on_with(cli: Cli) -> None:
    assert cli("search", "s.yml", "out", "--no-write", "--trials", "4").code == 0
    file = Path("out/history.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[-1]["point"]["a.weight"] = 0.123
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = cli("search", "s.yml", "out", "--resume").err
    assert "point 3 of the history is not the one that the sampler asks for now" in said
    assert "Hint: its versions may differ; --restart begins anew" in said


@pytest.mark.parametrize("mode", ["--resume", "--restart"])
def test_two_searches_do_not_write_one_history(mode: str, cli: Cli) -> None:
    assert cli("search", "s.yml", "out", "--no-write", "--trials", "4").code == 0
    before = Path("out/history.jsonl").read_bytes()
    lock = (
        "import fcntl; f = open('out/history.jsonl'); fcntl.flock(f, fcntl.LOCK_EX); print('held'); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-uc", lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        outcome = cli("search", "s.yml", "out", "--no-write", "--trials", "8", mode)
        other.communicate("\n")
    assert outcome.code == 6
    assert (
        "E506: out: another process is searching in this folder. Hint: wait for it, or stop it" in outcome.err
    )
    assert Path("out/history.jsonl").read_bytes() == before
    assert cli("search", "s.yml", "out", "--no-write", "--trials", "8", mode).code == 0
