"""Functions that change the model that they are given: what comes next gets another."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from fixture_types import Cli

from mergecore.testing import tiny_model
from mergecore_plugins.evaluation.imports import imported_files
from mergecore_plugins.evaluation.models import opened

CHANGES = """
import torch

def mean(model):
    return float(sum(one.double().sum() for one in model.module().state_dict().values()))

def spoils(model):
    found = mean(model)
    module = model.module()
    with torch.no_grad():
        for one in module.parameters():
            one.data.mul_(3)  # no count of torch tells of this
    module.train()
    module.config.use_cache = False
    module.register_forward_hook(lambda *args: 1 / 0)
    model.tokenizer().padding_side = "nowhere"
    return found
"""


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for seed, name in enumerate(("base", "a", "b")):
        tiny_model(tmp_path / name, seed=seed)
    Path("mine.py").write_text(CHANGES)
    Path("dev.txt").write_text("the cat sat\n\non a mat\n")


MERGE = {
    "merge_method": "task_arithmetic",
    "base_model": "./base",
    "models": [{"model": "./a"}, {"model": "./b"}],
    "parameters": {"weight": 0.5},
}


@pytest.mark.parametrize("model", ["a", "merge.yml"])
def test_evaluations_after_it_are_of_the_model_as_it_was(model: str, cli: Cli) -> None:
    Path("merge.yml").write_text(yaml.safe_dump(MERGE))
    found = {}
    for name, listed in {
        "alone": ["perplexity", "mean"],
        "after": ["spoils", "perplexity", "spoils", "mean"],
    }.items():
        given = [
            {"evaluator": one, "texts": "dev.txt"}
            if one == "perplexity"
            else {"evaluator": f"python:mine.py:{one}", "name": f"{one} {number}"}
            for number, one in enumerate(listed)
        ]
        Path("eval.yml").write_text(yaml.safe_dump({"evaluators": given}))
        outcome = cli("evaluate", model, "--with", "eval.yml", "--no-cache", "--json")
        assert outcome.code == 0, outcome.err
        scores = [row["scores"][0] for row in json.loads(outcome.out)["evaluations"]]
        found[name] = [(score["name"], score["results"][0]["value"]) for score in scores]
    assert dict(found["alone"]) == {key: value for key, value in found["after"] if key != "spoils"}
    assert len({value for key, value in found["after"] if key in ("spoils", "mean")}) == 1


def test_parents_that_it_changes_are_evaluated_as_they_were(cli: Cli) -> None:
    Path("merge.yml").write_text(yaml.safe_dump(MERGE))
    spoils = CHANGES.replace(
        "module = model.module()", "module = model.module()\n    [spoils(one) for one in model.parents]"
    )
    Path("mine.py").write_text(spoils)
    found = []
    for more in ([], [{"evaluator": "python:mine.py:spoils"}]):
        given = [{"evaluator": "perplexity", "texts": "dev.txt"}, *more]
        Path("eval.yml").write_text(yaml.safe_dump({"evaluators": given}))
        outcome = cli("evaluate", "merge.yml", "--with", "eval.yml", "--no-cache", "--json")
        assert outcome.code == 0, outcome.err
        rows = json.loads(outcome.out)["evaluations"][0]["scores"][0]["results"]
        found.append([(row["model"], row["value"]) for row in rows])
    assert [name for name, _ in found[0]] == ["merge.yml", "./base", "./a", "./b"]
    assert found[0] == found[1]


def test_points_of_a_search_after_it_are_those_of_their_values(cli: Cli) -> None:
    search = {
        "trials": 4,
        "seed": 1,
        "sampler": "random",
        "objectives": [{"evaluator": "python:mine.py:mean"}],
    }
    found = {}
    for name in ("mean", "spoils"):
        search["objectives"] = [{"evaluator": f"python:mine.py:{name}"}]
        text = yaml.safe_dump({**MERGE, "search": search}).replace("weight: 0.5", "weight: !range [0, 1]")
        Path("s.yml").write_text(text)
        for jobs in ("1", "2"):
            out = f"{name}{jobs}"
            outcome = cli("search", "s.yml", out, "--no-write", "--jobs", jobs, "--threads", "1")
            assert outcome.code == 0, outcome.err
            rows = [json.loads(row) for row in Path(out, "history.jsonl").read_text().splitlines()[1:]]
            found[out] = [row["values"] for row in rows]
    assert found["mean1"] == found["spoils1"] == found["spoils2"] == found["mean2"]


def test_modules_that_a_function_imports_make_its_kept_result_another(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = Path("helping")
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "deep.py").write_text("HOW = 1\n")  # no __init__.py: a namespace
    (folder / "one.py").write_text("from .inner import deep\n\ndef much(): return deep.HOW\n")
    Path("uses.py").write_text(
        "import json, torch\n\ndef score(model):\n    from helping.one import much\n    return much()\n"
    )
    Path("eval.yml").write_text("evaluators: [{evaluator: 'python:uses.py:score'}]\n")
    assert [one.relative_to(tmp_path) for one in imported_files(tmp_path / "uses.py")] == [
        Path("helping/inner/deep.py"),
        Path("helping/one.py"),
    ]
    assert imported_files(tmp_path / "nosuch.py") == []

    def known() -> list[bool]:
        outcome = cli("evaluate", "a", "--with", "eval.yml", "--json")
        assert outcome.code == 0, outcome.err
        return [row["scores"][0]["results"][0]["cached"] for row in json.loads(outcome.out)["evaluations"]]

    assert [known(), known()] == [[False], [True]]
    (folder / "inner" / "deep.py").write_text("HOW = 2\n")
    assert known() == [False]


def test_a_function_may_import_what_lies_beside_its_file(cli: Cli) -> None:
    for folder, how in (("first", 1), ("second", 2)):  # modules of one name, in two folders
        Path(folder, "parts").mkdir(parents=True)
        Path(folder, "helper.py").write_text(f"from parts import much\nHOW = {how} + much.MORE\n")
        Path(folder, "parts", "much.py").write_text("MORE = 0\n")
        Path(folder, "own.py").write_text(
            "from __future__ import annotations\nfrom dataclasses import dataclass\nimport helper\n"
            "@dataclass\nclass Some:\n    a: int\n"
            "def score(model):\n    from parts.much import MORE\n    return Some(helper.HOW).a + MORE\n"
        )
    Path("both.yml").write_text(
        "evaluators: [{evaluator: 'python:first/own.py:score', name: one},"
        " {evaluator: 'python:second/own.py:score', name: two}]\n"
    )

    def found() -> list[tuple[float, bool]]:
        outcome = cli("evaluate", "a", "--with", "both.yml", "--json")
        assert outcome.code == 0, outcome.err
        results = [row["scores"][0]["results"][0] for row in json.loads(outcome.out)["evaluations"]]
        return [(one["value"], one["cached"]) for one in results]

    before = list(sys.path)
    assert found() == [(1, False), (2, False)]
    assert found() == [(1, True), (2, True)]
    Path("second", "parts", "much.py").write_text("MORE = 10\n")  # known by the digest though nested
    assert found() == [(1, True), (22, False)]
    assert sys.path == before
    assert not {"helper", "parts", "parts.much"} & sys.modules.keys()


SEVERAL = """
name: first
merge_method: linear
models:
- {model: ./a, parameters: {weight: 1}}
- {model: ./b, parameters: {weight: HOW}}
---
merge_method: task_arithmetic
base_model: ./base
models: [{model: first}]
parameters: {weight: 1}
"""


def test_a_document_that_is_computed_while_it_is_read_belongs_to_the_merge() -> None:
    found = []
    for how in ("1", "3"):
        Path("several.yml").write_text(SEVERAL.replace("HOW", how))
        found.append(opened("several.yml"))
    assert [[one.name for one in made.parents] for made in found] == [["./base", "./a", "./b"]] * 2
    assert found[0].identity != found[1].identity
    merged = [made.module().state_dict()["lm_head.weight"] for made in found]
    a, b = (opened(name).module().state_dict()["lm_head.weight"] for name in "ab")
    for one, share in zip(merged, (1, 3), strict=True):
        assert float((one - (a + share * b) / (1 + share)).abs().max()) < 1e-6


def test_packages_that_a_function_lies_in_make_its_kept_result_another(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = Path("lies_in", "inner")
    folder.mkdir(parents=True)
    Path("lies_in", "__init__.py").write_text("HOW = 1\n")
    (folder / "__init__.py").write_text("")
    (folder / "one.py").write_text("import sys\n\ndef score(model): return sys.modules['lies_in'].HOW\n")
    Path("eval.yml").write_text("evaluators: [{evaluator: 'python:lies_in.inner.one:score'}]\n")
    found = []
    for text in ("HOW = 1\n", "HOW = 1\n", "HOW = 1  # and more\n"):
        Path("lies_in", "__init__.py").write_text(text)
        outcome = cli("evaluate", "a", "--with", "eval.yml", "--json")
        assert outcome.code == 0, outcome.err
        found.append(json.loads(outcome.out)["evaluations"][0]["scores"][0]["results"][0]["cached"])
    assert found == [False, True, False]
