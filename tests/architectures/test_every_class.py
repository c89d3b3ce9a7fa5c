"""A sample of the classes of transformers, saved, merged and loaded again; `make coverage` tries all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from zoo.__main__ import known_faults
from zoo.classes import Entry, entries
from zoo.trial import Outcome, trial

from mergecore.plugins.registry import Registry

SAMPLE = (
    "bart/BartForConditionalGeneration",  # encoder and decoder, embeddings tied three ways, a bias of logits
    "bert/BertForMaskedLM",  # a head whose matrix and bias are tied
    "bert/BertModel",
    "clip/CLIPModel",
    "cohere/CohereForCausalLM",
    "distilbert/DistilBertModel",
    "deepseek_v3/DeepseekV3ForCausalLM",  # dense layers, then experts; a bias of the router that is a buffer
    "falcon/FalconForCausalLM",
    "gemma3/Gemma3ForConditionalGeneration",  # sees; renamed on disk
    "glm4_moe/Glm4MoeForCausalLM",
    "gpt2/GPT2LMHeadModel",  # transposed matrices
    "gpt_neox/GPTNeoXForCausalLM",
    "gpt_oss/GptOssForCausalLM",  # experts in one tensor on disk too
    "jamba/JambaForCausalLM",  # state spaces, attention and experts by turns
    "llava/LlavaForConditionalGeneration",
    "mamba/MambaForCausalLM",
    "mixtral/MixtralForCausalLM",  # a tensor for each expert on disk
    "olmo2/Olmo2ForCausalLM",
    "qwen2_vl/Qwen2VLForConditionalGeneration",
    "roberta/RobertaModel",
    "t5/T5ForConditionalGeneration",
    "vit/ViTForImageClassification",
    "whisper/WhisperForConditionalGeneration",  # hears
    "zamba2/Zamba2ForCausalLM",  # layers that share a block
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover()


@pytest.mark.parametrize("name", SAMPLE)
def test_a_class_is_merged_to_the_bit_and_loads(name: str, tmp_path: Path, registry: Registry) -> None:
    torch.set_num_threads(1)
    assert trial(Entry(*name.split("/")), tmp_path, registry) == Outcome(None, stacked=True)


def test_the_classes_that_are_not_covered_exist() -> None:
    assert known_faults().keys() <= {str(entry) for entry in entries()}
