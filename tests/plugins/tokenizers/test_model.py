"""The strategy `model`: the vocabulary of a model of the config, its files, and the special ids that go with it."""

from __future__ import annotations

import json

import pytest
from workshop import Workshop

XY = ["x", "y"]


@pytest.fixture(autouse=True)
def _models(shop: Workshop) -> None:
    """Model a says x y <a>, model b says y x <b> <c>."""
    shop.model("a", XY, ["<a>"], eos_token_id=2, bos_token_id=0, pad_token_id=2)
    shop.model("b", XY[::-1], ["<b>", "<c>"], eos_token_id=2, bos_token_id=1)


def test_every_tokenizer_file_is_that_of_the_model(shop: Workshop) -> None:
    (shop.folder / "a/merges.txt").write_text("of a")
    (shop.folder / "b/chat_template.jinja").write_text("{{ b }}")
    out = shop.merge(shop.config(tokenizer_source="b"))
    assert not (out / "merges.txt").exists()
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (out / file).read_bytes() == (shop.folder / "b" / file).read_bytes()


def test_special_ids_are_those_of_the_model(shop: Workshop) -> None:
    (shop.folder / "a/generation_config.json").write_text(
        json.dumps({"eos_token_id": 0, "top_k": 5, "bos_token_id": 1})
    )
    (shop.folder / "b/generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    config = shop.config(tokenizer_source="b")
    shop.merge(config)
    found = shop.json("config.json")
    assert (found["eos_token_id"], found["bos_token_id"], found["pad_token_id"]) == (2, 1, None)
    assert shop.json("generation_config.json") == {"eos_token_id": [2, 3], "top_k": 5, "bos_token_id": 1}
    assert any("pad_token_id 2 is not a token" in text for text in shop.plan(config).warnings)


def test_a_special_id_that_the_model_does_not_state_follows_its_token(shop: Workshop) -> None:
    shop.model("a", XY, ["<a>"], image_token_id=0, suppress_tokens=[0, 1, 2])
    shop.merge(shop.config(tokenizer_source="b"))
    found = shop.json("config.json")
    assert (found["image_token_id"], found["suppress_tokens"]) == (1, [1, 0])


def test_ids_follow_their_tokens_in_lists_and_by_name(shop: Workshop) -> None:
    """x and y change places; <a> is gone."""
    ids = {
        "forced_decoder_ids": [[1, 0], [2, 2], [3, 1]],
        "bad_words_ids": [[0], [0, 1], [1, 2]],
        "lang_to_id": {"<|x|>": 0, "<|a|>": 2},
        "image_token_index": 1,
    }
    shop.model("a", XY, ["<a>"], image_token_index=0)
    (shop.folder / "a/generation_config.json").write_text(json.dumps(ids))
    shop.merge(shop.config(tokenizer_source="b"))
    assert shop.json("config.json")["image_token_index"] == 1
    assert shop.json("generation_config.json") == {
        "forced_decoder_ids": [[1, 1], [3, 0]],
        "bad_words_ids": [[1], [1, 0]],
        "lang_to_id": {"<|x|>": 1},
        "image_token_index": 0,
    }


@pytest.mark.parametrize("token", ["<c>", {"content": "<c>"}])
def test_a_special_id_without_a_token_follows_its_role(shop: Workshop, token: object) -> None:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": token}
    (shop.folder / "b/tokenizer_config.json").write_text(json.dumps(config))
    shop.merge(shop.config(tokenizer_source="b"))
    assert shop.json("config.json")["pad_token_id"] == 3


def test_the_model_need_not_be_merged_nor_have_weights(shop: Workshop) -> None:
    (shop.model("c", ["z", "y", "x"]) / "model.safetensors").unlink()
    config = shop.config(tokenizer_source="c")
    assert shop.rows(config) == [0.0, 2.0 + 1000.0, 1.0 + 2000.0]
    assert shop.tokenizer().get_vocab() == {"z": 0, "y": 1, "x": 2}
    assert [model.name for model in shop.plan(config).models] == ["a", "b"]
    assert (
        "no model has a row for 'z': the embeddings are zero unless 'tokens' names a source"
        in shop.plan(config).warnings
    )


def test_a_new_token_is_added_to_the_files_of_the_model(shop: Workshop) -> None:
    config = shop.config(tokenizer={"source": "b", "tokens": {"<n>": {"source": {"kind": "zero"}}}})
    assert shop.rows(config)[4] == 0.0
    assert shop.tokenizer().get_vocab()["<n>"] == 4


def test_a_model_without_tokenizer_or_that_is_not_there_is_refused(shop: Workshop) -> None:
    shop.model("c", XY, tokenizer=False)
    assert "E240 c: it has no tokenizer, and the output should have its" in shop.refusal(
        shop.config(tokenizer_source="c")
    )
    assert "E701" in shop.refusal(shop.config(tokenizer={"source": "./nowhere"}))


def test_a_template_that_came_with_the_tokenizer_is_copied_and_never_rendered(shop: Workshop) -> None:
    hostile = "{{ cycler.__init__.__globals__.os.popen('touch PWNED').read() }}"
    (shop.folder / "b/tokenizer_config.json").write_text(json.dumps({"chat_template": hostile}))
    out = shop.merge(shop.config(tokenizer_source="b", chat_template="auto"))
    assert (out / "tokenizer_config.json").read_bytes() == (
        shop.folder / "b/tokenizer_config.json"
    ).read_bytes()
    assert not list(shop.folder.rglob("PWNED"))
