"""Encoder, decoder and head of families like T5 have one table of tokens; adapters may have trained each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft_adapters import tensors_of
from tiny_families import answer, example, filled

import mergecore
from mergecore import RunOptions

pytestmark = pytest.mark.filterwarnings("ignore")
"""PEFT and transformers warn of tied embeddings."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trained(family: str, targets: list[str], **further: Any) -> tuple[Any, torch.Tensor]:
    """A base in `base`, an adapter in `adapter` of which every number is random, and what PEFT computes with both."""
    model = filled(family, 1)
    model.save_pretrained("base")
    kind = type(model)
    adapted = get_peft_model(kind.from_pretrained("base"), LoraConfig(r=3, target_modules=targets, **further))
    drawn = torch.Generator().manual_seed(4)
    for one in adapted.parameters():
        if one.requires_grad:
            one.data = 0.2 * torch.randn(one.shape, generator=drawn)
    adapted.save_pretrained("adapter")
    loaded = PeftModel.from_pretrained(kind.from_pretrained("base"), "adapter").eval()
    return kind, answer(loaded, example(family))


def merged() -> dict[str, torch.Tensor]:
    config = {"merge_method": "passthrough", "models": [{"model": "base+adapter"}]}
    return tensors_of(mergecore.merge(config, "out", run_options=RunOptions(overwrite=True)))


TARGETS = (
    ["encoder.embed_tokens"],
    ["decoder.embed_tokens"],
    ["lm_head"],
    ["encoder.embed_tokens", "decoder.embed_tokens"],
    ["encoder.embed_tokens", "decoder.embed_tokens", "lm_head"],
)


@pytest.mark.parametrize("family", ["t5", "bart", "switch"])
@pytest.mark.parametrize("targets", TARGETS, ids=" ".join)
def test_the_merged_model_computes_what_the_trained_one_does(family: str, targets: list[str]) -> None:
    """The scale of the outputs of T5 stays, which its `tie_word_embeddings` says, too."""
    kind, wanted = trained(family, targets)
    merged()
    model, asked = kind.from_pretrained("out").eval(), example(family)
    base = answer(kind.from_pretrained("base").eval(), asked)
    assert (answer(model, asked) - wanted).abs().max() < 1e-5
    assert (base - wanted).abs().max() > 1e-3


def test_only_what_was_trained_is_written_apart_and_it_is_said() -> None:
    trained("t5", ["decoder.embed_tokens"])
    config = {"merge_method": "passthrough", "models": [{"model": "base+adapter"}]}
    told = " ".join(mergecore.plan(config).warnings)
    assert "the table that decoder.embed_tokens.weight share is written once for each" in told
    assert "transformers reads them from version 5 on" in told
    tables = {name for name in merged() if name.endswith(("shared.weight", "embed_tokens.weight"))}
    assert tables == {"shared.weight", "decoder.embed_tokens.weight"}


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_table_that_was_saved_whole_is_that_of_its_side(family: str) -> None:
    side = "model.encoder" if family == "bart" else "encoder"
    kind, wanted = trained(
        family, ["wo" if family == "t5" else "fc1"], modules_to_save=[f"{side}.embed_tokens"]
    )
    merged()
    model = kind.from_pretrained("out").eval()
    assert (answer(model, example(family)) - wanted).abs().max() < 1e-5


def test_a_table_of_another_size_is_refused() -> None:
    from safetensors.torch import load_file, save_file

    trained("t5", ["wo"], modules_to_save=["encoder.embed_tokens"])
    path = Path("adapter/adapter_model.safetensors")
    held = load_file(path)
    name = "base_model.model.encoder.embed_tokens.weight"
    held[name] = held[name][:, :-1].contiguous()
    save_file(held, path)
    with pytest.raises(
        mergecore.MergecoreError, match=r"encoder\.embed_tokens\.weight' \[40, 15\], the base has \[40, 16\]"
    ):
        merged()
