"""Without a tokenizer section: what passes, what is warned of, what is refused."""

from __future__ import annotations

import pytest
import torch
from tiny import write_checkpoint
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
    assert "E305 a/tokenizer_config.json: 'auto_map' names a tokenizer class" in shop.refusal(shop.config())


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
    assert shop.rows(shop.config()) == [1001.0, 2002.0, 2 * 3.0]  # the row of '<user>' is no row of '<pad>'
    [warning] = shop.plan(shop.config()).warnings
    assert warning == (
        "the vocabularies of a and b differ in added or special tokens: only a has '<pad>'; "
        "only b has '<user>', '<bot>'; id 2 is '<pad>' and '<user>': rows follow the tokens, not the ids; "
        "the output has those of a ('tokenizer: {source: union}' keeps both)"
    )


def test_added_tokens_that_the_donor_alone_has_keep_its_rows(shop: Workshop) -> None:
    shop.model("a", XY, ["<pad>"])
    shop.model("b", XY)
    assert shop.rows(shop.config()) == [1001.0, 2002.0, 2 * 3.0]


def test_rows_of_added_tokens_with_other_ids_follow_their_names(shop: Workshop) -> None:
    shop.model("a", XY, ["<1>", "<2>", "<3>"], rows=6)
    shop.model("b", XY, ["<2>", "<1>", "<4>"], rows=6)
    # <1> is row 3 of a and 4 of b, <2> is 4 and 3, <3> is of a alone (twice, as b lacks it), the last is padding
    assert shop.rows(shop.config()) == [1001.0, 2002.0, 3 + 4000.0, 4 + 3000.0, 2 * 5.0, 6006.0]
    [warning] = shop.plan(shop.config()).warnings
    assert "'<1>', '<2>' have other ids; id 2 is '<1>' and '<2>'; 3 is '<2>' and '<1>'; 4 is" in warning
    assert "rows follow the tokens, not the ids" in warning


def test_padding_of_one_is_no_row_of_a_token_of_the_other(shop: Workshop) -> None:
    shop.model("a", XY, ["<1>"], rows=4)
    shop.model("b", XY, rows=4)
    assert shop.rows(shop.config()) == [1001.0, 2002.0, 2 * 3.0, 4004.0]


def test_rows_follow_the_tokens_also_where_the_donor_has_no_tokenizer(shop: Workshop) -> None:
    shop.model("a", XY, tokenizer=False, rows=4)
    shop.model("b", XY, ["<1>", "<2>"])
    shop.model("c", XY, ["<2>", "<1>"])
    config = shop.config("abc")
    assert shop.rows(config) == [1001001.0, 2002002.0, 3 + 3000 + 4000000.0, 4 + 4000 + 3000000.0]


def test_moved_tokens_without_a_tensor_that_follows_are_refused(shop: Workshop) -> None:
    for name, added in (("a", ["<1>", "<2>"]), ("b", ["<2>", "<1>"])):
        folder = shop.model(name, XY, added)
        write_checkpoint(folder, {"what.is.this": torch.ones(4, 2)}, {"model_type": "unheard-of"})
    text = shop.refusal(shop.config())
    assert "E240 no tensor is known to have a row for each token" in text
    assert "Hint: give the models one tokenizer, or install a plugin" in text


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
