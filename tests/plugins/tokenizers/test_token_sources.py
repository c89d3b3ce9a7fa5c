"""Where rows come from that a model lacks: `tokens` of the config with every source, and the rules without one.

Row i of model a is i + 1, of b 1000 times that, of c a million times; merged rows are sums, so each tells
which rows went into it.  A model that lacks a token gets the common row, so a lone row counts once per model.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tiny import read_tensors, write_checkpoint
from workshop import Workshop

from mergecore.errors import MergecoreError
from mergecore_plugins.tokenizers.tokenizer_json import PLAIN

XY = ["x", "y"]
TWO = [1001.0, 2002.0]
"""The rows of x and y where a and b are summed."""


@pytest.fixture(autouse=True)
def _models(shop: Workshop) -> None:
    """Models a and b with the tokens x and y."""
    shop.model("a", XY)
    shop.model("b", XY)


def tokens(source: Any = None, token: str = "<n>", **more: Any) -> dict[str, Any]:  # noqa: S107 - no password
    """A tokenizer section that lists one token."""
    rule = {} if source is None else {"source": source}
    return {"tokenizer": {"source": "base", "tokens": {token: {**rule, **more}}}}


SOURCES = {
    "zero": ({"kind": "zero"}, 0.0),
    "token": ({"kind": "model_token", "model": "b", "token": "y"}, 2 * 2000.0),
    "id": ({"kind": "model_token", "model": "b", "token_id": 0}, 2 * 1000.0),
    "none": (None, 0.0),
}


@pytest.mark.parametrize("source", ["base", "union", "a", "b"])
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("force", [False, True])
def test_a_new_token_begins_as_it_is_told(shop: Workshop, source: str, kind: str, force: bool) -> None:
    rule, row = SOURCES[kind]
    config = shop.config(**tokens(rule, force=force))
    config["tokenizer"]["source"] = source
    assert shop.rows(config) == [*TWO, row]
    assert shop.tokenizer().encode("x<n>y").ids == [0, 2, 1]
    assert shop.tokenizer().get_vocab() == {"x": 0, "y": 1, "<n>": 2}


def test_a_new_token_in_no_model_is_warned_of_unless_its_source_is_zero(shop: Workshop) -> None:
    told = "no model has a row for '<n>': the embeddings are zero unless 'tokens' names a source"
    assert told in shop.plan(shop.config(**tokens())).warnings
    assert told not in shop.plan(shop.config(**tokens({"kind": "zero"}))).warnings


@pytest.mark.parametrize("kind", SOURCES)
def test_a_token_that_every_model_has_keeps_its_rows_unless_forced(shop: Workshop, kind: str) -> None:
    assert shop.rows(shop.config(**tokens(SOURCES[kind][0], token="y"))) == TWO  # noqa: S106


@pytest.mark.parametrize(
    ("kind", "row"), [("zero", 0.0), ("token", 4000.0), ("id", 2000.0), ("none", 2 * 2.0)]
)
def test_a_forced_token_has_one_row_in_every_model(shop: Workshop, kind: str, row: float) -> None:
    config = shop.config(**tokens(SOURCES[kind][0], token="y", force=True))  # noqa: S106
    assert shop.rows(config) == [1001.0, row]


def test_16_a_forced_token_is_exactly_that_of_its_source_under_any_weights(shop: Workshop) -> None:
    config = shop.config(**tokens("b", token="y", force=True), parameters={"normalize": True})  # noqa: S106
    config["models"][0]["parameters"]["weight"] = 0.3
    assert shop.rows(config)[1] == pytest.approx(2000.0, rel=1e-6)


def test_a_token_may_come_from_a_model_that_is_not_merged(shop: Workshop) -> None:
    shop.model("c", ["z", *XY])
    assert shop.rows(shop.config(**tokens("c", token="y", force=True))) == [1001.0, 6e6]  # noqa: S106
    made = shop.plan(shop.config(**tokens({"kind": "model_token", "model": "c", "token_id": 0})))
    assert [model.name for model in made.models] == ["a", "b", "c"]
    assert [one.reason for one in made.dropped if one.model == 2] == [
        "the model gives the embeddings of single tokens only"
    ]


def test_a_token_may_come_from_an_id_without_a_token(shop: Workshop) -> None:
    shop.model("b", XY, rows=5)
    assert shop.rows(shop.config(**tokens({"kind": "model_token", "model": "b", "token_id": 4}))) == [
        *TWO,
        10000.0,
    ]


def test_a_token_may_come_by_id_from_a_model_without_tokenizer(shop: Workshop) -> None:
    shop.model("c", XY, tokenizer=False)
    config = shop.config(**tokens({"kind": "model_token", "model": "c", "token_id": 1}))
    assert shop.rows(config) == [*TWO, 4e6]
    text = shop.refusal(shop.config(**tokens({"kind": "model_token", "model": "c", "token": "x"})))
    assert "the embedding of '<n>' should come from c, which has no tokenizer" in text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "b",
            r"E105 .*the embedding of '<n>' should come from b, which has no token '<n>'; did you mean '<m>'",
        ),
        (
            {"kind": "model_token", "model": "b", "token": "q"},
            "from b, which has no token 'q'. Hint: name one it has: {kind: model_token",
        ),
        (
            {"kind": "model_token", "model": "b", "token_id": 9},
            "E240 token '<n>' would be taken from row 9 of b, where '.*' has 3 rows.*: name a token that the model has",
        ),
        (
            {"kind": "model_token", "model": "b", "token_id": -1},
            "E105 .*token_id is -1; ids are counted from 0",
        ),
    ],
)
def test_a_source_without_that_token_is_refused(shop: Workshop, source: Any, text: str) -> None:
    shop.model("b", XY, ["<m>"])
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(shop.refusal(shop.config(**tokens(source))))


def test_a_source_of_another_width_is_refused(shop: Workshop) -> None:
    embeddings = {"model.embed_tokens.weight": torch.ones(3, 5), "model.norm.weight": torch.ones(5)}
    write_checkpoint(shop.folder / "c", embeddings, {"model_type": "llama"})
    text = shop.refusal(shop.config(**tokens({"kind": "model_token", "model": "c", "token_id": 1})))
    assert (
        "E230 token '<n>' is taken from c, where 'model.embed_tokens.weight' is [3, 5] and not [2, 4]" in text
    )
    assert "E240 token '<n>' is taken from c, which has no tensor 'lm_head.weight'" in text


def test_the_head_of_an_untied_model_takes_from_the_head_of_a_tied_one(shop: Workshop) -> None:
    shop.model("c", XY, tied=True)
    out = shop.merge(shop.config(**tokens({"kind": "model_token", "model": "c", "token": "y"})))
    tensors = read_tensors(out)
    assert tensors["model.embed_tokens.weight"][:, 0].tolist() == [*TWO, 4e6]
    assert tensors["lm_head.weight"][:, 0].tolist() == [-1001.0, -2002.0, 4e6]  # its embeddings are its head


# ---- without a source --------------------------------------------------------------------------------------


def test_what_the_base_lacks_is_the_mean_of_the_others(shop: Workshop) -> None:
    shop.model("b", XY, ["<n>", "<b>"])
    shop.model("c", XY, ["<n>"])
    rows = shop.rows(shop.config("abc", tokenizer_source="union"))
    # <n>: a gets the mean of 3000 and 3000000; <b>: a and c get the row of b
    assert rows == [1001001.0, 2002002.0, 1501500.0 + 3003000.0, 3 * 4000.0]


def test_what_only_the_base_has_all_others_get(shop: Workshop) -> None:
    shop.model("a", XY, ["<n>"])
    shop.model("c", XY, ["<n>"])
    rows = shop.rows(shop.config("abc", tokenizer_source="union"))
    assert rows[2] == 3.0 + 3.0 + 3000000.0  # b gets that of the base, not a mean


def test_without_a_base_there_is_only_the_mean(shop: Workshop) -> None:
    shop.model("a", XY, ["<n>"])
    shop.model("c", XY, ["<n>"])
    rows = shop.rows(shop.config("abc", base=None, tokenizer_source="union"))
    assert rows[2] == 3.0 + 1500001.5 + 3000000.0


def test_a_base_that_is_not_merged_gives_the_vocabulary_and_no_rows(shop: Workshop) -> None:
    shop.model("a", XY, ["<n>"])
    shop.model("c", XY, ["<n>"])
    assert shop.rows(shop.config("bc", tokenizer_source="base")) == [1001000.0, 2002000.0, 2 * 3e6]


def test_differences_to_a_base_are_zero_for_tokens_that_only_it_has(shop: Workshop) -> None:
    shop.model("a", XY, ["<n>"])
    config = shop.config("b", merge_method="task_arithmetic", tokenizer_source="base", parameters={})
    assert shop.rows(config) == [1000.0, 2000.0, 3.0]


def test_a_slice_has_the_rows_of_its_own_models(shop: Workshop) -> None:
    shop.model("b", XY[::-1], ["<n>"])
    config: dict[str, Any] = {
        "merge_method": "passthrough",
        "base_model": "a",
        "slices": [
            {"sources": [{"model": "a", "layer_range": [0, 1]}]},
            {"sources": [{"model": "b", "layer_range": [0, 1]}]},
        ],
        "tokenizer_source": "union",
    }
    tensors = read_tensors(shop.merge(config))
    # embeddings come from the first slice and know no <n>; the head comes from the last one, reordered
    assert tensors["model.embed_tokens.weight"][:, 0].tolist() == [1.0, 2.0, 0.0]
    assert tensors["lm_head.weight"][:, 0].tolist() == [-2000.0, -1000.0, -3000.0]


# ---- sizes -------------------------------------------------------------------------------------------------


def test_14_two_more_tokens_are_two_more_rows(shop: Workshop) -> None:
    many = [f"t{number}" for number in range(64)]
    shop.model("a", many)
    shop.model("b", many, ["<n>", "<m>"])
    config = shop.config(tokenizer_source="union", parameters={"normalize": True})
    rows = shop.rows(config)
    assert len(rows) == 66
    assert rows[64:] == [65000.0, 66000.0]
    ids = shop.tokenizer().get_vocab()
    assert {token: ids[token] for token in many} == shop.tokenizer("a").get_vocab()


def test_15_rows_are_padded_with_the_mean(shop: Workshop) -> None:
    many = [f"t{number}" for number in range(66)]
    shop.model("a", many)
    shop.model("b", many)
    config = shop.config(tokenizer={"source": "base", "pad_to_multiple_of": 16})
    rows = shop.rows(config)
    assert len(rows) == 80
    assert rows[66:] == [67 / 2 * 1001] * 14  # the mean of 1 to 66 is 33.5
    assert shop.tokenizer().get_vocab_size() == 66


def test_17_a_union_with_a_new_token_has_one_row_more(shop: Workshop) -> None:
    many = [f"t{number}" for number in range(8)]
    shop.model("a", many)
    shop.model("b", many)
    source = {"kind": "model_token", "model": "b", "token_id": 5}
    rows = shop.rows(shop.config(tokenizer={"source": "union", "tokens": {"<n>": {"source": source}}}))
    assert rows == [*(1001.0 * number for number in range(1, 9)), 2 * 6000.0]


def test_18_padding_is_left_out_with_a_warning_that_says_how_to_keep_it(shop: Workshop) -> None:
    many = [f"t{number}" for number in range(64)]
    for name in "ab":
        shop.model(name, many, rows=128)
    config = shop.config(tokenizer_source="base")
    assert shop.rows(config) == [1001.0 * number for number in range(1, 65)]
    [warning] = shop.plan(config).warnings
    assert warning.startswith(
        "the output has 64 rows for tokens, a has 128: rows without a token are left out"
    )
    assert "'pad_to_multiple_of' keeps some; without 'tokenizer' all are kept" in warning
    assert len(shop.plan(shop.config()).steps[0].shape) == 2
    assert shop.plan(shop.config()).steps[0].shape[0] == 128


def test_padding_counts_new_tokens_and_models_differ_in_it(shop: Workshop) -> None:
    shop.model("b", XY, rows=7)
    config = shop.config(**tokens({"kind": "zero"}))
    config["tokenizer"]["pad_to_multiple_of"] = 4
    # the means over x, y and <n> are 1 and 1000
    assert shop.rows(config) == [*TWO, 0.0, 1001.0]


def test_ids_without_a_token_keep_the_rows_of_the_model_whose_vocabulary_it_is(shop: Workshop) -> None:
    shop.model("a", XY, rows=5)
    document = shop.json("tokenizer.json", "a")
    document["model"]["vocab"]["z"] = 4
    (shop.folder / "a/tokenizer.json").write_text(json.dumps(document))
    rows = shop.rows(shop.config(**tokens({"kind": "zero"})))
    assert rows == [*TWO, 2 * 3.0, 2 * 4.0, 2 * 5.0, 0.0]
    assert shop.tokenizer().get_vocab() == {"x": 0, "y": 1, "z": 4, "<n>": 5}
    assert shop.tokenizer().encode("<n>").ids == [5]


@pytest.mark.parametrize("added", [[], ["z"]])
def test_new_tokens_after_a_gap_have_the_ids_they_are_said_to_have(shop: Workshop, added: list[str]) -> None:
    shop.model("a", XY, rows=5)
    document = shop.json("tokenizer.json", "a")
    document["model"]["vocab"]["z"] = 4
    document["added_tokens"] = [{"id": 4, "content": token, **PLAIN} for token in added]
    (shop.folder / "a/tokenizer.json").write_text(json.dumps(document))
    shop.merge(shop.config(**tokens({"kind": "zero"})))
    assert shop.tokenizer().get_vocab(with_added_tokens=True) == {"x": 0, "y": 1, "z": 4, "<n>": 5}


def surplus(shop: Workshop, name: str) -> None:
    """A model of two rows whose tokenizer makes "xy" of x and y, and has a token <pad>."""
    shop.model(name, ["x", "y", "xy"], ["<pad>"], rows=2)
    document = shop.json("tokenizer.json", name)
    document["model"]["merges"] = ["x y"]
    (shop.folder / name / "tokenizer.json").write_text(json.dumps(document))


def test_as_in_mergekit_tokens_beyond_the_rows_are_left_out(shop: Workshop) -> None:
    for name in "ab":
        surplus(shop, name)
    config = shop.config(tokenizer={"source": "base", "compat": "mergekit"})
    assert shop.rows(config) == TWO
    assert shop.tokenizer().get_vocab() == {"x": 0, "y": 1}
    assert shop.tokenizer().encode("xy").ids == [0, 1]
    assert "a has no rows for 'xy', '<pad>': left out" in shop.plan(config).warnings


@pytest.mark.parametrize("source", ["base", "union", "a", "b"])
def test_text_is_not_cut_into_tokens_that_have_no_row_anywhere(shop: Workshop, source: str) -> None:
    for name in "ab":
        surplus(shop, name)
    config = shop.config(tokenizer_source=source)
    rows = shop.rows(config)
    assert shop.tokenizer().encode("xy<pad>").ids == [0, 1, 3]
    assert rows[:2] == TWO
    assert rows[2:] == [0.0, 0.0]  # the id that 'xy' had, and <pad>
    warnings = shop.plan(config).warnings
    assert "a has no rows for 'xy': left out" in warnings
    assert (
        "no model has a row for '<pad>': the embeddings are zero unless 'tokens' names a source" in warnings
    )


@pytest.mark.parametrize("lacking", ["a", "b"])
@pytest.mark.parametrize("source", ["base", "union", "a", "b"])
def test_a_token_without_row_in_one_model_has_that_of_the_other(
    shop: Workshop, source: str, lacking: str
) -> None:
    for name in "ab":
        shop.model(name, XY, ["<pad>"], rows=2 if name == lacking else 3)
    config = shop.config(tokenizer_source=source)
    assert shop.rows(config) == [*TWO, 2 * (3000.0 if lacking == "a" else 3.0)]
    assert shop.plan(config).warnings == (f"{lacking} has no rows for '<pad>': those of other models count",)
    assert shop.tokenizer().get_vocab() == {"x": 0, "y": 1, "<pad>": 2}


def test_a_foreign_token_that_nobody_has_a_row_for_is_left_out(shop: Workshop) -> None:
    shop.model("a", XY)
    shop.model("b", XY, ["<pad>"], rows=2)
    config = shop.config(tokenizer_source="union")
    assert shop.rows(config) == TWO
    assert shop.plan(config).warnings == ("b has no rows for '<pad>': left out",)


def test_an_unknown_key_of_the_tokenizer_is_refused(shop: Workshop) -> None:
    text = shop.refusal(shop.config(tokenizer={"source": "base", "pad_to_multiple": 8}))
    assert "E103" in text
    assert "did you mean 'pad_to_multiple_of'" in text


def test_a_vector_over_the_vocabulary_follows_it(shop: Workshop) -> None:
    for name, unit in (("a", 1.0), ("b", 1000.0)):
        shop.model(name, XY if name == "a" else XY[::-1])
        tensors = read_tensors(shop.folder / name)
        tensors["lm_head.bias"] = torch.tensor([1.0, 2.0]) * unit
        write_checkpoint(shop.folder / name, tensors, shop.json("config.json", name))
    merged = read_tensors(
        shop.merge(shop.config(**tokens({"kind": "model_token", "model": "b", "token": "y"})))
    )
    assert merged["lm_head.bias"].tolist() == [2001.0, 1002.0, 2000.0]


def test_wrong_numbers_in_rows_that_nobody_takes_do_no_harm(shop: Workshop) -> None:
    shop.model("b", XY, ["<other>"])
    tensors = read_tensors(shop.folder / "b")
    tensors["model.embed_tokens.weight"][2] = torch.nan
    write_checkpoint(shop.folder / "b", tensors, shop.json("config.json", "b"))
    assert shop.rows(shop.config(tokenizer_source="base")) == TWO
    with pytest.raises(
        MergecoreError, match=r"b: tensor 'model.embed_tokens.weight': 4 values are not finite"
    ):
        shop.merge(
            shop.config(tokenizer_source="union", name="again"),
        )
