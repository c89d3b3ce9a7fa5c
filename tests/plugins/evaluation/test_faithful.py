"""Tokens, settings and lengths that a model brings with it, which must not change what is measured."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from scored_models import REGISTRY, TALK, TEXTS, plain, scores, write_rows

from mergecore import InputError, MergeError
from mergecore.testing import tiny_model
from mergecore_plugins.evaluation.evaluators.data import texts as texts_of
from mergecore_plugins.evaluation.models import opened
from mergecore_plugins.evaluation.specs import read_file

PROMPTS = ("the cow says", "the capital of france is", "the owl says", "the capital of italy is")


@pytest.fixture
def ending(tmp_path: Path) -> Path:
    """A model whose tokenizer puts the end of a text behind every text."""
    folder = tmp_path / "ending"
    shutil.copytree(TALK / "animals", folder)
    tokenizer = plain(folder)[1]
    end = tokenizer.eos_token
    written = json.loads((folder / "tokenizer.json").read_text())
    written["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {end: {"id": end, "ids": [tokenizer.eos_token_id], "tokens": [end]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(written))
    assert plain(folder)[1]("the cow").input_ids[-1] == tokenizer.eos_token_id
    return folder


def loss(module: Any, tokenizer: Any, prompt: str, choice: str) -> float:
    """Of the choice behind the prompt, token by token, in float64."""
    before = tokenizer(prompt, add_special_tokens=False).input_ids
    whole = tokenizer(f"{prompt} {choice}", add_special_tokens=False).input_ids
    with torch.inference_mode():
        log_p = module(input_ids=torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return -sum(float(log_p[place - 1, whole[place]]) for place in range(len(before), len(whole)))


def test_choices_are_those_of_a_plain_loop_where_a_tokenizer_ends_texts(ending: Path, tmp_path: Path) -> None:
    module, tokenizer = plain(ending)
    words = ("moo", "hoo", "paris", "rome", "woof")
    rows = [{"prompt": one, "choices": [*words], "answer": 0} for one in PROMPTS]
    for row in rows:
        sums = [loss(module, tokenizer, str(row["prompt"]), word) for word in words]
        row["answer"] = sums.index(min(sums))
    data = write_rows(tmp_path / "q.jsonl", rows)
    assert scores("choices", opened(ending), data=str(data))["accuracy"].per_sample == (1.0,) * 4


def test_choices_without_a_prompt_begin_with_the_token_that_begins(ending: Path, tmp_path: Path) -> None:
    module, tokenizer = plain(ending)
    words = ["moo", "hoo", "paris", "rome", "the cow"]
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    sums = []
    for word in words:
        ids = [begin, *tokenizer(word, add_special_tokens=False).input_ids]
        with torch.inference_mode():
            log_p = module(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        sums.append(-sum(float(log_p[place - 1, ids[place]]) for place in range(1, len(ids))))
    row = {"prompt": "", "choices": words, "answer": sums.index(min(sums))}
    data = write_rows(tmp_path / "q.jsonl", [row])
    assert scores("choices", opened(ending), data=str(data))["accuracy"].value == 1.0


def greedy(folder: Path, prompt: str, most: int) -> str:
    """The likeliest tokens, one by one, without `generate`."""
    module, tokenizer = plain(folder)
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    start = len(ids)
    for _ in range(most):
        with torch.inference_mode():
            ids = [*ids, int(module(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
        if ids[-1] == tokenizer.eos_token_id:
            break
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True)).strip()


def check_answers(folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": one, "answer": greedy(TALK / "animals", one, 4)} for one in PROMPTS]
    assert all(row["answer"] for row in rows)
    data = write_rows(tmp_path / "q.jsonl", rows)
    found = scores("match", opened(folder), data=str(data), compare="exact", max_tokens=4, batch=2)
    assert found["accuracy"].per_sample == (1.0,) * 4


def test_answers_follow_the_prompt_where_a_tokenizer_ends_texts(ending: Path, tmp_path: Path) -> None:
    check_answers(ending, tmp_path)


@pytest.mark.parametrize(
    "more",
    [
        {"repetition_penalty": 9.0},
        {"suppress_tokens": [*range(5, 60)]},
        {"min_new_tokens": 4},
        {"no_repeat_ngram_size": 1, "do_sample": True, "temperature": 9.0},
        {"num_beams": 4, "length_penalty": 5.0},
    ],
)
def test_answers_are_the_likeliest_whatever_a_model_is_set_to(more: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(TALK / "animals", folder)
    file = folder / "generation_config.json"
    known = json.loads(file.read_text()) if file.exists() else {"eos_token_id": plain(folder)[1].eos_token_id}
    file.write_text(json.dumps({**known, **more}))
    check_answers(folder, tmp_path)


def test_a_choice_that_a_model_cannot_take_is_refused(sharp: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "the", "choices": ["abcdefgh " * 60, "and"], "answer": 0}]
    data = write_rows(tmp_path / "q.jsonl", rows)
    with pytest.raises(InputError, match="it takes 64 tokens at once; a choice has") as caught:
        scores("choices", opened(sharp), data=str(data))
    assert caught.value.hint == "write shorter choices, or leave the question out"


def test_kl_to_a_model_that_takes_less_is_refused(sharp: Path, texts: Path, tmp_path: Path) -> None:
    shutil.copytree(sharp, tmp_path / "less")
    config = json.loads((sharp / "config.json").read_text())
    (tmp_path / "less" / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 16}))
    with pytest.raises(InputError, match="it takes 16 tokens at once; the window has 64") as caught:
        scores("kl", opened(sharp), texts=str(texts), to=str(tmp_path / "less"))
    assert caught.value.hint == "window: 16"
    found = scores("kl", opened(sharp), texts=str(texts), to=str(tmp_path / "less"), window=16)
    assert found["kl"].value == pytest.approx(0.0, abs=1e-6)


def test_parents_of_like_names_have_scores_of_their_own(sharp: Path, texts: Path, tmp_path: Path) -> None:
    shutil.copytree(sharp, tmp_path / "m a")
    tiny_model(tmp_path / "m_a", seed=6)
    models = [{"model": str(tmp_path / one), "parameters": {"weight": 0.5}} for one in ("m a", "m_a")]
    found = scores("kl", opened({"merge_method": "linear", "models": models}), texts=str(texts))
    name = f"kl:{tmp_path / 'm_a'}"
    assert [*found] == ["kl", f"{name}-2", name]
    assert found["kl"].value == pytest.approx((found[name].value + found[f"{name}-2"].value) / 2)


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes("a\x0cb\r\nc\x85d\ne\u2028f\x1cg\n".encode())
    assert texts_of([file], "text", "line") == ["a\x0cb", "c\x85d", "e\u2028f\x1cg"]


def test_the_model_to_compare_with_is_relative_to_the_file(
    sharp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "short.txt").write_text(TEXTS[0])
    file = tmp_path / "eval.yml"
    for given, expected in (("sharp", str(sharp)), ("some/hub-name", "some/hub-name")):
        file.write_text(f"evaluators: [{{evaluator: kl, texts: short.txt, to: {given}}}]\n")
        (one,) = read_file(file, REGISTRY)
        assert getattr(one.params, "to", None) == expected


@pytest.fixture
def overflowing(tmp_path: Path) -> Path:
    """A model of float16 with finite weights, whose logits are more than float16 holds."""

    def large(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        huge = {"model.norm.weight": 6e4, "lm_head.weight": 6e4}
        return {name: (one.sign() * huge.get(name, one.abs())).half() for name, one in tensors.items()}

    return tiny_model(tmp_path / "overflowing", seed=3, change=large)


@pytest.mark.parametrize(
    ("evaluator", "row", "what"),
    [
        ("choices", {"prompt": "the", "choices": ["and", "cat"], "answer": 0}, "log p of a choice"),
        ("match", {"prompt": "the", "answer": "and"}, "a logit of the next token"),
    ],
)
def test_no_accuracy_is_made_of_undefined_numbers(
    evaluator: str, row: dict[str, Any], what: str, overflowing: Path, tmp_path: Path
) -> None:
    module, tokenizer = plain(overflowing)
    logits = module.half()(**tokenizer("the", return_tensors="pt")).logits
    assert not torch.isfinite(logits).all()
    data = write_rows(tmp_path / "q.jsonl", [row])
    more = {"max_tokens": 2} if evaluator == "match" else {}
    with pytest.raises(MergeError, match=f"overflowing: {what} is not a finite number") as caught:
        scores(evaluator, opened(overflowing), data=str(data), **more)
    assert caught.value.code == "E409"


def test_a_perplexity_beyond_all_numbers_is_told(sharp: Path, texts: Path, tmp_path: Path) -> None:
    tensors = load_file(sharp / "model.safetensors")
    huge = {
        **tensors,
        "lm_head.weight": tensors["lm_head.weight"] * 1e6,
    }  # losses of thousands: exp overflows
    save_file(huge, sharp / "model.safetensors", {"format": "pt"})
    found = scores("perplexity", opened(sharp), texts=str(texts))
    assert found["perplexity"].value == math.inf
    assert found["bits_per_byte"].value > 1000
