"""What a search says on the screen fits 80 columns, whatever the models are called."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from fixture_types import Cli
from near_evaluator import CONFIG


@pytest.fixture(autouse=True)
def config(near_models: None) -> None:
    Path("s.yml").write_text(CONFIG)


def test_lines_fit_80_columns(cli: Cli, tmp_path: Path) -> None:
    long = "models-of-somebody-with-long-names"
    Path(long).mkdir()
    for name in ("base", "a", "b"):
        Path(name).rename(Path(long, f"{name}-and-the-rest-of-its-name"))
    text = CONFIG
    for name in ("base", "a", "b"):
        text = text.replace(f"./{name}\n", f"./{long}/{name}-and-the-rest-of-its-name\n")
    Path("s.yml").write_text(f"{text}  prune: false\n  holdout: {{data: 1}}\n")
    outcome = cli("search", "s.yml", "out")
    assert outcome.code == 0, outcome.err
    lines = outcome.err.splitlines()
    points = [number for number, line in enumerate(lines) if line.startswith("point ")]
    assert len(points) == 8
    for number in points:
        assert lines[number].startswith(f"point {points.index(number)}: near ")
        values = lines[number + 1 : number + 4]
        assert values[0].startswith("    a-and-the-rest-of-its-name.weight ")
        assert max(map(len, values)) <= 80
    table = outcome.out.split("\n\n")[0].splitlines()
    assert table[0] == "near on the data held out, looked at once; more is better"
    assert table[1].split() == ["model", "value", "gain", "interval", "of", "95", "%"]
    assert [line.split()[0] for line in table[2:]] == ["point", "average", *(["…he-rest-of-its-name"] * 3)]
    assert max(map(len, table)) <= 80
    assert all(line.endswith(("better", "worse", "within noise")) for line in table[3:])
    assert "gain: by how much the best point is better" in outcome.out
    assert " is merged in out/merged" in outcome.out
    assert "the config of the best point is out/best.yml" in outcome.out


def test_a_config_without_the_section_is_told_so(cli: Cli) -> None:
    Path("s.yml").write_text(CONFIG[: CONFIG.index("search:")])
    outcome = cli("search", "s.yml", "out")
    assert outcome.code == 2, outcome.err
    assert "there is no section 'search', which says what is to be good" in outcome.err
    assert "Hint: `mergecore search --help` shows an example" in outcome.err
    assert "objectives" not in outcome.err


def on_screen(line: str) -> int:
    """The cells of a line by Unicode's own table, for letters that are one character each."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in line)


def test_lines_fit_80_cells_where_letters_take_two(cli: Cli) -> None:
    for name, new in (("a", "日本語の数学の模型とその続きの名前"), ("b", "🎉🎊🎈🎁🎀🎃🎄🎅🎆🎇🎌🎍")):
        Path(name).rename(new)
        Path("s.yml").write_text(Path("s.yml").read_text().replace(f"./{name}\n", f"./{new}\n"))
    outcome = cli("search", "s.yml", "out", "--no-write", "--trials", "4")
    assert outcome.code == 0, outcome.err
    table = outcome.out.split("\n\n")[0].splitlines()
    assert max(map(on_screen, table)) <= 80
    values = [re.match(r"  .*? +-?\d+\.\d+", line) for line in table[2:]]
    assert {on_screen(one[0]) for one in values if one} == {32}, table  # they end below each other
    assert all(values)
    points = [line for line in outcome.err.splitlines() if line.startswith(("point", "    "))]
    assert max(map(on_screen, points)) <= 80
