"""A union cuts text that the base knows as the base does; the `tokenizers` library is asked for both."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import registry
from tiny_tokenizers import TOKENS, tokenizer_json, write_model
from tokenizers import Tokenizer
from workshop import Workshop

from mergecore import plan
from mergecore.plugins.registry import Registry

BYTES = [f"<0x{number:02X}>" for number in range(256)]
WORDS = st.lists(st.text(alphabet="abehinst", min_size=2, max_size=5), max_size=5)


@pytest.fixture(scope="module")
def plugins() -> Registry:
    return registry()


def document_of(kind: str, words: Sequence[str], **model: Any) -> dict[str, Any]:
    """A tokenizer that has the words beside the tokens of its kind; `model` changes its model."""
    if kind == "WordLevel":
        tokens = list(dict.fromkeys(["<unk>", "the", "hat", *words]))
        vocabulary = {token: number for number, token in enumerate(tokens)}
        level = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
        return tokenizer_json("WordPiece", tokens, ["<a>"]) | {"model": level}
    ordinary = [*TOKENS[kind], *(BYTES if model.get("byte_fallback") else []), *words]
    document: dict[str, Any] = tokenizer_json(kind, list(dict.fromkeys(ordinary)), ["<a>"])
    document["model"] |= model
    if model.get("byte_fallback") and kind == "BPE":  # as converted from sentencepiece
        spaces = {"type": "Metaspace", "replacement": "Ġ", "prepend_scheme": "never", "split": True}
        document |= {"pre_tokenizer": spaces, "decoder": None}
    return document


def united(plugins: Registry, base: dict[str, Any], other: dict[str, Any]) -> tuple[Tokenizer, list[str]]:
    """The tokenizer of a union, and what is said of how it cuts text."""
    with tempfile.TemporaryDirectory() as place:
        for name, document in (("a", base), ("b", other)):
            rows = len(document["model"]["vocab"]) + len(document["added_tokens"])
            write_model(Path(place) / name, document, rows)
        config = {
            "merge_method": "linear",
            "base_model": f"{place}/a",
            "models": [{"model": f"{place}/{name}", "parameters": {"weight": 1}} for name in "ab"],
            "tokenizer_source": "union",
        }
        made = plan(config, registry=plugins)
        content = made.side_files["tokenizer.json"]
        data = content if isinstance(content, bytes) else content.read_bytes()
    return Tokenizer.from_str(data.decode()), [one for one in made.warnings if one.startswith("union of")]


MODELS = [
    ("BPE", {}),
    ("BPE", {"ignore_merges": True}),
    ("BPE", {"byte_fallback": True}),
    ("BPE", {"byte_fallback": True, "ignore_merges": True}),
    ("Unigram", {}),
    ("Unigram", {"byte_fallback": True}),
    ("WordPiece", {}),
    ("WordLevel", {}),
]


@pytest.mark.parametrize(("kind", "model"), MODELS, ids=str)
@given(own=WORDS, foreign=WORDS, text=st.text(alphabet="abehinst  é", max_size=20), letter=st.booleans())
def test_text_that_the_base_knows_is_cut_as_by_the_base_or_it_is_said(
    plugins: Registry,
    kind: str,
    model: dict[str, Any],
    own: list[str],
    foreign: list[str],
    text: str,
    letter: bool,
) -> None:
    foreign = [*foreign, *(["é", "aé"] if letter else [])]
    base = document_of(kind, own, **model)
    made, told = united(plugins, base, document_of(kind, foreign, **model))
    before = Tokenizer.from_str(json.dumps(base))
    changed = set()
    for one in (text, *foreign, " ".join(foreign)):
        first = before.encode(one)
        knows = model.get("byte_fallback") or not ({"<unk>", "[UNK]"} & set(first.tokens) or "é" in one)
        if knows and made.encode(one).ids != first.ids:
            changed.add(one)
    if kind == "WordLevel" or not changed:
        assert not changed
    elif kind == "WordPiece":
        assert "words and parts that" in told[0]
    elif all("é" in one for one in changed):
        assert "where it writes a character as bytes" in told[0]
    else:
        assert "are whole words" in told[0]
        assert model["ignore_merges"]
        assert any(f"such as '{word}'" in told[0] for word in own)  # no merge leads to it


def test_a_base_whose_words_all_come_from_merges_takes_no_foreign_word_whole(shop: Workshop) -> None:
    folder = shop.model("a")
    document = shop.json("tokenizer.json", "a")
    document["model"]["ignore_merges"] = True
    (folder / "tokenizer.json").write_text(json.dumps(document))
    shop.model("b", [*TOKENS["BPE"], "hatt", "Ġbath"])
    config = shop.config(tokenizer_source="union")
    shop.merge(config)
    for text in ("hatt", "a bath", "the hat"):
        assert shop.tokenizer().encode(text).ids == shop.tokenizer("a").encode(text).ids
    [warning] = shop.plan(config).warnings
    assert warning.endswith("text is cut as by a, which does not use them")


def test_where_words_need_no_merges_the_foreign_ones_that_are_taken_whole_are_counted(shop: Workshop) -> None:
    folder = shop.model("a", [*TOKENS["BPE"], "best"])  # no merge leads to it
    document = shop.json("tokenizer.json", "a")
    document["model"]["ignore_merges"] = True
    (folder / "tokenizer.json").write_text(json.dumps(document))
    shop.model("b", [*TOKENS["BPE"], "hatt", "Ġbath", "hatĠ"])
    config = shop.config(tokenizer_source="union")
    shop.merge(config)
    vocabulary = shop.tokenizer().get_vocab()
    assert shop.tokenizer().encode("best").ids == [vocabulary["best"]]
    assert shop.tokenizer().encode("a bath").tokens == ["a", "Ġbath"]
    [warning] = shop.plan(config).warnings
    assert warning.endswith(
        "text is cut as by a, which does not use them, except where 2 of them are whole words: 'hatt', 'Ġbath' "
        "('ignore_merges' stays, as no merge leads to 1 words of a, such as 'best')"
    )


def test_a_foreign_piece_longer_than_any_of_the_base_scores_less_than_its_letters(shop: Workshop) -> None:
    long = "that" * 12
    folder = shop.model("a", kind="Unigram")
    document = shop.json("tokenizer.json", "a")
    document["model"]["vocab"] = [[token, -90.0] for token in TOKENS["Unigram"]]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    shop.model("b", [*TOKENS["Unigram"], long], kind="Unigram")
    shop.merge(shop.config(tokenizer_source="union"))
    assert shop.tokenizer().encode(long).ids == shop.tokenizer("a").encode(long).ids
