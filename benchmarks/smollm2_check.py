"""Loads a checkpoint folder in transformers, counts missing and unexpected tensors, and lets it write.

Read `main`: it fails if a tensor is missing or unexpected, or if an expected word does not come.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import click

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

TEXT = "The capital of France is"
NEW_TOKENS = 24


class Writer(Protocol):
    """A model that continues a text; transformers leaves the type of its own models open."""

    def generate(self, **options: object) -> Tensor:
        """Token numbers of the prompt and its continuation, (1, length)."""


def load(folder: Path) -> tuple[Writer, PreTrainedTokenizerBase, list[str]]:
    """The model, its tokenizer, and the names that the file and the model do not share."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model, info = cast("tuple[Writer, dict[str, set[str]]]", loaded)
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    strangers = [f"{kind}: {name}" for kind in kinds for name in sorted(map(str, info[kind]))]
    return model, AutoTokenizer.from_pretrained(folder), strangers


def in_chat(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """A question as the model's chat template puts it."""
    asked = [{"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))


def continuation(model: Writer, tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """What the model writes after a prompt, always taking the likeliest token."""
    tokens = tokenizer(prompt, return_tensors="pt")
    written = model.generate(**tokens, max_new_tokens=NEW_TOKENS, do_sample=False)
    return str(tokenizer.decode(written[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--text", "texts", multiple=True, default=(TEXT,), help="To be continued; several times.")
@click.option("--question", "questions", multiple=True, help="To be answered in a chat; several times.")
@click.option("--expect", "words", multiple=True, help="What must be in the replies; several times.")
def main(folder: Path, texts: Sequence[str], questions: Sequence[str], words: Sequence[str]) -> None:
    """Load FOLDER, count missing and unexpected tensors, print what the model writes."""
    import torch

    torch.set_num_threads(1)
    model, tokenizer, strangers = load(folder)
    click.echo(f"{folder}: {len(strangers)} tensors missing, unexpected or of another shape")
    for stranger in strangers:
        click.echo(f"  {stranger}")
    prompts = {text: text for text in texts} | {text: in_chat(tokenizer, text) for text in questions}
    replies = {text: continuation(model, tokenizer, prompt) for text, prompt in prompts.items()}
    for text, reply in replies.items():
        click.echo(f"  {text} -> {reply!r}")
    unsaid = [word for word in words if not any(word in reply for reply in replies.values())]
    if strangers or unsaid:
        raise click.ClickException(f"{len(strangers)} tensors differ; not in the replies: {unsaid}")


if __name__ == "__main__":
    main()
