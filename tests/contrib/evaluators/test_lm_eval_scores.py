"""The scores in results of lm-eval, from results written by hand; lm-eval itself is not needed."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
from refusals import refusal

from mergecore.types import Score
from mergecore_contrib.evaluators import lm_eval
from mergecore_contrib.evaluators.extras import imported
from mergecore_contrib.evaluators.harness.running import Answers
from mergecore_contrib.evaluators.harness.scores import of_results
from mergecore_contrib.evaluators.lm_eval import LmEvalParams


def scores(metrics: dict[str, Any], rows: list[dict[str, Any]], **more: Any) -> dict[str, Score]:
    found = {
        "results": {"t": metrics},
        "samples": {"t": rows},
        "higher_is_better": {"t": {"loss": False}},
        **more,
    }
    return {one.name: one for one in of_results(found, None)}


def test_each_filter_has_a_score_of_its_own_and_errors_have_none() -> None:
    rows = [{"filter": "strict", "hit": 1.0}, {"filter": "lax", "hit": 1.0}, {"filter": "strict", "hit": 0.0}]
    rows.append({"filter": "lax", "hit": 1.0})
    metrics = {"alias": "t", "sample_len": 2, "hit,strict": 0.5, "hit_stderr,strict": 0.1, "hit,lax": 1.0}
    found = scores(metrics, rows)
    assert {name: (one.value, one.per_sample) for name, one in found.items()} == {
        "t/hit:strict": (0.5, (1.0, 0.0)),
        "t/hit:lax": (1.0, (1.0, 1.0)),
    }


def test_log_likelihoods_become_the_terms_of_a_perplexity() -> None:
    """Perplexity of words: exp of (6 + 2) / (3 + 1) is exp(2)."""
    rows: list[dict[str, Any]] = [
        {"filter": "none", "loss": (-6.0, 3)},
        {"filter": "none", "loss": (-2.0, 1)},
    ]
    (words,) = scores({"loss,none": math.exp(2)}, rows).values()
    assert (words.per_sample, words.weights, words.scale, words.goal) == (
        (2.0, 2.0),
        (3.0, 1.0),
        "exp",
        "min",
    )
    (bits,) = scores({"loss,none": 2 / math.log(2)}, rows).values()
    assert (bits.per_sample[0], bits.weights, bits.scale) == (2 / math.log(2), (3.0, 1.0), "mean")
    (tokens,) = scores({"loss,none": math.exp(3)}, [{"filter": "none", "loss": -3.0}]).values()
    assert (tokens.per_sample, tokens.weights, tokens.scale) == ((3.0,), (), "exp")


def test_a_value_that_is_no_mean_of_samples_has_no_samples_to_pair() -> None:
    """An F1 of 0.8 is not the mean of these pairs of answers."""
    rows: list[dict[str, Any]] = [{"filter": "none", "f1": (1, 1)}, {"filter": "none", "f1": (0, 1)}]
    (found,) = scores({"f1,none": 0.8}, rows).values()
    assert (found.value, found.samples, found.per_sample) == (0.8, 2, ())


def test_a_group_counts_the_samples_of_its_tasks_and_names_are_one_word() -> None:
    found = {
        "results": {"a group": {"acc,none": 0.5}},
        "n-samples": {"one": {"effective": 3}, "two": {"effective": 4}},
        "group_subtasks": {"a group": ["one", "inner"], "inner": ["two"]},
    }
    (score,) = of_results(found, None)
    assert (score.name, score.samples, score.goal) == ("a_group/acc", 7, "max")


def test_shares_of_answers_are_those_of_the_task() -> None:
    answers = Answers({"t": 4}, {"t": 1}, {"t": 2})
    rows = [{"filter": "none", "hit": one} for one in (1.0, 0.0, 0.0, 0.0)]
    (score,) = of_results({"results": {"t": {"hit,none": 0.25}}, "samples": {"t": rows}}, answers)
    assert (score.truncated, score.empty) == (0.25, 0.5)


def test_a_package_that_is_not_installed_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lacking(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name.partition(".")[0])

    monkeypatch.setattr(importlib, "import_module", lacking)
    said = refusal(lambda: lm_eval.check(LmEvalParams(tasks=("arc_easy",)), ()))
    assert said.startswith("E601 lm_eval")
    assert "is not installed" in said
    assert said.endswith("Hint: pip install 'mergecore[lm-eval]'")


def test_a_package_that_is_broken_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libsomething.so: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    said = refusal(lambda: imported("lm_eval", "lm-eval"))
    assert "lm_eval cannot be imported: libsomething.so" in said


def test_one_task_need_not_be_a_list() -> None:
    assert LmEvalParams.model_validate({"tasks": "arc_easy"}).tasks == ("arc_easy",)
