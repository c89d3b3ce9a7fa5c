"""The strategy `union`: what tokens of others become, and that the base's text is cut as before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tiny_tokenizers import CORPUS, KINDS, TOKENS
from workshop import Workshop

FOREIGN = {"BPE": ["hatt", "Ġbath", "Z"], "Unigram": ["▁bath", "tha", "Z"], "WordPiece": ["Z", "##Z", "ZZ"]}


def cut(shop: Workshop, name: str) -> list[list[int]]:
    return [shop.tokenizer(name).encode(text).ids for text in CORPUS]


@pytest.mark.parametrize("kind", KINDS)
def test_foreign_ordinary_tokens_have_ids_and_text_is_cut_as_before(shop: Workshop, kind: str) -> None:
    shop.model("a", kind=kind, added=["<a>"])
    shop.model("b", [*TOKENS[kind], *FOREIGN[kind]], ["<b>"], kind=kind)
    config = shop.config(tokenizer_source="union")
    rows = shop.rows(config)
    start = len(TOKENS[kind])
    ids = shop.tokenizer().get_vocab(with_added_tokens=True)
    assert [ids[token] for token in ("<a>", *FOREIGN[kind], "<b>")] == list(range(start, start + 5))
    assert rows[start:] == [2.0 * (start + 1), *(2000.0 * (start + 1 + number) for number in range(4))]
    assert cut(shop, "out") == cut(shop, "a")
    [warning] = shop.plan(config).warnings
    assert warning.startswith(
        f"union of a and b: {start} tokens shared, 1 only in a, 4 only in b; of the latter 3 are ordinary, such as"
    )
    meaning = {
        "WordPiece": "words and parts that a had to cut are now found whole, 3 at most",
    }.get(
        kind,
        "they have ids and rows, but text is cut as by a, which does not use them, except where it lacks a "
        "character: 'Z'",
    )
    assert warning.endswith(meaning)


def test_in_a_whole_alphabet_no_foreign_token_is_used(shop: Workshop) -> None:
    shop.model("a")
    shop.model("b", [*TOKENS["BPE"], "hatt", "tha"])
    [warning] = shop.plan(shop.config(tokenizer_source="union")).warnings
    assert warning.endswith("text is cut as by a, which does not use them")


def test_foreign_pieces_score_less_than_any_way_to_write_them_with_others(shop: Workshop) -> None:
    shop.model("a", kind="Unigram")
    shop.model("b", [*TOKENS["Unigram"], "▁thathathathat"], kind="Unigram")
    shop.merge(shop.config(tokenizer_source="union"))
    text = "thathathathat"
    assert shop.tokenizer().encode(text).ids == shop.tokenizer("a").encode(text).ids


def test_foreign_added_tokens_are_added_with_their_flags(shop: Workshop) -> None:
    shop.model("a", added=["<a>"])
    folder = shop.model("b", added=["<b>"])
    document = shop.json("tokenizer.json", "b")
    document["added_tokens"][0] |= {"lstrip": True, "normalized": True}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    shop.merge(shop.config(tokenizer_source="union"))
    assert shop.json("tokenizer.json")["added_tokens"][1] == {
        "id": len(TOKENS["BPE"]) + 1,
        "content": "<b>",
        "single_word": False,
        "lstrip": True,
        "rstrip": False,
        "normalized": True,
        "special": True,
    }


def test_the_first_flags_of_an_added_token_count_and_others_are_warned_of(shop: Workshop) -> None:
    shop.model("a")
    shop.model("b", added=["<n>"])
    folder = shop.model("c", added=["<n>"])
    document = shop.json("tokenizer.json", "c")
    document["added_tokens"][0]["special"] = False
    (folder / "tokenizer.json").write_text(json.dumps(document))
    config = shop.config("abc", tokenizer_source="union")
    shop.merge(config)
    assert shop.json("tokenizer.json")["added_tokens"][0]["special"] is True
    assert shop.plan(config).warnings == (
        "the added token '<n>' has other flags in c than in b, whose are kept",
    )


def test_an_ordinary_token_of_the_base_that_is_special_elsewhere_becomes_special(shop: Workshop) -> None:
    tokens = [*TOKENS["BPE"], "<", ">", "<n>"]
    shop.model("a", tokens)
    shop.model("b", tokens)
    document = shop.json("tokenizer.json", "b")
    document["added_tokens"] = [{"id": len(tokens) - 1, "content": "<n>", "special": True}]
    (shop.folder / "b/tokenizer.json").write_text(json.dumps(document))
    assert shop.tokenizer("a").encode("<n>").ids != [len(tokens) - 1]
    shop.merge(shop.config(tokenizer_source="union"))
    assert shop.tokenizer().encode("hat<n>").ids == [tokens.index("hat"), len(tokens) - 1]
    assert shop.tokenizer().get_vocab() == shop.tokenizer("a").get_vocab()


def test_ids_follow_the_order_of_the_config(shop: Workshop) -> None:
    shop.model("a")
    shop.model("b", [*TOKENS["BPE"], "Z"], ["<b>", "<s>"])
    shop.model("c", [*TOKENS["BPE"], "Y"], ["<s>", "<c>"])
    shop.merge(shop.config("abc", tokenizer_source="union"))
    new = sorted(shop.tokenizer().get_vocab().items(), key=lambda one: one[1])[len(TOKENS["BPE"]) :]
    assert [token for token, _ in new] == ["Z", "Y", "<b>", "<s>", "<c>"]
    shop.merge(shop.config("acb", tokenizer_source="union"))
    new = sorted(shop.tokenizer().get_vocab().items(), key=lambda one: one[1])[len(TOKENS["BPE"]) :]
    assert [token for token, _ in new] == ["Y", "Z", "<s>", "<c>", "<b>"]


def test_as_mergekit_does_it_foreign_tokens_are_found_anywhere(shop: Workshop) -> None:
    shop.model("a")
    shop.model("b", [*TOKENS["BPE"], "tha"])
    config = shop.config(tokenizer={"source": "union", "compat": "mergekit"})
    rows = shop.rows(config)
    assert rows[-1] == 2000.0 * (len(TOKENS["BPE"]) + 1)
    assert shop.tokenizer().encode("thats").tokens[:1] == ["tha"]
    assert shop.tokenizer("a").encode("thats").tokens[:1] == ["th"]
    assert shop.json("tokenizer.json")["added_tokens"][0] | {"id": 0} == {
        "id": 0,
        "content": "tha",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": True,
        "special": False,
    }
    assert "found anywhere in a text, also within words" in shop.plan(config).warnings[0]


def test_every_model_needs_a_tokenizer(shop: Workshop) -> None:
    shop.model("a")
    shop.model("b", tokenizer=False)
    assert "E240 b: it has no tokenizer, so it is not known which of its rows" in shop.refusal(
        shop.config(tokenizer_source="union")
    )
    config = shop.config(tokenizer={"source": "union", "compat": "mergekit"})
    assert shop.rows(config) == [1001.0 * (number + 1) for number in range(len(TOKENS["BPE"]))]


# ---- files -------------------------------------------------------------------------------------------------


def _config(**more: Any) -> dict[str, Any]:
    return {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "is", **more}


@pytest.mark.parametrize("new", [True, False])
def test_tokenizer_config_changes_only_where_it_states_added_tokens(shop: Workshop, new: bool) -> None:
    flags = {"content": "<a>", "lstrip": True}
    stated = {str(len(TOKENS["BPE"])): flags}
    config = _config(added_tokens_decoder=stated) if new else _config()
    shop.model("a", added=["<a>"], config=config)
    shop.model("b", added=["<a>", "<b>"], config=_config())
    out = shop.merge(shop.config(tokenizer_source="union"))
    before = (shop.folder / "a/tokenizer_config.json").read_bytes()
    assert ((out / "tokenizer_config.json").read_bytes() == before) != new
    if new:
        found = shop.json("tokenizer_config.json")
        assert found.pop("added_tokens_decoder") == {
            **stated,
            str(len(TOKENS["BPE"]) + 1): {
                "content": "<b>",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            },
        }
        assert found == _config()


def test_what_transformers_5_wrote_becomes_what_transformers_4_reads_too(shop: Workshop) -> None:
    config = {
        "tokenizer_class": "TokenizersBackend",
        "backend": "tokenizers",
        "is_local": True,
        "extra_special_tokens": ["<a>"],
        "eos_token": "<a>",
    }
    shop.model("a", added=["<a>"], config=config)
    shop.model("b", added=["<b>"])
    shop.merge(shop.config(tokenizer_source="union"))
    assert shop.json("tokenizer_config.json") == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<a>",
        "additional_special_tokens": ["<a>"],
        "model_input_names": ["input_ids", "attention_mask"],
    }


def test_files_that_state_the_vocabulary_again_are_left_out_and_added_tokens_follow(shop: Workshop) -> None:
    folder = shop.model("a", added=["<a>"])
    for name, text in (("vocab.json", "{}"), ("merges.txt", ""), ("added_tokens.json", '{"<a>": 18}')):
        (folder / name).write_text(text)
    shop.model("b", added=["<b>"])
    out = shop.merge(shop.config(tokenizer_source="union"))
    assert not (out / "vocab.json").exists()
    assert not (out / "merges.txt").exists()
    assert shop.json("added_tokens.json") == {"<a>": 18, "<b>": 19}


def test_a_unigram_tokenizer_with_a_gap_takes_no_further_piece(shop: Workshop) -> None:
    shop.model("a", kind="Unigram", rows=30)
    document = shop.json("tokenizer.json", "a")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document["added_tokens"] = [{"id": 20, "content": "<a>", **flags}]
    (shop.folder / "a/tokenizer.json").write_text(json.dumps(document))
    shop.model("b", [*TOKENS["Unigram"], "Z"], kind="Unigram")
    size = len(TOKENS["Unigram"])
    text = shop.refusal(shop.config(tokenizer_source="union"))
    assert f"E240 a/tokenizer.json: token '<a>' cannot have the id 20: the id {size} has no token" in text
    assert "a tokenizer of kind Unigram has no gaps between its ids" in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("foreign", [False, True], ids=["added", "ordinary"])
def test_transformers_reads_the_output(shop: Workshop, kind: str, foreign: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for name in "ab":
        tokens = [*TOKENS[kind], *(FOREIGN[kind] if foreign and name == "b" else [])]
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": f"<{name}>"}
        shop.model(name, tokens, [f"<{name}>"], kind=kind, config=config)
    out = shop.merge(shop.config(tokenizer_source="union"))
    made, before = AutoTokenizer.from_pretrained(out), AutoTokenizer.from_pretrained(shop.folder / "a")
    assert made.get_vocab() == shop.tokenizer().get_vocab(with_added_tokens=True)
    for text in CORPUS:
        assert made(text)["input_ids"] == before(text)["input_ids"]
        assert made.decode(made(text)["input_ids"]) == text
    assert made.encode("<b>", add_special_tokens=False) == [made.convert_tokens_to_ids("<b>")]
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.get_parameter("model.embed_tokens.weight").shape[0] == len(made) == model.config.vocab_size
