"""`mergecore evaluate`: models side by side, merges that are not written, what is known already, what is wrong."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import Cli
from safetensors.torch import save_file
from tiny import listing, read_tensors
from transformers import AutoModelForCausalLM, AutoTokenizer

from mergecore import Evaluator, MergeError, PluginError, Registry
from mergecore.testing import registry_of, tiny_model
from mergecore.types import EvaluationProgress, Score
from mergecore_plugins.evaluation.cache import Cache, default_folder
from mergecore_plugins.evaluation.evaluating import Pruned, evaluate
from mergecore_plugins.evaluation.models import opened
from mergecore_plugins.evaluation.specs import Evaluation

LINES = ("the cat and the man", "in the hand", "thin land", "and the end", "a cat", "the dog ran", "so it is")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A merge of two models, and what to evaluate it with, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    for seed, name in enumerate("ab"):
        tiny_model(
            tmp_path / name, seed=seed, change=lambda tensors: {key: 5 * one for key, one in tensors.items()}
        )
    lines = "".join(f"  - {{model: ./{name}, parameters: {{weight: 0.5}}}}\n" for name in "ab")
    (tmp_path / "mean.yml").write_text(f"merge_method: linear\nmodels:\n{lines}")
    (tmp_path / "dev.txt").write_text("\n".join(LINES))
    (tmp_path / "eval.yml").write_text(
        "evaluators:\n- {evaluator: perplexity, texts: dev.txt, split: line, name: prose}\n"
    )
    return tmp_path / "mean.yml"


def asked(cli: Cli, *words: str | Path) -> dict[str, Any]:
    done = cli("evaluate", *words, "--with", "eval.yml", "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def values(found: dict[str, Any], score: int = 0) -> dict[str, float]:
    return {one["model"]: one["value"] for one in found["evaluations"][0]["scores"][score]["results"]}


def by_hand(folder: Path) -> float:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    module: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    total, count = 0.0, 0
    for text in LINES:
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.inference_mode():
            total += module(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    return math.exp(total / count)


def test_a_merge_that_is_not_written_stands_beside_its_parents(config: Path, cli: Cli) -> None:
    before = listing(config.parent)
    found = asked(cli, "mean.yml", "--no-cache")
    assert listing(config.parent) == before
    assert cli("merge", "mean.yml", "out").code == 0
    wanted = {"mean.yml": by_hand(Path("out")), "./a": by_hand(Path("a")), "./b": by_hand(Path("b"))}
    assert values(found) == pytest.approx(wanted, rel=1e-6)
    assert [(one["name"], one["merge"], one["given"]) for one in found["models"]] == [
        ("mean.yml", True, True),
        ("./a", False, False),
        ("./b", False, False),
    ]
    assert found["models"][0]["parents"] == ["./a", "./b"]
    [best] = [row["model"] for row in found["evaluations"][0]["scores"][0]["results"] if row["best"]]
    assert best == min(wanted, key=wanted.__getitem__)


def test_differences_say_with_whom_and_whether_they_are_noise(config: Path, cli: Cli) -> None:
    found = asked(cli, "mean.yml", "a", "--against", "a", "--no-parents")
    assert [*values(found)] == ["mean.yml", "a"]
    assert found["against"] == "a"
    [difference] = found["evaluations"][0]["scores"][0]["differences"]
    assert (difference["model"], difference["against"]) == ("mean.yml", "a")
    assert difference["value"] == values(found)["mean.yml"] - values(found)["a"]
    assert difference["low"] < difference["value"] < difference["high"]
    assert difference["within_noise"] == (difference["low"] <= 0 <= difference["high"])


def test_a_parent_that_is_named_too_is_evaluated_once(config: Path, cli: Cli) -> None:
    assert [*values(asked(cli, "mean.yml", "a"))] == ["mean.yml", "a", "./b"]
    assert [*values(asked(cli, "a", "a"))] == ["a"]


def test_text_fits_into_80_columns_and_says_what_is_meant(config: Path, cli: Cli) -> None:
    long = Path("a_name_that_is_longer_than_any_column")
    Path("a").rename(long)
    config.write_text(config.read_text().replace("./a,", f"./{long},"))
    done = cli("evaluate", "mean.yml", "--with", "eval.yml")
    assert done.code == 0, done.err
    table = done.out.partition("Differences")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "prose: perplexity, of 7 samples; less is better\n" in table
    assert "  …than_any_column" not in table
    assert re.search(r"^  …ger_than_any_column +[\d.e+]+ +[-+][\d.e+]+ ", table, re.MULTILINE)
    told = " ".join(done.out.split())
    assert "Differences are those to mean.yml, with intervals of 95 %: 2000 draws of as many samples" in told
    alone = cli("evaluate", "mean.yml", "--with", "eval.yml", "--no-parents").out
    assert "Differences" not in alone
    assert " to " in alone


def test_what_is_known_is_not_evaluated_again(
    config: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cached(*words: str) -> list[bool]:
        rows = asked(cli, "mean.yml", *words)["evaluations"][0]["scores"][0]["results"]
        return [one["cached"] for one in rows]

    assert default_folder() == config.parent / "kept" / "mergecore" / "evaluations"
    assert cached() == [False] * 3
    assert cached() == [True] * 3
    assert cached("--no-cache") == [False] * 3
    assert cached("--limit", "2") == [False] * 3
    assert cached("--cache", "elsewhere") == [False] * 3
    assert cached("--cache", "elsewhere") == [True] * 3
    config.write_text(config.read_text().replace("0.5", "0.25", 1))
    assert cached() == [False, True, True]
    tiny_model(Path("b"), seed=9)
    assert cached() == [False, True, False]
    Path("dev.txt").rename("moved.txt")
    Path("eval.yml").write_text(Path("eval.yml").read_text().replace("dev.txt", "moved.txt"))
    assert cached() == [True] * 3  # the same texts, wherever they are
    Path("moved.txt").write_text("other words")
    assert cached() == [False] * 3


def test_a_file_of_scores_that_is_damaged_counts_as_not_there(config: Path, cli: Cli) -> None:
    first = values(asked(cli, "a"))
    for file in Path("kept").rglob("*.json"):
        file.write_text(file.read_text()[:40])
    assert values(asked(cli, "a")) == first


def test_scores_come_back_as_they_were_kept(tmp_path: Path) -> None:
    score = Score(
        name="x", value=0.1, goal="max", samples=2, per_sample=(0.1, 0.2), weights=(1.0, 3.0), truncated=0.5
    )
    cache = Cache(tmp_path)
    cache.put("abc", [score])
    assert cache.get("abc") == (score,)
    assert cache.get("abd") is None
    (tmp_path / "file").write_text("")
    Cache(tmp_path / "file").put("abc", [score])  # where nothing can be written, nothing is kept


def test_a_report_is_one_file_that_names_everything(config: Path, cli: Cli) -> None:
    done = cli("evaluate", "mean.yml", "--with", "eval.yml", "--html", "out.html")
    assert done.code == 0, done.err
    assert "wrote out.html, " in done.err
    text = Path("out.html").read_text()
    for word in ("mean.yml", "./a", "prose", "perplexity", "bits_per_byte"):
        assert word in text
    assert not re.search(r"(src|href)=.?https?:", text)
    before = Path("out.html").read_bytes()
    again = cli("evaluate", "mean.yml", "--with", "eval.yml", "--html", "out.html")
    assert (again.code, Path("out.html").read_bytes()) == (6, before)
    assert "E501: out.html exists. Hint: choose another name, or remove it" in again.err
    refused = cli("evaluate", "mean.yml", "--with", "eval.yml", "--html", "none/out.html")
    assert refused.code == 6
    assert "none/out.html: the folder none does not exist. Hint: make it" in refused.err


def test_names_with_html_in_them_are_harmless(config: Path, cli: Cli) -> None:
    odd = Path("<script>alert(1)<")
    Path("a").rename(odd)
    assert cli("evaluate", f"./{odd}", "--with", "eval.yml", "--html", "out.html").code == 0
    assert "<script>alert" not in Path("out.html").read_text()


def test_answers_that_are_cut_off_are_warned_of(config: Path, cli: Cli) -> None:
    Path("q.jsonl").write_text('{"prompt": "the man", "answer": "no such words"}\n' * 3)
    Path("eval.yml").write_text("evaluators:\n- {evaluator: match, data: q.jsonl, max_tokens: 2}\n")
    found = asked(cli, "a")
    [row] = found["evaluations"][0]["scores"][0]["results"]
    assert row["truncated"] == 1.0
    assert found["warnings"] == ["match: a: 100% of the answers are cut off; allow more tokens"]
    assert (
        "warning: match: a: 100% of the answers are cut off" in cli("evaluate", "a", "--with", "eval.yml").out
    )


def test_answers_that_are_empty_are_warned_of(config: Path, cli: Cli) -> None:
    Path("a/generation_config.json").write_text(json.dumps({"eos_token_id": list(range(34))}))
    Path("q.jsonl").write_text('{"prompt": "the man", "answer": "x"}\n')
    Path("eval.yml").write_text("evaluators:\n- {evaluator: match, data: q.jsonl, max_tokens: 2}\n")
    assert asked(cli, "a")["warnings"] == ["match: a: 100% of the answers are empty"]


def test_what_keeps_models_from_all_evaluations_is_said_once(config: Path, cli: Cli) -> None:
    """Two models that make no text, by two evaluations, are one error, and beside another one two warnings."""
    for name in ("seer", "other"):
        shutil.copytree("a", name)
        facts = json.loads(Path(name, "config.json").read_text())
        facts["architectures"] = ["ViTForImageClassification"]
        Path(name, "config.json").write_text(json.dumps(facts))
    Path("q.jsonl").write_text('{"prompt": "the man", "answer": "x"}\n')
    Path("eval.yml").write_text(
        "evaluators:\n- {evaluator: match, data: q.jsonl, max_tokens: 2}\n"
        "- {evaluator: perplexity, texts: dev.txt}\n"
    )
    why = "not a language model that continues a text. Hint: use an evaluator for models of its kind"
    assert asked(cli, "seer", "other", "a")["warnings"][:2] == [
        f"match, perplexity: seer: {why}",
        f"match, perplexity: other: {why}",
    ]
    refused = cli("evaluate", "seer", "other", "--with", "eval.yml")
    assert refused.err.strip() == f"mergecore: error E271: seer, other: {why}"


def test_a_parent_without_parents_has_no_kl_and_needs_none(config: Path, cli: Cli) -> None:
    Path("eval.yml").write_text("evaluators:\n- {evaluator: kl, texts: dev.txt, split: line}\n")
    found = asked(cli, "mean.yml")
    assert found["warnings"] == []
    rows = {one["model"]: one for one in found["evaluations"][0]["scores"][0]["results"]}
    assert rows["./a"]["value"] is None
    assert rows["mean.yml"]["value"] > 0
    both = cli("evaluate", "mean.yml", "a", "--with", "eval.yml")
    assert "warning: kl: a: its parents are not known." in both.out
    alone = cli("evaluate", "a", "--with", "eval.yml")
    assert alone.code == 3
    assert (
        "error E271: a: its parents are not known. Hint: name a model to compare with: 'to: MODEL'"
        in alone.err
    )


def test_everything_that_is_wrong_is_told_before_a_weight_is_read(
    config: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mergecore_plugins.evaluation.loading.module_of", None)
    Path("eval.yml").write_text("evaluators:\n- {evaluator: choices, data: none.jsonl}\n")
    done = cli("evaluate", "mean.yml", "nowhere", "--with", "eval.yml", "--offline")
    assert done.code == 3
    assert "E270" in done.err
    assert "E701" in done.err


def test_two_evaluations_of_two_files_need_two_names(config: Path, cli: Cli) -> None:
    Path("more.yml").write_text(Path("eval.yml").read_text())
    done = cli("evaluate", "a", "--with", "eval.yml", "--with", "more.yml")
    assert done.code == 2
    assert "two evaluations are called 'prose'. Hint: give one of them another 'name'" in done.err


def test_another_model_than_those_is_not_compared_with(config: Path, cli: Cli) -> None:
    done = cli("evaluate", "mean.yml", "--with", "eval.yml", "--against", "./c")
    assert done.code == 2
    assert "--against: './c' is not one of the models" in done.err
    assert "they are mean.yml, ./a, ./b" in done.err


# ---- from Python -------------------------------------------------------------------------------------------


def scored(*scores: Any, watch: int = 0) -> Evaluator[Any]:
    def say(model: object, params: object, told: Any) -> Iterator[Any]:
        for done in range(1, watch + 1):
            told(EvaluationProgress(done=done, total=watch, scores=scores))
        yield from scores

    return Evaluator(name="fixed", evaluate=say, summary="what it is told")


def run(evaluator: Evaluator[Any], model: Path, **more: Any) -> Any:
    registry = registry_of(evaluator)
    evaluation = Evaluation("fixed", evaluator, evaluator.params())
    [result] = evaluate(opened(model), [evaluation], registry, **more)
    return result.scores


GOOD = Score(name="x", value=0.5, goal="max", samples=2, per_sample=(0.0, 1.0))


def test_a_watch_can_end_an_evaluation_early(config: Path) -> None:
    told: list[int] = []

    def stop(evaluation: Evaluation, progress: EvaluationProgress) -> None:
        told.append(progress.done)
        if progress.done == 2:
            raise Pruned

    cache = Cache(Path("kept"))
    with pytest.raises(Pruned):
        run(scored(GOOD, watch=5), Path("a"), watch=stop, cache=cache)
    assert told == [1, 2]
    assert not Path("kept").exists()


def test_a_plugin_cannot_keep_to_itself_what_a_watch_raises(config: Path) -> None:
    def deaf(model: object, params: object, told: Any) -> Iterator[Score]:
        with pytest.raises(Pruned):
            told(EvaluationProgress(done=1, total=1))
        yield GOOD

    def stop(evaluation: Evaluation, progress: EvaluationProgress) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        run(Evaluator(name="fixed", evaluate=deaf), Path("a"), watch=stop)


@pytest.mark.parametrize(
    ("scores", "what"),
    [
        ((), "the evaluator 'fixed' yields no score"),
        ((3,), "the evaluator 'fixed' yields int where Score is expected"),
        ((replace(GOOD, samples=3),), "the evaluator 'fixed' gives 'x' of 3 samples 2 numbers"),
        ((replace(GOOD, weights=(1.0,)),), "gives 'x' of 2 samples 2 numbers"),
    ],
)
def test_a_plugin_that_says_what_it_should_not_is_told(
    scores: tuple[Any, ...], what: str, config: Path
) -> None:
    with pytest.raises(PluginError, match=what) as caught:
        run(scored(*scores), Path("a"))
    assert (caught.value.code, caught.value.hint) == ("E605", "report it to the authors of the plugin")


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_told(odd: float, config: Path) -> None:
    with pytest.raises(MergeError, match="a: 'x' is not a finite number") as caught:
        run(scored(replace(GOOD, value=odd)), Path("a"))
    assert caught.value.code == "E409"
    assert "its weights give infinite or undefined numbers; merge it otherwise" in str(caught.value)


def test_a_model_whose_numbers_overflow_is_told(config: Path, cli: Cli) -> None:
    tensors = read_tensors(Path("a"))
    save_file({**tensors, "lm_head.weight": tensors["lm_head.weight"] * 1e38}, "a/model.safetensors")
    done = cli("evaluate", "a", "--with", "eval.yml")
    assert done.code == 5
    assert "error E409: a: 'perplexity' is not a finite number" in done.err


def test_evaluators_are_listed_and_shown(cli: Cli) -> None:
    listed = cli("plugins", "list").out
    assert "  Evaluators\n" in listed
    assert re.search(r"^    perplexity +how well a model predicts texts$", listed, re.MULTILINE)
    shown = cli("plugins", "show", "perplexity").out
    assert "parameters of evaluator 'perplexity'" in shown
    assert "texts" in shown
    names = {one.name for one in Registry.discover().all(Evaluator)}
    assert {"perplexity", "choices", "match", "kl", "python"} <= names


@pytest.mark.parametrize("place", ["out/page.html", "out/deeper/page.html"])
def test_no_page_lands_in_a_merged_model(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        tiny_model(Path(name), seed=seed)
    Path("m.yml").write_text(
        "merge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 1}\n"
    )
    Path("e.yml").write_text("evaluators: [{evaluator: perplexity, texts: dev.txt}]\n")
    Path("dev.txt").write_text("the cat\n")
    assert cli("merge", "m.yml", "out").code == 0
    Path("out", "deeper").mkdir()
    Path("link").symlink_to(Path(place).parent)
    commands = (
        ("plan", "m.yml"),
        ("diff", "a", "b"),
        ("evaluate", "a", "--with", "e.yml"),
        ("report", "out"),
    )
    for command in commands:
        for page in (place, "link/page.html"):
            given = ("report", "out", page) if command[0] == "report" else (*command, "--html", page)
            done = cli(*given)
            assert (done.code, Path(place).exists()) == (6, False), done.err
            assert "E505" in done.err
            told = " ".join(done.err.split())
            if command[0] == "report" and page == place:
                assert f"{page}: the report is inside the output out. Hint" in told
            else:
                merged = Path("out").resolve()
                assert f"{page}: the report is inside the merged model {merged}. Hint" in told
