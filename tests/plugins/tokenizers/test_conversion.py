"""A base without tokenizer.json gets one when tokens are added to it."""

from __future__ import annotations

import json

import pytest
from tiny_tokenizers import MERGES, TOKENS, tokenizer_json
from workshop import Workshop

from mergecore_plugins.tokenizers import loading

ALPHABET = [*(chr(code) for code in range(33, 127) if chr(code) not in TOKENS["BPE"])]
ORDINARY = [*TOKENS["BPE"], *ALPHABET, "<|endoftext|>"]


def old_files(shop: Workshop, name: str, tokens: list[str]) -> None:
    """A model with vocab.json and merges.txt, as GPT-2 has them."""
    folder = shop.model(name, tokens, config={"tokenizer_class": "GPT2Tokenizer"})
    (folder / "tokenizer.json").unlink()
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")


def test_vocabulary_and_merges_become_a_tokenizer_json(shop: Workshop) -> None:
    old_files(shop, "a", ORDINARY)
    shop.model("b", [*ORDINARY, "hatt"], ["<b>"])
    rows = shop.rows(shop.config(tokenizer_source="union"))
    assert rows[-2:] == [2000.0 * (len(ORDINARY) + 1), 2000.0 * (len(ORDINARY) + 2)]
    assert shop.tokenizer().encode("the hat hatt<b>").tokens == ["the", "Ġhat", "Ġhat", "t", "<b>"]
    assert not (shop.folder / "out/merges.txt").exists()


def test_a_conversion_that_changes_ids_is_refused(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    old_files(shop, "a", ORDINARY)
    shop.model("b", [*ORDINARY, "hatt"])
    other = json.dumps(tokenizer_json("BPE", [*reversed(ORDINARY)]))
    monkeypatch.setattr(loading, "_made_by_transformers", lambda model: other)
    found = shop.refusal(shop.config(tokenizer_source="union"))
    assert (
        "E240 a/vocab.json: the tokenizer.json that transformers makes of it says otherwise of token '"
        in found
    )
    assert "Hint: put a tokenizer.json beside it" in found


def test_what_transformers_cannot_convert_is_refused_with_its_reason(shop: Workshop) -> None:
    old_files(shop, "a", ORDINARY)
    (shop.folder / "a/merges.txt").write_text("#version: 0.2\nZZ QQ\n")
    shop.model("b", [*ORDINARY, "hatt"])
    text = shop.refusal(shop.config(tokenizer_source="union"))
    assert (
        "E240 a/vocab.json: tokens cannot be added or removed, because transformers makes no tokenizer.json"
        in text
    )
    assert "Hint: put a tokenizer.json beside it; models of sentencepiece need 'pip install" in text
