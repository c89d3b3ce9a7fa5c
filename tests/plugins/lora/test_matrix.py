"""Trained biases x modules that are saved whole x families: `merge-lora` gives the tensors of PEFT's own merge.

The two settings meet in the names of the adapter's file, and each family calls its modules otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from fixture_types import Cli
from peft import LoraConfig, TaskType
from peft_adapters import SMALL, bert, llama, merged_by_peft, qwen2, t5, tensors_of, write_pair

pytestmark = pytest.mark.filterwarnings("ignore")
"""PEFT and transformers warn of each other, and of tied embeddings."""


def plain_bert() -> Any:
    shape = {key: SMALL[key] for key in SMALL if key != "num_key_value_heads"}
    config: Any = transformers.BertConfig
    return transformers.BertModel(config(**shape))


def classifying_llama() -> Any:
    kind: Any = transformers.LlamaConfig
    config = kind(**SMALL, pad_token_id=0, num_labels=3)
    return transformers.LlamaForSequenceClassification(config)


BIASES = ("none", "all", "lora_only")
Family = tuple[Callable[[], Any], str | None, list[str], list[list[str]]]
FAMILIES: dict[str, Family] = {
    "BERT": (plain_bert, None, ["query", "dense"], [[], ["pooler"], ["LayerNorm"]]),
    "BERT with a head": (
        bert,
        TaskType.SEQ_CLS,
        ["query", "value"],
        [[], ["classifier"], ["pooler"], ["classifier", "pooler"], ["LayerNorm"], ["word_embeddings"]],
    ),
    "Llama": (
        llama,
        TaskType.CAUSAL_LM,
        ["q_proj", "v_proj"],
        [[], ["lm_head"], ["model.norm"], ["embed_tokens"]],
    ),
    "Llama with a head": (classifying_llama, TaskType.SEQ_CLS, ["q_proj", "v_proj"], [[], ["score"]]),
    "Qwen2": (qwen2, TaskType.CAUSAL_LM, ["q_proj", "v_proj"], [[], ["lm_head"], ["k_proj"]]),
    "T5": (
        t5,
        TaskType.SEQ_2_SEQ_LM,
        ["q", "v"],
        [[], ["lm_head"], ["decoder.final_layer_norm"], ["shared"]],
    ),
}
"""A model, its task, the modules with factors, and those that are saved whole."""


def cases() -> Iterator[Any]:
    for family, (make, task, targets, saved) in FAMILIES.items():
        for bias, whole in product(BIASES, saved):
            config = LoraConfig(
                r=4,
                lora_alpha=7,
                target_modules=targets,
                bias=bias,  # type: ignore[arg-type]
                modules_to_save=whole or None,
                task_type=task,
            )
            yield pytest.param(make, config, id=f"{family}, {bias}, {'+'.join(whole) or 'no module'}")


@pytest.mark.parametrize(("make", "config"), [*cases()])
def test_biases_and_whole_modules_are_merged_bit_for_bit_as_peft_does(
    make: Callable[[], Any], config: LoraConfig, tmp_path: Path, cli: Cli
) -> None:
    pair = write_pair(tmp_path, make, config)
    outcome = cli("merge-lora", str(pair.base), str(pair.adapter), str(tmp_path / "out"), "--threads", "1")
    assert outcome.code == 0, outcome.err
    made, wanted = tensors_of(tmp_path / "out"), merged_by_peft(pair, tmp_path / "peft")
    assert made.keys() == wanted.keys()
    assert [name for name in made if not torch.equal(made[name], wanted[name])] == []
    before = tensors_of(pair.base)
    changed = [name for name in made if name not in before or not torch.equal(made[name], before[name])]
    named = config.modules_to_save or ()  # PEFT adds the names of all heads that there are for the task
    whole = [one for one in named if any(f".{one}." in f".{name}" for name in made)]
    assert all(any(f".{one}." in f".{name}" for name in changed) for one in whole)
    beside = [name for name in changed if name.endswith(".bias") and not any(one in name for one in whole)]
    assert bool(beside) == (config.bias != "none" and make in WITH_BIASES)


WITH_BIASES = (plain_bert, bert, qwen2)
