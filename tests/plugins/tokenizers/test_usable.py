"""The plan judges whether readers of the output can use its tokenizer and its chat template."""

from __future__ import annotations

import json

import pytest
from tiny_tokenizers import TOKENS
from workshop import Workshop

TEMPLATE = "{# <|no|> #}{% for m in messages %}{{ '<|im_start|>' + m.role }}<tool_call>{{ '<|im_end|>' }}{% endfor %}"


def breaks(shop: Workshop, name: str) -> None:
    """A merge makes a token that the vocabulary lacks, which the library refuses."""
    document = shop.json("tokenizer.json", name)
    document["model"]["merges"].append("b a")
    (shop.folder / name / "tokenizer.json").write_text(json.dumps(document))


@pytest.mark.parametrize("source", ["base", "union", "a", "b"])
def test_a_tokenizer_that_the_library_cannot_load_is_refused(shop: Workshop, source: str) -> None:
    for name in "ab":
        shop.model(name)
        breaks(shop, name)
    text = shop.refusal(shop.config(tokenizer_source=source))
    place = "b" if source == "b" else "a"
    assert f"E240 {place}/tokenizer.json: the 'tokenizers' library cannot load it: " in text
    assert "Hint: correct or replace the file" in text


def test_one_that_is_copied_as_it_is_is_warned_of(shop: Workshop) -> None:
    for name in "ab":
        shop.model(name)
        breaks(shop, name)
    [warning] = shop.plan(shop.config()).warnings
    assert warning.startswith("a/tokenizer.json: the 'tokenizers' library cannot load it: ")


def test_a_template_whose_marks_the_vocabulary_lacks_is_warned_of(shop: Workshop) -> None:
    shop.model("a", added=["<|im_start|>"])
    shop.model("b", added=["<|im_start|>"])
    (shop.folder / "a/chat_template.jinja").write_text(TEMPLATE)
    [warning] = shop.plan(shop.config()).warnings
    assert warning.startswith("the chat template writes '<|im_end|>', which the vocabulary lacks: ")


@pytest.mark.parametrize("source", [None, "base", "union"])
def test_a_template_from_the_config_is_looked_at_too(shop: Workshop, source: str | None) -> None:
    shop.model("a")
    shop.model("b", added=["<|im_start|>", "<|im_end|>"])
    config = shop.config(chat_template="chatml", **({"tokenizer_source": source} if source else {}))
    found = [one for one in shop.plan(config).warnings if one.startswith("the chat template writes")]
    assert len(found) == (0 if source == "union" else 1)


def test_tokens_that_are_added_beside_count(shop: Workshop) -> None:
    start = len(TOKENS["BPE"])
    stated = {str(start + i): {"content": token} for i, token in enumerate(("<|im_start|>", "<|im_end|>"))}
    for name in "ab":
        shop.model(name, rows=start + 2, config={"added_tokens_decoder": stated})
    (shop.folder / "a/chat_template.jinja").write_text(TEMPLATE)
    assert shop.plan(shop.config()).warnings == ()


@pytest.mark.parametrize("written", ["file", "config"])
def test_a_template_over_the_limit_is_refused(shop: Workshop, written: str) -> None:
    text = "{{ 1 }}" + "x" * 1_000_000
    for name in "ab":
        shop.model(name, config={"chat_template": text} if written == "config" else None)
    if written == "file":
        (shop.folder / "a/chat_template.jinja").write_text(text)
    found = shop.refusal(shop.config())
    told = "E308 a: a chat template of 1000007 characters, limit 1000000"
    assert f"{told}. Hint: 'chat_template' in the config gives another one" in found
    assert "E308" in shop.refusal(shop.config(chat_template="auto" if written == "config" else text))
    shop.plan(shop.config(chat_template="chatml"))


def test_a_special_token_that_is_none_is_warned_of(shop: Workshop) -> None:
    """Transformers adds it behind the last id, where there may be no row."""
    for name in "ab":
        shop.model(name)
        stated = {
            "bos_token": "<none>",
            "eos_token": {"content": "<neither>"},
            "unk_token": next(iter(TOKENS["BPE"])),
        }
        (shop.folder / name / "tokenizer_config.json").write_text(json.dumps(stated))
    [warning] = shop.plan(shop.config()).warnings
    assert warning.startswith(
        "the tokenizer names '<none>' as bos_token, '<neither>' as eos_token, which the "
    )


@pytest.mark.parametrize("source", [None, "union"])
def test_the_damaged_tokenizers_of_all_models_are_told(shop: Workshop, source: str | None) -> None:
    for name, text in (("a", None), ("b", "{"), ("c", "[]")):
        shop.model(name)
        if text:
            (shop.folder / name / "tokenizer.json").write_text(text)
    told = shop.refusal(shop.config("abc", **({"tokenizer_source": source} if source else {})))
    assert "E240 b/tokenizer.json: not valid JSON" in told
    assert "E240 c/tokenizer.json: must be a JSON object" in told


def test_a_token_without_text_is_refused(shop: Workshop) -> None:
    for name in "ab":
        shop.model(name)
    told = shop.refusal(
        shop.config(tokenizer={"source": "base", "tokens": {"": {"source": {"kind": "zero"}}}})
    )
    assert "E105" in told
    assert "a token needs a text. Hint: write its text, or leave it out" in told
