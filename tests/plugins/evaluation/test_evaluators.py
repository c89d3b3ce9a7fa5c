"""The built-in evaluators: their numbers are those of plain loops that share nothing with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scored_models import TEXTS, evaluator, params, plain, scores, write_rows

from mergecore import InputError
from mergecore.errors import Problems
from mergecore.testing import check_evaluator, tiny_model
from mergecore.types import EvaluationProgress
from mergecore_plugins.evaluation.models import opened

# ---- perplexity ------------------------------------------------------------------------------------------


def strided(module: Any, ids: torch.Tensor, window: int, stride: int) -> tuple[float, int]:
    """The loop that transformers documents: the labels of what was seen before are left out."""
    total, count, before = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + window, ids.shape[1])
        given = ids[:, begin:end]
        labels = given.clone()
        labels[:, : -(end - before)] = -100
        counted = int((labels[:, 1:] != -100).sum())
        if counted:
            with torch.inference_mode():
                total += module(input_ids=given, labels=labels).loss.item() * counted
        count, before = count + counted, end
        if end == ids.shape[1]:
            break
    return total, count


@pytest.mark.parametrize(("window", "stride"), [(64, 32), (16, 8), (16, 15), (7, 1)])
def test_perplexity_is_that_of_a_plain_loop(sharp: Path, texts: Path, window: int, stride: int) -> None:
    module, tokenizer = plain(sharp)
    found = scores("perplexity", opened(sharp), texts=str(texts), window=window, stride=stride)["perplexity"]
    total, count, each = 0.0, 0, []
    for text in TEXTS:
        loss, tokens = strided(module, tokenizer(text, return_tensors="pt").input_ids, window, stride)
        total, count = total + loss, count + tokens
        each.append((loss / tokens if tokens else 0.0, float(tokens)))
    assert found.value == pytest.approx(math.exp(total / count), rel=1e-6)
    assert found.per_sample == pytest.approx([one for one, _ in each], rel=1e-6)
    assert found.weights == tuple(tokens for _, tokens in each)
    assert (found.goal, found.samples, found.scale) == ("min", 5, "exp")


def test_bits_per_byte_count_the_bytes_of_texts(sharp: Path, texts: Path) -> None:
    found = scores("perplexity", opened(sharp), texts=str(texts))
    value, bits = found["perplexity"], found["bits_per_byte"]
    nats = sum(a * b for a, b in zip(value.per_sample, value.weights, strict=True))
    assert bits.value == pytest.approx(nats / math.log(2) / sum(map(len, TEXTS)), rel=1e-9)


@pytest.mark.parametrize("batch", [2, 3, 64])
def test_batches_change_nothing_but_the_last_digits(sharp: Path, texts: Path, batch: int) -> None:
    alone = scores("perplexity", opened(sharp), texts=str(texts), window=16, batch=1)["perplexity"]
    found = scores("perplexity", opened(sharp), texts=str(texts), window=16, batch=batch)["perplexity"]
    assert found.per_sample == pytest.approx(alone.per_sample, rel=1e-5)
    assert found.weights == alone.weights


@pytest.mark.parametrize(("split", "samples"), [("paragraph", 3), ("line", 4), ("file", 1)])
def test_samples_of_a_plain_text(sharp: Path, tmp_path: Path, split: str, samples: int) -> None:
    (tmp_path / "t.txt").write_bytes("\ufeffab\nthe\r\n \t\r\nand\n\n\n\nman\n".encode())
    found = scores("perplexity", opened(sharp), texts=str(tmp_path / "t.txt"), split=split)["perplexity"]
    assert found.samples == samples


def test_texts_of_several_files_are_taken_in_order(sharp: Path, texts: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "t.jsonl", [{"body": "the end"}, {"body": "and so"}])
    both = [str(rows), str(texts)]
    found = scores("perplexity", opened(sharp), texts=both, field="body", limit=4)["perplexity"]
    assert found.samples == 4
    first = scores("perplexity", opened(sharp), texts=str(rows), field="body")["perplexity"]
    assert found.per_sample[:2] == pytest.approx(first.per_sample, rel=1e-5)


def test_windows_that_a_model_cannot_take_are_refused(sharp: Path, texts: Path) -> None:
    with pytest.raises(InputError, match="it takes 64 tokens at once; the window has 65") as caught:
        scores("perplexity", opened(sharp), texts=str(texts), window=65)
    assert (caught.value.code, caught.value.hint) == ("E271", "window: 64")
    with pytest.raises(InputError, match="with a stride of 8, windows of 8 tokens do not overlap") as caught:
        scores("perplexity", opened(sharp), texts=str(texts), window=8, stride=8)
    assert caught.value.hint == "stride: 4"


@pytest.mark.parametrize("name", ["perplexity", "kl"])
def test_texts_of_one_token_say_nothing(sharp: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "t.txt").write_text("a\n\nb\n")
    with pytest.raises(InputError, match="no text has two tokens") as caught:
        scores(
            name, opened(sharp), texts=str(tmp_path / "t.txt"), **({"to": str(sharp)} if name == "kl" else {})
        )
    assert caught.value.hint == "name longer texts, or 'split: file'"


def test_models_that_do_not_continue_a_text_are_refused(tmp_path: Path, texts: Path) -> None:
    model = opened(tiny_model(tmp_path / "bert", "bert"))
    for name in ("perplexity", "kl"):
        with pytest.raises(InputError, match="not a language model that continues a text") as caught:
            scores(name, model, texts=str(texts))
        assert (caught.value.code, caught.value.hint) == ("E271", "use an evaluator for models of its kind")


# ---- choices ---------------------------------------------------------------------------------------------

QUESTIONS: list[dict[str, Any]] = [
    {"prompt": "the man", "choices": ["and", "in the hand", "t"], "answer": 1},
    {"question": "in a land ", "choices": ["the", "thin"], "answer": "the"},
    {"prompt": "", "choices": ["abc", "the end"], "answer": 0},
    {"prompt": "z", "choices": ["q", "w", "x", "k"], "answer": 3},
    *({"prompt": f"{one} the", "choices": ["the and the", one], "answer": 0} for one in "abcdefghij"),
]


def test_choices_are_scored_as_a_plain_loop_does(sharp: Path, tmp_path: Path) -> None:
    module, tokenizer = plain(sharp)
    data = write_rows(tmp_path / "q.jsonl", QUESTIONS)
    found = scores("choices", opened(sharp), data=str(data))
    plainly, normed = [], []
    for row in QUESTIONS:
        prompt, choices = str(row.get("prompt", row.get("question"))), row["choices"]
        assert isinstance(choices, list)
        sums = []
        for choice in choices:
            ids = tokenizer(f"{prompt} {choice}", return_tensors="pt").input_ids
            start = tokenizer(prompt.rstrip(), return_tensors="pt").input_ids.shape[1]
            if not prompt:
                ids, start = torch.cat([torch.tensor([[tokenizer.bos_token_id]]), ids], 1), 1
            with torch.inference_mode():
                every = module(input_ids=ids).logits[0].double().log_softmax(-1)
            sums.append(sum(every[i - 1, ids[0, i]].item() for i in range(start, ids.shape[1])))
        answer = choices.index(row["answer"]) if isinstance(row["answer"], str) else row["answer"]
        plainly.append(float(sums.index(max(sums)) == answer))
        each = [a / len(b) for a, b in zip(sums, choices, strict=True)]
        normed.append(float(each.index(max(each)) == answer))
    assert found["accuracy"].per_sample == tuple(plainly)
    assert found["accuracy_norm"].per_sample == tuple(normed)
    assert found["accuracy"].value == sum(plainly) / 14
    assert plainly != normed
    again = scores("choices", opened(sharp), data=str(data), batch=1)
    assert again == found


def test_a_question_that_is_too_long_loses_its_beginning(sharp: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "abcdefgh " * 20, "choices": ["the", "and"], "answer": 0}]
    data = write_rows(tmp_path / "q.jsonl", rows)
    assert scores("choices", opened(sharp), data=str(data))["accuracy"].samples == 1


# ---- kl --------------------------------------------------------------------------------------------------


SHORT = [text for text in TEXTS if len(text) < 60]
"""Texts that fit into one window."""


@pytest.fixture
def short(tmp_path: Path) -> Path:
    (tmp_path / "short.txt").write_text("\n\n".join(SHORT))
    return tmp_path / "short.txt"


def divergence(theirs: Path, ours: Path) -> tuple[list[float], list[float]]:
    """By the definition, in float64."""
    (p_model, tokenizer), (q_model, _) = plain(theirs), plain(ours)
    sums, counts = [], []
    for text in SHORT:
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.inference_mode():
            p = p_model(input_ids=ids).logits[0, :-1].double().softmax(-1)
            q = q_model(input_ids=ids).logits[0, :-1].double().softmax(-1)
        sums.append(float((p * (p / q).log()).sum()))
        counts.append(float(ids.shape[1] - 1))
    return sums, counts


def test_kl_is_that_of_the_definition(sharp: Path, short: Path, tmp_path: Path) -> None:
    other = tiny_model(
        tmp_path / "other", seed=6, change=lambda tensors: {key: 5 * one for key, one in tensors.items()}
    )
    found = scores("kl", opened(sharp), texts=str(short), to=str(other), batch=3)["kl"]
    sums, counts = divergence(other, sharp)
    assert found.value == pytest.approx(sum(sums) / sum(counts), rel=1e-4)
    assert found.weights == tuple(counts)
    assert found.per_sample == pytest.approx(
        [a / b if b else 0.0 for a, b in zip(sums, counts, strict=True)], rel=1e-4
    )
    assert scores("kl", opened(sharp), texts=str(short), to=str(sharp))["kl"].value == 0.0


def test_kl_to_several_parents_is_that_to_each_and_their_mean(
    sharp: Path, texts: Path, tmp_path: Path
) -> None:
    tiny_model(tmp_path / "b", seed=6)
    models = [{"model": str(one), "parameters": {"weight": 0.5}} for one in (sharp, tmp_path / "b")]
    merged = opened({"merge_method": "linear", "models": models})
    found = scores("kl", merged, texts=str(texts))
    first, second = f"kl:{sharp}", f"kl:{tmp_path / 'b'}"
    assert [*found] == ["kl", first, second]
    assert found["kl"].value == pytest.approx((found[first].value + found[second].value) / 2)
    alone = scores("kl", merged, texts=str(texts), to=str(sharp))["kl"]
    assert alone.value == found[first].value


def test_models_without_parents_or_with_other_tokens_have_no_kl(
    sharp: Path, texts: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="its parents are not known") as caught:
        scores("kl", opened(sharp), texts=str(texts))
    assert caught.value.hint == "name a model to compare with: 'to: MODEL'"
    more = tiny_model(tmp_path / "more", tokens=("<new>",))
    with pytest.raises(InputError, match=r"its vocabulary is not that of .*so their next tokens") as caught:
        scores("kl", opened(sharp), texts=str(texts), to=str(more))
    assert caught.value.hint == "`mergecore tokenizer diff` shows how they differ"


# ---- all of them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["perplexity", "kl", "choices", "match", "python"])
def test_a_built_in_evaluator_keeps_the_contract(name: str, texts: Path, code: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"the {one}", "choices": ["a", "the"], "answer": "the"} for one in "abcdefghijk"]
    data = write_rows(tmp_path / "q.jsonl", rows)
    every: dict[str, dict[str, Any]] = {
        "perplexity": {"texts": str(texts)},
        "kl": {"texts": str(texts)},
        "choices": {"data": str(data)},
        "match": {"data": str(data), "max_tokens": 4},
        "python": {"file": str(code), "function": "size"},
    }
    check_evaluator(evaluator(name), params=every[name])


@pytest.mark.parametrize("name", ["perplexity", "choices", "match"])
def test_scores_on_the_way_are_those_of_the_samples_that_are_done(
    name: str, texts: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": f"the {one}", "choices": ["a", "the"], "answer": "the"} for one in "abcdefghijk"]
    data = write_rows(tmp_path / "q.jsonl", rows)
    given = {"texts": str(texts)} if name == "perplexity" else {"data": str(data)}
    given |= {"max_tokens": 2} if name == "match" else {}  # type: ignore[dict-item]
    told: list[EvaluationProgress] = []
    model = opened(tiny_model(tmp_path / "m"))
    made = params(name, batch=2, **given)
    last = {one.name: one for one in evaluator(name).evaluate(model, made, told.append)}
    assert len(told) > 2
    for progress in told:
        for score in progress.scores:
            assert score.per_sample == last[score.name].per_sample[: progress.done]
    assert {one.name: one for one in told[-1].scores} == last


def test_what_is_wrong_with_data_and_models_is_told_at_once(tmp_path: Path) -> None:
    bert = opened(tiny_model(tmp_path / "bert", "bert"))
    with pytest.raises(Problems) as caught:
        scores("choices", bert, data=str(tmp_path / "none.jsonl"))
    assert [one.code for one in caught.value.errors] == ["E270", "E271"]
