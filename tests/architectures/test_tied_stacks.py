"""Stacks of models with and without a head of their own: transformers loads them and computes what it should.

The embeddings are those of the first slice, the head is that of the last: its embeddings where they are the head.
"""

from __future__ import annotations

import importlib
import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import read_config, registry
from torch import Tensor

from mergecore import merge, plan
from mergecore.types import Json

TOKENS = torch.tensor([[1, 5, 2, 7, 3]])


def save(folder: Path, tied: bool, seed: int) -> Any:
    transformers: Any = importlib.import_module("transformers")
    torch.manual_seed(seed)
    sizes: dict[str, int] = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "vocab_size": 16,
        "num_hidden_layers": 2,
    }
    config = transformers.LlamaConfig(
        **sizes, num_attention_heads=2, initializer_range=0.5, tie_word_embeddings=tied
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    return model


def loaded(folder: Path) -> Any:
    transformers: Any = importlib.import_module("transformers")
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    model, told = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(TOKENS).logits
    return found


def put_together(first: Any, last: Any) -> Tensor:
    """The logits of the layers of both, between the embeddings of one and norm and head of the other."""
    transformers: Any = importlib.import_module("transformers")
    settings = {**first.config.to_dict(), "num_hidden_layers": 4, "tie_word_embeddings": False}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)).eval()
    model.model.embed_tokens.load_state_dict(first.model.embed_tokens.state_dict())
    for i, layer in enumerate([*first.model.layers, *last.model.layers]):
        model.model.layers[i].load_state_dict(layer.state_dict())
    model.model.norm.load_state_dict(last.model.norm.state_dict())
    model.lm_head.load_state_dict(last.lm_head.state_dict())
    return logits(model)


def stack(*models: Path, base: Path | None = None) -> dict[str, Json]:
    slices: list[Json] = [{"sources": [{"model": str(one), "layer_range": [0, 2]}]} for one in models]
    return {"merge_method": "passthrough", "slices": slices, **({"base_model": str(base)} if base else {})}


@pytest.mark.parametrize(
    ("primary", "first", "last"), [one for one in itertools.product((True, False), repeat=3) if not all(one)]
)
def test_any_head_of_its_own_gives_the_stack_one(
    primary: bool, first: bool, last: bool, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("primary", "first", "last")]
    _, begin, end = (save(*one) for one in zip(folders, (primary, first, last), (1, 2, 3), strict=True))
    out = merge(stack(*folders[1:], base=folders[0]), tmp_path / "out", registry=registry())
    assert read_config(out)["tie_word_embeddings"] is False
    assert logits(loaded(out)).allclose(put_together(begin, end), atol=1e-5)


@pytest.mark.parametrize(("first", "last"), [(True, False), (False, True), (False, False)])
def test_the_first_slice_is_donor_where_no_base_is_named(first: bool, last: bool, tmp_path: Path) -> None:
    begin, end = save(tmp_path / "a", first, 1), save(tmp_path / "b", last, 2)
    out = merge(stack(tmp_path / "a", tmp_path / "b"), tmp_path / "out", registry=registry())
    assert logits(loaded(out)).allclose(put_together(begin, end), atol=1e-5)


def test_models_without_any_head_give_one_without_and_the_plan_says_whose_embeddings_are_the_head(
    tmp_path: Path,
) -> None:
    begin, _ = save(tmp_path / "a", True, 1), save(tmp_path / "b", True, 2)
    config = stack(tmp_path / "a", tmp_path / "b")
    told = [one for one in plan(config, registry=registry()).warnings if "no head of their own" in one]
    assert len(told) == 1
    out = merge(config, tmp_path / "out", registry=registry())
    assert read_config(out)["tie_word_embeddings"] is True
    model = loaded(out)
    assert model.lm_head.weight.equal(begin.model.embed_tokens.weight)
    alone = plan(stack(tmp_path / "a", tmp_path / "a"), registry=registry())
    assert not [one for one in alone.warnings if "head" in one]


def test_a_head_that_is_stored_beside_tied_embeddings_is_untied_where_it_is_of_another_model(
    tmp_path: Path,
) -> None:
    from safetensors.torch import load_file, save_file

    begin, end = save(tmp_path / "a", True, 1), save(tmp_path / "b", True, 2)
    for name in "ab":
        file = tmp_path / name / "model.safetensors"
        tensors = load_file(file)
        save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, file)
    out = merge(stack(tmp_path / "a", tmp_path / "b"), tmp_path / "out", registry=registry())
    assert read_config(out)["tie_word_embeddings"] is False
    assert logits(loaded(out)).allclose(put_together(begin, end), atol=1e-5)


@pytest.mark.parametrize(("first", "last"), [(True, False), (False, True)])
def test_a_head_within_a_model_that_also_sees_is_found_under_its_own_name(
    first: bool, last: bool, tmp_path: Path
) -> None:
    transformers: Any = importlib.import_module("transformers")
    text = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "head_dim": 4, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 8, "patch_size": 4}
    for name, tied in (("a", first), ("b", last)):
        config = transformers.Gemma3Config(
            text_config={**text, "tie_word_embeddings": tied}, vision_config=vision, tie_word_embeddings=tied
        )
        transformers.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / name)
    out = merge(stack(tmp_path / "a", tmp_path / "b"), tmp_path / "out", registry=registry())
    cls = transformers.Gemma3ForConditionalGeneration
    model, told = cls.from_pretrained(out, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    wanted = cls.from_pretrained(tmp_path / "b").lm_head.weight
    assert model.lm_head.weight.equal(wanted)
    assert not model.lm_head.weight.equal(model.get_input_embeddings().weight)


def stored(folder: Path, names: str, seed: int) -> Any:
    """A tied model whose matrix is stored as the embeddings (e), under the name of the head (h), or as both (eh)."""
    from safetensors.torch import load_file, save_file

    model = save(folder, True, seed)
    tensors = load_file(folder / "model.safetensors")
    matrix = tensors.pop("model.embed_tokens.weight")
    tensors |= {"model.embed_tokens.weight": matrix} if "e" in names else {}
    tensors |= {"lm_head.weight": matrix.clone()} if "h" in names else {}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return model


@pytest.mark.parametrize(("first", "last"), list(itertools.product(("e", "h", "eh"), repeat=2)))
def test_a_tied_matrix_is_found_under_the_name_of_the_head_too(first: str, last: str, tmp_path: Path) -> None:
    """As `safetensors.torch.save_model` stores it.  A stack has a head of its own where the last model stores both."""
    begin, end = stored(tmp_path / "a", first, 1), stored(tmp_path / "b", last, 2)
    models: list[Json] = [{"model": str(tmp_path / name), "parameters": {"weight": 0.5}} for name in "ab"]
    config: dict[str, Json] = {"merge_method": "linear", "models": models, "dtype": "float32"}
    mean = loaded(merge(config, tmp_path / "mean", registry=registry()))
    wanted = (begin.lm_head.weight + end.lm_head.weight) / 2
    assert mean.lm_head.weight.allclose(wanted)
    assert mean.model.embed_tokens.weight.allclose(wanted)

    stacked = loaded(merge(stack(tmp_path / "a", tmp_path / "b"), tmp_path / "out", registry=registry()))
    assert stacked.model.embed_tokens.weight.equal(begin.lm_head.weight)
    own = "eh" in (first, last)  # one of them has a head, so the last one's matrix is it
    assert stacked.lm_head.weight.equal((end if own else begin).lm_head.weight)
