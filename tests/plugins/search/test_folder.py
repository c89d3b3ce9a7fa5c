"""What a search does with the folder that it writes to: its own, of another search, of somebody else."""

from __future__ import annotations

import json
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
