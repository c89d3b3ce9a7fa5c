"""What the language models of a demo say: each finishes twenty-four sentences, some of which are shown.

Read `show`; `answers` asks one model, `table` lays out what all of them say.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from mergecore import InputError
from mergecore.compute import one_thread_each
from mergecore_plugins.commands.demo.sentences import SUBJECTS, prompts

SHOWN = ("the cow says", "the owl says", "the capital of france is", "the capital of japan is")


def show(folder: Path) -> None:
    """Print how the models in `folder` finish sentences, and how often they are right.

    Raises:
        InputError: E701 no such models are there.
    """
    models = [folder / name for name in ("base", *SUBJECTS, "merged")]
    if missing := next((one for one in models if not (one / "config.json").is_file()), None):
        raise InputError(
            "E701", "there is no demo model here", place=str(missing), hint="run `mergecore demo`"
        )
    disable_progress_bar()
    with one_thread_each():
        click.echo(table({one.name: answers(one) for one in models}))


@torch.no_grad()
def answers(folder: Path) -> dict[str, str]:
    """How the model in `folder` goes on after the beginning of each sentence, until it ends it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).float().eval()
    said = {}
    for prompt in prompts():
        tokens = tokenizer(prompt, return_tensors="pt").input_ids
        made = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=3,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
        said[prompt] = str(tokenizer.decode(made[0, tokens.shape[1] :], skip_special_tokens=True))
    return said


def table(said: Mapping[str, Mapping[str, str]]) -> str:
    """A line for each sentence that is shown, a column for each model; and how many of all are right."""
    truth = prompts()
    rows = [("", *said), *((f"{prompt} ...", *(one[prompt] for one in said.values())) for prompt in SHOWN)]
    right = [str(sum(one[prompt] == end for prompt, end in truth.items())) for one in said.values()]
    rows.append((f"right, of {len(truth)}", *right))
    return "\n".join(f"{row[0]:<30}" + "".join(f"{cell:<12}" for cell in row[1:]).rstrip() for row in rows)
