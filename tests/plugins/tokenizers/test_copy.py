"""Without a tokenizer section: what passes, what is warned of, what is refused."""

from __future__ import annotations

import pytest
from workshop import Workshop

XY = ["x", "y"]
CHOICES = (
    "Hint: say which vocabulary the output has: 'tokenizer: {source: base}' keeps that of the base, "
    "'{source: union}' adds the tokens of the others to it, '{source: <model>}' takes that of a model"
)


def test_tokenizer_files_are_copied_byte_for_byte(shop: Workshop) -> None:
    for name in "ab":
        folder = shop.model(name, XY)
        for file in ("tokenizer.model", "special_tokens_map.json", "merges.txt"):
            (folder / file).write_bytes(f"{name} {file} \n".encode() if name == "a" else b"")
    out = shop.merge(shop.config())
    for file in (
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "special_tokens_map.json",
        "merges.txt",
    ):
        assert (out / file).read_bytes() == (shop.folder / "a" / file).read_bytes()


def test_files_of_the_same_bytes_are_not_parsed(shop: Workshop) -> None:
    for name in "ab":
        (shop.model(name, XY) / "tokenizer.json").write_bytes(b"{")
    assert shop.rows(shop.config()) == [1001.0, 2002.0]


def test_a_tokenizer_of_its_own_class_is_copied_unread(shop: Workshop) -> None:
    for name in "ab":
        shop.model(name, XY, config={"auto_map": {"AutoTokenizer": ["x.Tokenizer", None]}})
    assert shop.rows(shop.config()) == [1001.0, 2002.0]
    shop.model("b", XY[::-1], config={"auto_map": {"AutoTokenizer": ["x.Tokenizer", None]}})
    assert "E305 a/tokenizer_config.json: auto_map names a tokenizer class" in shop.refusal(shop.config())


def test_padding_is_kept_exactly(shop: Workshop) -> None:
    for name in "ab":
        shop.model(name, XY, rows=4)
    assert shop.rows(shop.config()) == [1001.0, 2002.0, 3003.0, 4004.0]
    assert shop.plan(shop.config()).warnings == ()


@pytest.mark.parametrize(("rows", "last"), [(2, 2 * 3.0), (5, 3003.0)])
def test_of_models_with_other_padding_the_donor_says_how_much(shop: Workshop, rows: int, last: float) -> None:
    shop.model("a", XY, rows=3)
    shop.model("b", XY, rows=rows)
    assert shop.rows(shop.config()) == [1001.0, 2002.0, last]


def test_other_added_tokens_pass_with_a_warning_that_lists_them(shop: Workshop) -> None:
    shop.model("a", XY, ["<pad>"])
    shop.model("b", XY, ["<user>", "<bot>"])
    assert shop.rows(shop.config()) == [1001.0, 2002.0, 3003.0]  # by position
    [warning] = shop.plan(shop.config()).warnings
    assert warning == (
        "the vocabularies of a and b differ in added or special tokens: only a has '<pad>'; "
        "only b has '<user>', '<bot>'; rows are merged by position, though id 2 is '<pad>' and '<user>'; "
        "the output has those of a ('tokenizer: {source: union}' keeps both)"
    )


def test_added_tokens_that_the_donor_alone_has_keep_its_rows(shop: Workshop) -> None:
    shop.model("a", XY, ["<pad>"])
    shop.model("b", XY)
    assert shop.rows(shop.config()) == [1001.0, 2002.0, 2 * 3.0]


def test_an_added_token_may_have_another_id(shop: Workshop) -> None:
    shop.model("a", XY, ["<1>", "<2>"])
    shop.model("b", XY, ["<2>", "<1>"])
    [warning] = shop.plan(shop.config()).warnings
    assert (
        "'<1>', '<2>' have other ids; rows are merged by position, though id 2 is '<1>' and '<2>'; 3 is"
        in warning
    )


def test_other_ordinary_tokens_are_refused_with_counts_and_choices(shop: Workshop) -> None:
    shop.model("a", ["x", "y", "z", "w"], ["<a>"])
    shop.model("b", ["x", "z", "y", "v"], ["<a>"])
    assert shop.refusal(shop.config()) == (
        "E240 the vocabularies of a and b differ: 2 tokens shared, 2 shared with other ids, 1 only in a, "
        f"1 only in b (such as 'y', 'z', 'w' and 1 more). {CHOICES}"
    )


def test_shapes_are_not_told_beside_vocabularies(shop: Workshop) -> None:
    shop.model("a", XY)
    shop.model("b", ["x"])
    assert shop.refusal(shop.config()).startswith(
        "E240 the vocabularies of a and b differ: 1 token shared, 1 only in a, 0"
    )


def test_a_model_without_tokenizer_passes_when_it_has_as_many_rows(shop: Workshop) -> None:
    shop.model("a", XY)
    shop.model("b", XY, tokenizer=False)
    assert shop.rows(shop.config()) == [1001.0, 2002.0]
    shop.model("b", XY, tokenizer=False, rows=3)
    assert "E230 shapes differ for 'model.embed_tokens.weight': a [2, 4], b [3, 4]" in shop.refusal(
        shop.config()
    )


def test_a_donor_without_tokenizer_gives_none(shop: Workshop) -> None:
    shop.model("a", XY, tokenizer=False)
    shop.model("b", XY)
    assert not (shop.merge(shop.config()) / "tokenizer.json").exists()
    assert shop.plan(shop.config()).warnings == (
        "a has no tokenizer, so the output has none; b would have one",
    )
