"""Greedy soup, next to a plain loop over the numbers that the models are filled with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from fixture_types import Cli
from tiny import write_llama

FUNCTION = """
def far(model, wanted):
    weight = model.module().state_dict()["model.layers.0.mlp.up_proj.weight"].double().mean().item()
    return (weight - wanted) ** 2

def near(model, wanted):
    return {"other": 0, "near": -far(model, wanted)}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("own.py").write_text(FUNCTION)


def greedy(values: Sequence[float], wanted: float) -> list[int]:
    """Which of the numbers are averaged to come near another."""

    def off(chosen: Sequence[int]) -> float:
        return abs(sum(values[one] for one in chosen) / len(chosen) - wanted)

    order = sorted(range(len(values)), key=lambda one: off([one]))
    kept = [order[0]]
    for one in order[1:]:
        if off([*kept, one]) <= off(kept):
            kept.append(one)
    return sorted(kept)


@pytest.mark.parametrize("seed", range(6))
def test_models_are_kept_that_make_the_average_no_worse(seed: int, cli: Cli) -> None:
    draw = random.Random(seed)
    values = [draw.randrange(-64, 64) / 16 for _ in range(5)]
    wanted = draw.uniform(-2, 2)
    for number, value in enumerate(values):
        write_llama(Path(f"m{number}"), 1, value)
    more, function = ("", "near") if seed % 2 else (", goal: min", "far")
    Path("e.yml").write_text(
        f"evaluators: [{{evaluator: 'python:own.py:{function}', arguments: {{wanted: {wanted}}}{more}}}]\n"
    )
    config = {"merge_method": "linear", "models": [{"model": f"./m{number}"} for number in range(5)]}
    Path("cfg.yml").write_text(yaml.safe_dump(config))
    score = ["-p", "score=near"] if seed % 2 else []
    outcome = cli("coefficients", "soup", "cfg.yml", "-p", "evaluators=e.yml", *score)
    assert outcome.code == 0, outcome.err
    found = yaml.safe_load(outcome.out)
    kept = greedy(values, wanted)
    assert [one["parameters"]["weight"] for one in found["models"]] == [
        1.0 if number in kept else 0.0 for number in range(5)
    ]
    names = ", ".join(f"./m{number}" for number in kept)
    assert f"note: {len(kept)} of 5 models are averaged: {names}" in outcome.err
    Path("found.yml").write_text(outcome.out)
    assert cli("merge", "found.yml", "merged").code == 0


def test_what_soup_cannot_do_is_told(cli: Cli) -> None:
    for number in range(2):
        write_llama(Path(f"m{number}"), 1, number)
    Path("e.yml").write_text("evaluators: [{evaluator: 'python:own.py:near', arguments: {wanted: 1}}]\n")
    Path("two.yml").write_text(
        "evaluators: [{evaluator: 'python:own.py:near', arguments: {wanted: 1}}, {evaluator: 'python:own.py:far'}]\n"
    )
    config = {"merge_method": "linear", "models": [{"model": "./m0"}, {"model": "./m1"}]}
    Path("cfg.yml").write_text(yaml.safe_dump(config))
    Path("ta.yml").write_text(
        yaml.safe_dump({**config, "merge_method": "task_arithmetic", "base_model": "./m0"})
    )
    for arguments, said in (
        (
            ("ta.yml", "-p", "evaluators=e.yml"),
            "soup chooses which models are averaged, which task_arithmetic does not do. "
            "Hint: use merge_method: linear",
        ),
        (
            ("cfg.yml", "-p", "evaluators=two.yml"),
            "two.yml names 2 evaluators; one is expected, which decides. Hint: write a file with that one",
        ),
        (
            ("cfg.yml", "-p", "evaluators=e.yml", "-p", "score=nera"),
            "gives no score 'nera'; did you mean 'near'? Hint: it gives other, near",
        ),
        (("cfg.yml",), "missing required parameter 'evaluators'"),
        (("cfg.yml", "-p", "evaluators=no.yml"), "no.yml"),
    ):
        outcome = cli("coefficients", "soup", *arguments)
        assert outcome.code in (2, 3)
        assert said in " ".join(outcome.err.split())
