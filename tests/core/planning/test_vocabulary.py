"""What the core makes of the answer of a tokenizer strategy, and of strategies of other distributions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import WritePlugin
from tiny import read_tensors, write_checkpoint
from workshop import Workshop

from mergecore.plugins.registry import Registry
from mergecore.types import MovedRows

XY = ["x", "y"]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Models a and b with the tokens x and y."""
    monkeypatch.chdir(tmp_path)
    made = Workshop(tmp_path)
    made.model("a", XY)
    made.model("b", XY)
    return made


STRATEGY = """
from mergecore import Params, TokenizerStrategy, hookimpl
from mergecore.types import Vocabulary

class Nothing(Params):
    pass

def build(request, params):
    return Vocabulary({}, ROWS, ids=IDS, size=SIZE)

@hookimpl
def mergecore_tokenizer_strategies():
    yield TokenizerStrategy(name="union", build=build, params=Nothing)
"""


def foreign(shop: Workshop, write_plugin: WritePlugin, rows: object, size: object = 2) -> dict[str, Any]:
    """A config whose strategy is that of another distribution, which gives these rows."""
    code = STRATEGY.replace("ROWS", repr(rows)).replace("IDS", "{'x': 0}").replace("SIZE", repr(size))
    write_plugin("mine", code)
    shop.registry = Registry.discover(("union",))
    return shop.config(tokenizer={"source": "union"})


def test_rows_go_where_the_strategy_says(shop: Workshop, write_plugin: WritePlugin) -> None:
    config = foreign(shop, write_plugin, ([1, 0, -1], range(2)), 3)
    # row 0: the second of a and the first of b; row 1: the other way around; row 2: in neither
    assert shop.rows(config) == [1002.0, 2001.0, 0.0]


def test_a_model_without_rows_must_have_as_many_as_the_output(
    shop: Workshop, write_plugin: WritePlugin
) -> None:
    config = foreign(shop, write_plugin, ([1, 0], None))
    assert shop.rows(config) == [1002.0, 2001.0]
    shop.model("b", XY, rows=3)
    told = "E230 shapes differ for 'model.embed_tokens.weight': a [2, 4], b [3, 4]"
    found = shop.refusal(config)
    assert told in found
    assert "Hint: the vocabularies differ: choose 'tokenizer: {source: base}', union or a model" in found


def test_a_strategy_must_answer_for_every_model_and_token(shop: Workshop, write_plugin: WritePlugin) -> None:
    config = foreign(shop, write_plugin, ([0, 1],))
    assert "E605 the tokenizer strategy 'union' does not say the rows of 2 models" in shop.refusal(config)
    config["tokenizer"]["tokens"] = {"<n>": {}}
    assert "E605 the tokenizer strategy 'union' does not say the token '<n>'" in shop.refusal(config)


def test_a_strategy_need_not_know_mergekit(shop: Workshop, write_plugin: WritePlugin) -> None:
    config = foreign(shop, write_plugin, (range(2), range(2)))
    config["tokenizer"]["compat"] = "mergekit"
    assert "E109" in shop.refusal(config)
    assert "the tokenizer strategy 'union' has no parameter 'compat'" in shop.refusal(config)


def test_a_slip_in_the_name_of_a_strategy_is_seen(shop: Workshop) -> None:
    for name in "ab":
        shop.model(name, XY)
    text = shop.refusal(shop.config(tokenizer_source="uniom"))
    assert text.startswith("E701 ")
    assert "did you mean 'union'?" in text
    assert "did you mean" not in shop.refusal(shop.config(tokenizer_source="models"))


def test_a_vocabulary_that_no_tensor_can_follow_is_refused(shop: Workshop) -> None:
    for name in "ab":
        tensors = {"model.layers.0.mlp.up_proj.weight": torch.ones(2, 2)}
        write_checkpoint(shop.folder / name, tensors, {"model_type": "llama"})
    text = shop.refusal(shop.config(tokenizer_source="base"))
    assert text.startswith(
        "E240 no tensor is known to have a row for each token, so the vocabulary cannot change"
    )
    assert "Hint: leave out 'tokenizer', or install a plugin that knows the model" in text
    shop.plan(shop.config())


def test_rows_of_whole_numbers_are_not_moved(shop: Workshop) -> None:
    for name in "ab":
        shop.model(name, XY, rows=3)
        tensors = read_tensors(shop.folder / name)
        tensors["lm_head.weight"] = torch.ones(3, 4, dtype=torch.int32)
        write_checkpoint(shop.folder / name, tensors, shop.json("config.json", name))
    text = shop.refusal(shop.config(tokenizer_source="base"))
    assert "E233 'lm_head.weight' is I32, and its rows, one for each token, would have to be moved" in text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_tensor_that_only_one_model_has_is_copied_with_its_rows_moved(
    shop: Workshop, dtype: torch.dtype
) -> None:
    shop.model("b", XY[::-1])
    tensors = read_tensors(shop.folder / "b")
    tensors["lm_head.bias"] = torch.tensor([0.1, 0.2], dtype=dtype)
    write_checkpoint(shop.folder / "b", tensors, shop.json("config.json", "b"))
    config = shop.config(tokenizer={"source": "base", "pad_to_multiple_of": 3})
    del config["dtype"]
    copied = read_tensors(shop.merge(config, unexpected="copy"))["lm_head.bias"]
    assert copied.dtype == dtype
    exact = [tensors["lm_head.bias"][1].double(), tensors["lm_head.bias"][0].double()]
    wanted = torch.stack([*exact, (exact[0] + exact[1]) / 2]).to(dtype)
    assert torch.equal(copied, wanted)


def test_the_manifest_tells_apart_merges_that_move_rows_in_other_ways(shop: Workshop) -> None:
    assert "made_of_sha256" not in json.loads(
        (shop.merge(shop.config()) / "mergecore-manifest.json").read_text()
    )
    shop.model("b", XY[::-1])
    config = shop.config(tokenizer_source="base")
    first = shop.json("mergecore-manifest.json", str(shop.merge(config)))["made_of_sha256"]
    shop.model("a", XY[::-1])
    shop.model("b", XY)
    assert shop.json("mergecore-manifest.json", str(shop.merge(config)))["made_of_sha256"] == first
    shop.model("b", [XY[0], "z"])
    assert shop.json("mergecore-manifest.json", str(shop.merge(config)))["made_of_sha256"] != first


def test_shapes_in_a_plan_are_those_of_the_output(shop: Workshop) -> None:
    shop.model("b", XY, ["<b>"])
    made = shop.plan(shop.config(tokenizer_source="union"))
    step = next(step for step in made.steps if step.name == "lm_head.weight")
    assert step.shape == (3, 4)
    assert [one.shape for one in step.inputs] == [(3, 4), (3, 4)]
    data = step.inputs[0].tensor.data
    assert isinstance(data, MovedRows)
    assert [one.tensor.shape for one in data.sources] == [(2, 4), (3, 4)]
    assert step.inputs[0].reads == ((0, "lm_head.weight"), (1, "lm_head.weight"))
