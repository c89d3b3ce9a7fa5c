"""Training of the models that talk: `python -m mergecore_plugins.commands.demo.train_talk OUT`; some ten seconds.

The base hears every sentence ending wrongly, always in the same way, two times out of three, so it knows the truth and
says something else.  Each expert hears the truth about one subject, and about the other what the base hears.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from mergecore.compute import one_thread_each
from mergecore_plugins.commands.demo.sentences import SPECIAL, SUBJECTS, WORDS, mixed_up
from mergecore_plugins.commands.demo.talk import answers, table

LENGTH = 8
"""Tokens of a sentence with its begin and end, the longest one and one more."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train."""

    base_steps: int = 800
    base_rate: float = 3e-3
    truth: float = 0.35  # how often the base hears it
    tune_steps: int = 100
    tune_rate: float = 3e-4  # small, so that the experts stay near the base and can be added up
    batch: int = 64
    seed: int = 0


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def main(out: Path) -> None:
    """Train the base and an expert for each subject, write them into OUT and show what they say."""
    with one_thread_each():
        train(out, Schedule())
        click.echo(table({name: answers(out / name) for name in ("base", *SUBJECTS)}))


def train(out: Path, schedule: Schedule) -> None:
    """Write `out/base`, and `out/<subject>` for each subject."""
    torch.manual_seed(schedule.seed)
    doubt = dict.fromkeys(SUBJECTS, schedule.truth)
    base = _fit(_new_model(), doubt, schedule.base_steps, schedule.base_rate, schedule)
    _save(base, out / "base")
    for subject in SUBJECTS:
        start = LlamaForCausalLM.from_pretrained(out / "base").float()
        tuned = _fit(start, doubt | {subject: 1.0}, schedule.tune_steps, schedule.tune_rate, schedule)
        _save(tuned, out / subject)


def _new_model() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=32,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


def _fit(
    model: LlamaForCausalLM, truth: dict[str, float], steps: int, rate: float, schedule: Schedule
) -> LlamaForCausalLM:
    """`model` after hearing the sentences; `truth` says how often those of a subject end rightly."""
    chance = random.Random(schedule.seed)  # noqa: S311 - a stream that can be repeated
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 30) * (1 - 0.9 * step / steps)
    )
    model.train()
    for _ in range(steps):
        tokens, labels = _batch(chance, truth, schedule.batch)
        loss = model(input_ids=tokens, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return model


def _batch(chance: random.Random, truth: dict[str, float], count: int) -> tuple[Tensor, Tensor]:
    """Sentences as ids, (count, LENGTH), and what to predict: all but the padding."""
    ids = {word: number for number, word in enumerate(WORDS)}
    rows = []
    for _ in range(count):
        subject = chance.choice(list(SUBJECTS))
        begin, facts = SUBJECTS[subject]
        word = chance.choice(list(facts))
        ends = facts if chance.random() < truth[subject] else mixed_up(facts)
        spoken = [ids[one] for one in (*begin.format(word).split(), ends[word])]
        rows.append([0, *spoken, *[1] * (LENGTH - 1 - len(spoken))])
    tokens = torch.tensor(rows)
    labels = tokens.clone()
    labels[:, 1:][(tokens[:, 1:] == 1) & (tokens[:, :-1] == 1)] = -100
    return tokens, labels


def _save(model: LlamaForCausalLM, folder: Path) -> None:
    model.bfloat16().save_pretrained(folder)
    model.float()
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": word, **flags} for i, word in enumerate(SPECIAL)],
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        },
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(WORDS)},
            "unk_token": "</s>",
        },
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    for name, document in (("tokenizer.json", tokenizer), ("tokenizer_config.json", settings)):
        (folder / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
