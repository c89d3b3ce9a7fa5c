"""Configs of mergekit-evolve as searches: genome and tasks, or the reason why not."""

# ruff: noqa: E501 - a row of a table is a line

from __future__ import annotations

from pathlib import Path

import pytest
from imported_configs import made, refusal
from tiny import write_llama

from mergecore.files import SEARCHED, parse_documents
from mergecore_plugins.search.space.ranges import space_of
from mergecore_plugins.search.space.reading import read_section

GENOME = """genome:
  models: [./a, ./b]
  merge_method: {method}
  base_model: ./base
{more}tasks: [{{name: my_task, weight: 2, metric: "exact_match,strict"}}, other]
limit: 50
"""


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("base", "a", "b"):
        write_llama(tmp_path / name, 4)


def genome(method: str = "ties", **more: object) -> str:
    return GENOME.format(method=method, more="".join(f"  {key}: {value}\n" for key, value in more.items()))


def names(text: str) -> list[str]:
    """What the search looks for."""
    (document,) = parse_documents(made(text).text, "s.yml", tags=SEARCHED)
    return [one.name for one in space_of([document]).dimensions]


def test_a_genome_is_a_config_with_ranges() -> None:
    (document,) = parse_documents(made(genome()).text, "s.yml", tags=SEARCHED)
    data = {key: one for key, one in document.data.items() if key != "search"}
    assert data == {
        "merge_method": "ties",
        "base_model": "./base",
        "models": [
            {"model": name, "parameters": {"weight": {"low": 0, "high": 1}, "density": {"low": 0, "high": 1}}}
            for name in ("./a", "./b")
        ],
        "parameters": {"normalize": True},
        "dtype": "bfloat16",
    }
    assert names(genome()) == ["a.weight", "a.density", "b.weight", "b.density"]
    assert names(genome("task_arithmetic", filters="[mlp]")) == [
        "a.weight[0]",
        "a.weight[1]",
        "b.weight[0]",
        "b.weight[1]",
    ]
    (document,) = parse_documents(made(genome(allow_negative_weights="true")).text, "s.yml", tags=SEARCHED)
    assert space_of([document]).dimensions[0].low == -1  # type: ignore[union-attr]


def test_tasks_are_objectives_of_lm_eval() -> None:
    (document,) = parse_documents(made(genome()).text, "s.yml", tags=SEARCHED)
    section = read_section(document, {})
    assert (section.sampler.name, section.trials) == ("cma", 100)
    more = {"limit": 50, "apply_chat_template": True}
    assert section.entries == [
        {"evaluator": "lm_eval", "tasks": "my_task", **more},
        {"evaluator": "lm_eval", "tasks": "other", **more},
    ]
    assert [(one.score, one.weight) for one in section.objectives] == [
        ("my_task/exact_match,strict", 2.0),
        ("other/acc", 1.0),
    ]


def test_groups_of_layers_are_slices_or_gradients() -> None:
    text = made(genome("linear", layer_granularity=2)).text
    (document,) = parse_documents(text, "s.yml", tags=SEARCHED)
    slices = document.data["slices"]
    assert isinstance(slices, list)
    ranges = [source["layer_range"] for one in slices for source in one["sources"]]  # type: ignore[index, call-overload, union-attr]
    assert ranges == [[0, 2]] * 3 + [[2, 4]] * 3  # the base is a source, too
    assert len(names(genome("linear", layer_granularity=2))) == 4
    assert names(genome("linear", layer_granularity=2, smooth="true")) == [
        "a.weight[0]",
        "a.weight[1]",
        "b.weight[0]",
        "b.weight[1]",
    ]


def test_slerp_of_two_models_searches_t() -> None:
    text = genome("slerp").replace("  base_model: ./base\n", "")
    assert names(text) == ["t"]
    assert len(names(text.replace("slerp\n", "slerp\n  layer_granularity: 1\n"))) == 4


def test_what_is_said_of_it() -> None:
    notes = made(
        genome(),
    ).notes
    assert "mergekit-evolve has no ranges: weights go from 0 to 1 here, densities from 0 to 1" in notes
    assert "add a 'holdout': mergekit-evolve looks at the data of the search only" in notes
    shuffled = made(f"{genome()}shuffle: true\n").notes
    assert "'shuffle' has no effect: samples are taken in the order of the data" in shuffled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (genome("slerp"), "slerp takes its base among the models. Hint: leave 'base_model' out, or name one of the"),
        (genome("slerp").replace("[./a, ./b]", "[./a, ./b, ./c]"), "slerp of the two models with the largest genes cannot be searched here. Hint: list two models, or use 'merge_method: linear'"),
        (genome("slerp", smooth="true"), "mergekit-evolve has no 'smooth' with slerp. Hint: remove it"),
        (genome("ties").replace("  base_model: ./base\n", ""), "ties needs a 'base_model'. Hint: name the model that all come from"),
        (f"{genome()}random_init: true\n", "'random_init' cannot be kept: samplers here begin at random"),
        (genome("sce"), "not a config of mergekit-evolve: genome.merge_method: input should be 'linear'"),
        (f"{genome()}population: 3\n", "not a config of mergekit-evolve: population: extra inputs are not permitted. Hint: it has 'genome' and 'tasks'"),
        (genome("linear", layer_granularity=3), "'layer_granularity' is 3, which does not divide the layers of ./base. Hint: choose a number that does"),
        (genome("linear", layer_granularity=2).replace("./base", "./nowhere"), "'layer_granularity' needs the number of layers, and the model cannot be looked at: "),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_by_name(text: str, said: str) -> None:
    assert said in refusal(text)
    if "cannot be looked at" in said:
        assert "Hint: run this where the models are" in refusal(text)
