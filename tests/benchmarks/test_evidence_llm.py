"""The experiment with language models, with a tiny one: tasks, answers, experts, and the arithmetic of the tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest
import torch
from benchmarks.evidence_llm import training
from benchmarks.evidence_llm.__main__ import of_seed
from benchmarks.evidence_llm.experts import Models, Recipe, made
from benchmarks.evidence_llm.merging import Bench, Outcome, Result, outcomes, settings
from benchmarks.evidence_llm.pictures import picture
from benchmarks.evidence_llm.report import Family, interval, report, rows
from benchmarks.evidence_llm.scoring import encoded, judged
from benchmarks.evidence_llm.searching import SEARCHES, Search, _config, _result, searched
from benchmarks.evidence_llm.tasks import TASKS, in_words, samples
from benchmarks.evidence_llm.training import Schedule, thinned, tuned
from transformers import AutoTokenizer

from mergecore.testing import tiny_model
from mergecore_plugins.search.judging.bench import Asked
from mergecore_plugins.search.searching import prepared

SUMS = samples("sums")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "base", seed=5, dtype="bfloat16")


# ---- tasks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_no_prompt_is_in_two_parts_and_they_are_always_the_same(task: str) -> None:
    parts = samples(task)
    prompts = [{one.prompt for one in part} for part in (parts.train, parts.validation, parts.test)]
    assert (
        sum(map(len, prompts))
        == len(set.union(*prompts))
        == sum(map(len, (parts.train, parts.validation, parts.test)))
    )
    assert samples(task) == parts


def test_answers_are_right() -> None:
    assert [in_words(number) for number in (7, 13, 20, 42, 60)] == [
        "seven",
        "thirteen",
        "twenty",
        "forty-two",
        "sixty",
    ]
    number = {in_words(one): one for one in range(1, 61)}
    for one in SUMS.test:
        left, right = one.prompt.removesuffix(" is").split(" plus ")
        assert number[one.answer.strip(" .")] == number[left] + number[right]
    for one in samples("json").test[:50]:
        person = json.loads(one.answer)
        assert list(person) == ["name", "age", "city"]
        assert all(str(value) in one.prompt for value in person.values())


def test_every_fact_that_is_tested_is_learnt_in_other_words() -> None:
    parts = samples("facts")
    learnt = {one.answer for one in parts.train}
    assert {one.answer for one in (*parts.validation, *parts.test)} <= learnt
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (144, 36, 72)


# ---- answers -----------------------------------------------------------------------------------------------


def test_an_answer_is_right_just_when_the_model_generates_it(base: Path) -> None:
    """Half of the answers are what the model says, token by token, and half have another token at the end."""
    module = training.load(base)
    prompts = [[3, 4, 5], [7], [30, 9, 8, 8, 2], [12, 13]]
    asked = []
    for number, prompt in enumerate(prompts):
        said = module.generate(
            torch.tensor([prompt]), max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0
        )
        answer = said[0, len(prompt) :].tolist()
        asked.append((prompt, [*answer[:3], (answer[3] + number % 2) % 30]))
    found = judged(module, asked, size=3)
    assert list(found.right) == [True, False, True, False]
    for (prompt, answer), loss in zip(asked, found.losses, strict=True):
        logits = module(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        wanted = -sum(logits[len(prompt) - 1 + at, token].item() for at, token in enumerate(answer)) / 4
        assert loss == pytest.approx(wanted, abs=1e-4)


# ---- experts -----------------------------------------------------------------------------------------------


def test_training_learns_and_is_the_same_with_the_same_seed(base: Path) -> None:
    learnt = encoded(AutoTokenizer.from_pretrained(base), SUMS.train[:16])
    runs = []
    for seed in (0, 0, 1):
        module = training.load(base)
        losses = tuned(module, learnt, Schedule(40, 1e-2), seed)
        assert losses[-1] < 0.8 * losses[0]
        runs.append((losses, module.state_dict()))
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert all(torch.equal(one, runs[1][1][name]) for name, one in runs[0][1].items())


def test_a_sparse_expert_changes_only_the_share_of_entries_that_changed_most(base: Path) -> None:
    before = dict(training.load(base).named_parameters())
    module = training.load(base)
    with torch.no_grad():
        for one in module.parameters():
            one += torch.arange(one.numel(), dtype=torch.float32).reshape(one.shape) / one.numel()
    masks = thinned(module, before, 0.1)
    learnt = encoded(AutoTokenizer.from_pretrained(base), SUMS.train[:16])
    tuned(module, learnt, Schedule(3, 1e-2), 0, masks)
    for name, one in module.named_parameters():
        changed = (one != before[name]).flatten()
        if one.dim() < 2:
            assert not changed.any()
        else:
            assert changed.sum() == masks[name].sum() == pytest.approx(0.1 * one.numel(), abs=1)
            assert changed[-int(0.09 * one.numel()) :].all()  # the last ones changed most


RECIPE = Recipe(
    whole={task: Schedule(3, 1e-3) for task in TASKS}, sparse={task: Schedule(2, 1e-3) for task in TASKS}
)


@pytest.mark.slow
def test_a_run_goes_on_where_another_one_stopped(base: Path, tmp_path: Path) -> None:
    """Models and scores are made once; another recipe makes them again."""
    told: list[str] = []
    made("whole", base, tmp_path / "out", RECIPE, 0, told.append)
    assert [line.partition(":")[0] for line in told] == [f"whole/{task}" for task in TASKS]
    made("sparse", base, tmp_path / "out", RECIPE, 0, told.append)
    assert [line.partition(":")[0] for line in told[3:]] == [f"sparse/{task}" for task in TASKS]
    made("sparse", base, tmp_path / "out", RECIPE, 1, told.append)
    assert len(told) == 12
    whole = made("whole", base, tmp_path / "out", RECIPE, 1, told.append)
    assert len(told) == 12

    # another recipe for sparse experts leaves those that changed everywhere as they are
    other_recipe = replace(RECIPE, sparse={task: Schedule(1, 1e-3) for task in TASKS})
    made("sparse", base, tmp_path / "out", other_recipe, 1, told.append)
    assert [line.partition(":")[0] for line in told[12:]] == [f"sparse/{task}" for task in TASKS]

    tokens = AutoTokenizer.from_pretrained(base)
    few = {task: encoded(tokens, samples(task).test[:3]) for task in TASKS}
    bench = Bench(whole, 0, {"validation": few, "test": few}, tmp_path / "scores.jsonl")
    chosen = [one for one in settings(bench.registry) if one.method in ("linear", "task_arithmetic")]
    found = dict(outcomes(bench, chosen, (0.5, 1.0)))
    assert list(found) == ["linear", "task_arithmetic"]
    assert (found["linear"].scale, set(found["task_arithmetic"].validation)) == (None, {0.5, 1.0})
    lines = bench.journal.read_text()
    again = Bench(whole, 0, {"validation": few, "test": few}, tmp_path / "scores.jsonl")
    assert dict(outcomes(again, chosen, (0.5, 1.0))) == found
    assert bench.journal.read_text() == lines
    # scores of other experts are not taken for theirs
    note = whole.experts["sums"] / "recipe.json"
    note.write_text(note.read_text() + " ")
    other = Bench(whole, 0, {"validation": few, "test": few}, tmp_path / "scores.jsonl")
    assert other.stamp != bench.stamp
    list(outcomes(other, chosen[:1], ()))
    assert bench.journal.read_text().startswith(lines)
    assert bench.journal.read_text() != lines
    # the change at another scale is what the method itself makes of it, but for a rounding in few places
    own = bench._merged(chosen[1], 0.5, "bfloat16")
    for name, tensor in bench._scaled(chosen[1], 0.5).items():
        assert torch.allclose(tensor.float(), own[name].float(), rtol=2**-7, atol=0)
        assert (tensor != own[name]).float().mean() < 0.01
    # the mean of three experts is the base and a third of the sum of their changes
    third = Bench(whole, 0, {"validation": few, "test": few}, tmp_path / "third.jsonl")
    ((_, one),) = outcomes(third, chosen[1:], (1 / 3,))
    assert one.validation[1 / 3].loss == pytest.approx(found["linear"].default.loss, rel=0.02)


@pytest.mark.slow
def test_the_search_picks_the_scale_that_the_grid_picks_and_looks_at_the_test_once(
    base: Path, tmp_path: Path
) -> None:
    """Both score the same merges: the same right answers to the test, and the same losses but for rounding."""
    pytest.importorskip("optuna")
    whole = made("whole", base, tmp_path / "out", RECIPE, 0, lambda line: None)
    tokens = AutoTokenizer.from_pretrained(base)
    parts = {
        part: {task: encoded(tokens, getattr(samples(task), part)[:3]) for task in TASKS}
        for part in ("validation", "test")
    }
    bench = Bench(whole, 0, parts, tmp_path / "scores.jsonl")
    (chosen,) = [one for one in settings(bench.registry) if one.method == "task_arithmetic"]
    grid = (0.5, 1.0, 2.0, 4.0)
    ((_, by_grid),) = outcomes(bench, [chosen], grid)
    search = Search("by grid", chosen, {"lambda": f"!choice {list(grid)}"}, trials=4, sampler="grid")
    found = searched(bench, search)
    assert found.found == f"lambda {by_grid.scale}"
    assert found.tuned.right == by_grid.tuned.right
    assert found.tuned.loss == pytest.approx(by_grid.tuned.loss, rel=1e-4)
    assert found.default == by_grid.default
    history = tmp_path / f"scores/search-{bench.stamp}/by grid/found/history.jsonl"
    lines = history.read_text().splitlines()
    assert sum('"kind": "point"' in line for line in lines) == 4
    again = Bench(whole, 0, parts, tmp_path / "scores.jsonl")
    assert searched(again, search) == found
    assert history.read_text().splitlines() == lines


def test_searches_say_points_that_there_are(base: Path, tmp_path: Path) -> None:
    """What `mergecore search --check` checks: ranges, names of the points to begin with, evaluators and models."""
    pytest.importorskip("optuna")
    models = Models(
        base, {task: tiny_model(tmp_path / task, seed=number) for number, task in enumerate(TASKS)}
    )
    for folder in models.experts.values():
        (folder / "recipe.json").write_text("{}")
    few = {task: [([1, 2], [3])] for task in TASKS}
    bench = Bench(
        models, 0, {"validation": few, "test": few | {"sums": [([2], [3])]}}, tmp_path / "scores.jsonl"
    )
    for search in SEARCHES:
        (tmp_path / "search.yml").write_text(_config(bench, search, tmp_path))
        ready = prepared(Asked(str(tmp_path / "search.yml"), threads=1))
        assert {one.name for one in ready.search.space.dimensions} == set(search.start[0])


def test_right_answers_and_losses_come_back_out_of_the_values_of_a_search() -> None:
    """Right with a loss of 0.25, wrong with 2 and 4; right with 1."""
    found = _result([1 - 0.25e-6, -2e-6, -4e-6, 1 - 1e-6], {"a": 3, "b": 1})
    assert found.right == {"a": [True, False, False], "b": [True]}
    assert found.loss == pytest.approx({"a": 6.25 / 3, "b": 1.0}, rel=1e-6)


@pytest.mark.slow
def test_an_expert_that_learnt_nothing_ends_the_run_before_it_merges(base: Path, tmp_path: Path) -> None:
    """What it knows is what scores are a share of."""
    with pytest.raises(click.ClickException, match="seed 0: the whole expert of sums has learnt nothing"):
        list(of_seed(base, tmp_path, 0, ["whole"], recipe=RECIPE))


# ---- tables ------------------------------------------------------------------------------------------------


def result(*right: str) -> Result:
    tasks = ("a", "b")[: len(right)]
    return Result(
        {task: [hit == "1" for hit in hits] for task, hits in zip(tasks, right, strict=True)},
        {"a": 1.0, "b": 1.0},
    )


def family() -> Family:
    """The experts are right in 4 and 2 of 4; averaging in 2 and 1, another in 4 and 1, a third like averaging."""
    average, other = result("1100", "1000"), result("1111", "1000")
    kinds = {"linear": average, "ties": other, "dare_ties": result("0011", "0100")}
    outcome = {
        name: Outcome(
            average,
            one,
            None if name == "linear" else 0.5,
            {} if name == "linear" else {0.5: one, 1.0: average},
        )
        for name, one in kinds.items()
    }
    experts = {"a": result("1111", "0000"), "b": result("0000", "1100")}
    return Family("whole", 0, result("0000", "1000"), experts, outcome)


def test_normalised_accuracy_is_the_mean_of_shares_of_the_experts() -> None:
    """Averaging: (50 / 100 + 25 / 50) / 2; ties: (100 / 100 + 25 / 50) / 2."""
    made_rows = {row.name: row for row in rows([family()])}
    assert made_rows["linear"].tuned == [50.0]
    assert (made_rows["ties"].tuned, made_rows["ties"].default, made_rows["ties"].gain) == (
        [75.0],
        [50.0],
        25.0,
    )


def test_intervals_are_of_paired_samples() -> None:
    """Ties differs in two of four samples of a: 25 points times what share of four drawn samples are of these two."""
    one = family()
    low, high = interval([one], lambda it: it.outcomes["ties"].tuned, lambda it: it.outcomes["linear"].tuned)
    assert (low, high) == (0.0, 50.0)
    same = interval([one], lambda it: it.base, lambda it: it.base)
    assert same == (0.0, 0.0)
    verdicts = {row.name: row.verdict for row in rows([one])}
    assert verdicts["dare_ties"] == "within noise"


def test_what_a_search_found_is_in_the_table() -> None:
    one = family()
    found = replace(one.outcomes["ties"], scale=None, found="lambda 0.93")
    with_it = replace(one, outcomes={**one.outcomes, "ties by search": found})
    assert "| ties by search | 75.0 ± 0.0 |" in (text := report({"whole": [with_it, with_it]}))
    assert "| lambda 0.93 | 50.0 ± 0.0 |" in text


def test_a_method_is_compared_with_averaging_over_the_seeds_that_it_has() -> None:
    """With the first seed alone averaging has 50 %; with the second, which ties lacks, 75."""
    one = family()
    better = {
        name: replace(of, tuned=result("1111", "1000")) for name, of in one.outcomes.items() if name != "ties"
    }
    other = replace(one, seed=1, outcomes=better)
    made_rows = {row.name: row for row in rows([one, other])}
    assert (made_rows["ties"].tuned, made_rows["ties"].gain, len(made_rows["ties"].families)) == (
        [75.0],
        25.0,
        1,
    )
    assert made_rows["linear"].tuned == [50.0, 75.0]
    table = (
        report({"whole": [one, other]}).partition("| seeds |")[2].partition("Right answers")[0].splitlines()
    )
    seeds = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in table if "|" in line}
    assert (seeds["ties"], seeds["dare_ties"], seeds["**averaging** (linear)"]) == ("1", "2", "2")


def test_tables_and_the_picture_show_every_method() -> None:
    text = report({"whole": [family(), family()]})
    assert "| ties | 75.0 ± 0.0 | +25.0 " in text
    assert "| **averaging** (linear) | 50.0 ± 0.0 |  |" in text
    assert "| expert of b | 0.0 ± 0.0 | 50.0 ± 0.0 |" in text
    drawn = picture({"whole": [family()]})
    assert drawn.count('class="tuned"') == drawn.count('class="plain"') == 3
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")
