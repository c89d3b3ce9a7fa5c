"""`evaluate --sweep` scores a config at several values: each as if the value were written in it."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixture_types import Cli

from mergecore import ConfigError
from mergecore.testing import tiny_model
from mergecore_plugins.evaluation.evaluate.sweeping import read_sweep
from mergecore_plugins.evaluation.evaluate.table import as_text

CONFIG: dict[str, Any] = {
    "merge_method": "task_arithmetic",
    "base_model": "./base",
    "models": [{"model": "./a"}, {"model": "./b", "parameters": {"weight": 0.5}}],
    "parameters": {"weight": 1},
}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for seed, name in enumerate(("base", "a", "b")):
        tiny_model(tmp_path / name, seed=seed)
    Path("dev.txt").write_text("the cat sat\n\non a mat\n\nand slept\n")
    Path("eval.yml").write_text("evaluators: [{evaluator: perplexity, texts: dev.txt}]\n")
    Path("merge.yml").write_text(yaml.safe_dump(CONFIG))


def perplexities(cli: Cli, *arguments: str) -> dict[str, float]:
    outcome = cli("evaluate", *arguments, "--with", "eval.yml", "--no-cache", "--json")
    assert outcome.code == 0, outcome.err
    rows = json.loads(outcome.out)["evaluations"][0]["scores"][0]["results"]
    return {row["model"]: row["value"] for row in rows}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("lambda", lambda config, value: config["parameters"].update({"lambda": value})),
        ("b.weight", lambda config, value: config["models"][1]["parameters"].update(weight=value)),
        ("./a.weight", lambda config, value: config["models"][0].update(parameters={"weight": value})),
    ],
)
def test_scores_are_those_of_configs_with_the_values(name: str, change: Any, cli: Cli) -> None:
    found = perplexities(cli, "merge.yml", "--sweep", f"{name}=0.25:1:0.25")
    values = (0.25, 0.5, 0.75, 1)
    assert [*found] == [*(f"{name} {value:g}" for value in values), "./base", "./a", "./b"]
    assert len({found[f"{name} {value:g}"] for value in values}) == 4
    for value in values:
        written = yaml.safe_load(yaml.safe_dump(CONFIG))
        change(written, value)
        Path("one.yml").write_text(yaml.safe_dump(written))
        assert perplexities(cli, "one.yml", "--no-parents") == {"one.yml": found[f"{name} {value:g}"]}


def test_values_are_those_that_decimals_name() -> None:
    assert read_sweep("lambda=0.1:1:0.1").values == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert read_sweep("t=1:0:-0.5").values == (1.0, 0.5, 0.0)
    assert read_sweep("t= 0.3, 2e-1 ,0.3").values == (0.3, 0.2)
    assert read_sweep("a.b.weight=1").name == "a.b.weight"


@pytest.mark.parametrize(
    "text", ["lambda", "=1:2:1", "t=", "t=a", "t=0:1", "t=0:1:0", "t=0:1:-1", "t=1:2:3:4"]
)
def test_what_names_no_values_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--sweep: '.*' names no values of a parameter") as caught:
        read_sweep(text)
    assert caught.value.hint == "write such as --sweep lambda=0.1:1:0.1, or --sweep lambda=0.3,0.5,1"


def test_a_sweep_is_shown_with_its_best_value(cli: Cli) -> None:
    outcome = cli(
        "evaluate", "merge.yml", "--with", "eval.yml", "--sweep", "lambda=0:1:0.5", "--html", "s.html"
    )
    assert outcome.code == 0, outcome.err
    found = perplexities(cli, "merge.yml", "--sweep", "lambda=0:1:0.5", "--no-parents")
    best = min(found, key=lambda name: found[name])
    line = next(line for line in outcome.out.splitlines() if "lambda from 0 to 1" in line)
    assert line.endswith(f"  best: {best}")
    bars = line.removeprefix("  lambda from 0 to 1: ").split()[0]
    assert len(bars) == 3
    assert bars[[*found].index(best)] == "▁"  # the lowest
    assert bars[[*found].index(max(found, key=lambda name: found[name]))] == "█"
    page = Path("s.html").read_text()
    assert "perplexity by lambda" in page
    assert "Level lines: ./base, ./a and ./b." in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("merge.yml", "--sweep", "weight=1,2"),
            "E115: merge.yml:1:1: --sweep: models of this config have a 'weight' of their own, which counts more. "
            "Hint: name one of them: --sweep b.weight=…",
        ),
        (
            ("merge.yml", "--sweep", "bb.weight=1,2"),
            "--sweep: the config merges no model 'bb'; did you mean 'b'? Hint: it merges a, b",
        ),
        (("merge.yml", "--sweep", "lamda=1,2"), "has no parameter 'lamda'; did you mean 'lambda'?"),
        (
            ("a", "--sweep", "lambda=1,2"),
            "--sweep: 0 configs are named; one is expected. Hint: name the config whose number is to be tried",
        ),
        (
            ("merge.yml", "--sweep", "lambda=0:1:0.001"),
            "--sweep: 201 values are more than 200. Hint: take a larger step, or use `mergecore search`",
        ),
    ],
)
def test_slips_are_told(arguments: tuple[str, ...], said: str, cli: Cli) -> None:
    outcome = cli("evaluate", *arguments, "--with", "eval.yml")
    assert outcome.code == 2
    assert said in " ".join(outcome.err.split())


def test_many_values_are_drawn_in_lines_that_fit() -> None:
    """150 values whose bars no line holds, under names that no line holds either."""
    rows = [{"model": f"w {i}", "value": i / 149, "best": i == 149, "samples": 9} for i in range(150)]
    score = {"name": "kl:" + "x" * 90, "goal": "max", "results": rows, "differences": []}
    found = {
        "models": [{"name": f"w {i}", "at": float(i), "given": True} for i in range(150)],
        "evaluations": [{"name": "名" * 60, "scores": [score]}],
        "sweep": "w",
        "against": "w 0",
        "seed": 0,
        "warnings": [],
    }
    for row in rows:
        row |= {"low": None, "high": None}
    lines = as_text(found).splitlines()
    assert (
        max(sum(2 if unicodedata.east_asian_width(one) == "W" else 1 for one in line) for line in lines) <= 80
    )
    assert lines[0].endswith("xxx, of 9 samples; more is better")
    bars = "".join(line.strip() for line in lines if line.strip()[:1] in "▁▂▃▄▅▆▇█")
    assert len(bars) == 150
    assert list(bars) == sorted(bars)  # higher for more
    assert "  w from 0 to 149: best: w 149" in lines
