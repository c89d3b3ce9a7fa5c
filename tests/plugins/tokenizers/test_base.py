"""The strategy `base`: its files, and models that it can and cannot follow."""

from __future__ import annotations

from workshop import Workshop

XY = ["x", "y"]


def test_files_are_copied_byte_for_byte_unless_tokens_are_added(shop: Workshop) -> None:
    for name in "ab":
        shop.model(name, XY)
    out = shop.merge(shop.config(tokenizer_source="base"))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (out / file).read_bytes() == (shop.folder / "a" / file).read_bytes()


def test_rows_of_other_vocabularies_are_put_in_the_order_of_the_base(shop: Workshop) -> None:
    shop.model("a", ["x", "y", "z"])
    shop.model("b", ["w", "y", "x"])
    config = shop.config(tokenizer_source="base")
    assert shop.rows(config) == [3001.0, 2002.0, 2 * 3.0]
    assert shop.plan(config).warnings == (
        "the vocabulary of b differs from that of the output: 1 token shared, 1 shared with other ids, 1 only "
        "in the output, 1 only in b; rows of tokens it lacks are those of the other models, tokens that only it "
        "has are left out",
    )


def test_a_plan_says_in_a_word_where_rows_come_from(shop: Workshop) -> None:
    from mergecore.cli.show_plan import plan_as_text
    from mergecore.engine.memory import estimate
    from mergecore.types import MergeMethod

    shop.model("a", ["x", "y", "z"])
    shop.model("b", ["w", "y", "x"])
    config = shop.config(tokenizer={"source": "base", "pad_to_multiple_of": 4, "tokens": {"<n>": {}}})
    config["tokenizer"]["pad_to_multiple_of"] = 5
    made = shop.plan(config)
    methods = {"linear": shop.registry.get(MergeMethod, "linear")}
    memory = estimate(made, methods, 1, None)
    assert memory.maps == 2 * (4 + 4 + 4) * 8  # two tensors: own rows of a and b, and those of a for b
    text = plan_as_text(made, memory, "embed")
    assert "from a: model.embed_tokens.weight F32, rows: 3 own, 1 zero, 1 padding" in text
    assert "from b: model.embed_tokens.weight F32, rows: 2 own, 1 of a, 1 zero, 1 padding" in text


def test_a_base_without_tokenizer_is_refused(shop: Workshop) -> None:
    shop.model("a", XY, tokenizer=False)
    shop.model("b", XY)
    assert shop.refusal(shop.config(tokenizer_source="base")).startswith(
        "E240 a: it has no tokenizer, and the output should have its vocabulary. "
        "Hint: put its tokenizer files there, or name another model as the source"
    )


def test_a_model_without_tokenizer_is_trusted_when_it_has_as_many_rows(shop: Workshop) -> None:
    shop.model("a", XY, rows=3)
    shop.model("b", XY, tokenizer=False, rows=3)
    config = shop.config(tokenizer_source="base")
    assert shop.rows(config) == [1001.0, 2002.0]
    assert "b has no tokenizer; it is taken to have the vocabulary of the base" in shop.plan(config).warnings
    shop.model("b", XY, tokenizer=False)
    text = shop.refusal(config)
    assert (
        "E240 b: it has no tokenizer, so it is not known which of its rows is which token. Hint: put its"
        in text
    )
    assert "'compat: mergekit' takes it to have the vocabulary of a" in text
    assert shop.rows(shop.config(tokenizer={"source": "base", "compat": "mergekit"})) == [1001.0, 2002.0]


def test_tokens_cannot_be_added_to_a_tokenizer_that_is_no_json(shop: Workshop) -> None:
    for name in "ab":
        (shop.model(name, XY) / "tokenizer.json").unlink()
        (shop.folder / name / "vocab.txt").write_text("x\ny\n")
    assert shop.rows(shop.config(tokenizer_source="base")) == [1001.0, 2002.0]
    text = shop.refusal(shop.config(tokenizer={"source": "base", "tokens": {"<n>": {}}}))
    assert text.startswith(
        "E240 a/vocab.txt: tokens cannot be added or removed, because transformers makes no tokenizer.json of it: "
    )


def test_ids_in_configs_that_stand_for_no_token_become_null_with_a_warning(shop: Workshop) -> None:
    shop.model("a", XY, rows=4, pad_token_id=3, eos_token_id=[1, 3], bos_token_id=0, unk_token_id=-1)
    shop.model("b", XY, rows=4)
    config = shop.config(tokenizer_source="base")
    shop.merge(config)
    found = shop.json("config.json")
    assert [found[f"{word}_token_id"] for word in ("pad", "eos", "bos", "unk")] == [None, [1], 0, -1]
    told = "config.json: pad_token_id 3 is not a token of the output; it becomes null: set it by hand"
    assert told in shop.plan(config).warnings


def test_generation_config_is_copied_byte_for_byte_when_its_ids_stay(shop: Workshop) -> None:
    for name in "ab":
        (shop.model(name, XY) / "generation_config.json").write_text('{"eos_token_id":  1}')
    assert (
        shop.merge(shop.config(tokenizer_source="base")) / "generation_config.json"
    ).read_text() == '{"eos_token_id":  1}'


def test_sizes_of_nested_text_configs_follow(shop: Workshop) -> None:
    for name in "ab":
        shop.model(
            name,
            XY,
            rows=3,
            text_config={"vocab_size": 3, "eos_token_id": 1},
            vision_config={"vocab_size": 9},
        )
    shop.merge(shop.config(tokenizer_source="base"))
    found = shop.json("config.json")
    assert (
        found["vocab_size"],
        found["text_config"]["vocab_size"],
        found["vision_config"]["vocab_size"],
    ) == (2, 2, 9)
