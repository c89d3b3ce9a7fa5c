"""Does a model say the same with a LoRA beside it, with it merged in, and with it taken out again?  A real LoRA.

    make real-lora

A LoRA is trained with PEFT on SmolLM2-135M (`smollm2.py`), merged into it by `mergecore merge-lora`, and taken out of
the merged model by `mergecore extract-lora`.  Each model answers the same prompts, always with the likeliest token,
and its logits are compared with those of base and adapter in PEFT.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import smollm2
from benchmarks.measure import Usage, measure
from benchmarks.pages import table, with_tables
from benchmarks.smollm2_check import continuation, in_chat
from benchmarks.tools import ENVIRONMENT

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

PAGE = Path(__file__).resolve().parent.parent / "docs/how-to/adapters-out.md"
COMMAND = 'make real-lora REAL_LORA="--write-docs"'
RANK, ALPHA, RATE, EPOCHS = 8, 16, 1e-3, 6
TEXTS = (
    "The capital of France is",
    "Once upon a time there was",
    "def fibonacci(n):",
    "Water boils at",
    "The three largest cities of Germany are",
    "Dear Sir or Madam,",
    "1, 2, 3, 4,",
    "The island of Tarvick",
)
EXACT = ("merged in float32", "base and the adapter extracted from it, in PEFT")
"""The models of which every reply must be the same."""
MERGECORE = (sys.executable, "-m", "mergecore")


@click.command()
@click.option("--workdir", type=click.Path(path_type=Path), help="Keeps the models; a temporary folder else.")
@click.option("--epochs", default=EPOCHS, show_default=True, help="Passes over the text of the training.")
@click.option("--write-docs", is_flag=True, help=f"Put the table into docs/how-to/{PAGE.name}.")
def main(workdir: Path | None, epochs: int, write_docs: bool) -> None:
    """Train, merge, take out, and print how many replies and how much of the logits are the same."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=workdir) as temporary:
        home = workdir or Path(temporary)
        base, adapter = home / "base", home / "adapter"
        if not base.exists():
            smollm2.convert(smollm2.download(Path(temporary)), base)
        if not adapter.exists():
            click.echo(trained(base, adapter, epochs))
        for name, words in commands(base, adapter, home).items():
            click.echo(f"{name}: {_used(words)}")
        found = compared(base, home)
    text = table(("model", "same replies", "largest difference of a logit", "answers known"), found)
    click.echo(f"\n{text}")
    if write_docs:
        PAGE.write_text(with_tables(PAGE.read_text(), COMMAND, text))
    every = len(prompts_of())
    if differing := [row[0] for row in found if row[0] in EXACT and row[1] != f"{every} of {every}"]:
        sys.exit(f"other replies than those of the trained model: {', '.join(differing)}")


def trained(base: Path, out: Path, epochs: int) -> str:
    """Train a LoRA on every linear layer of `base`, and say what it took."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    begin = time.perf_counter()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(plain, config)
    losses = smollm2.train(model, tokenizer, RATE, epochs)
    model.save_pretrained(str(out))
    told = ", ".join(f"{loss:.3f}" for loss in losses)
    return f"trained for {time.perf_counter() - begin:.0f} s; loss by epoch: {told}"


def commands(base: Path, adapter: Path, home: Path) -> dict[str, list[str]]:
    """What is run, by what is made."""
    merge = ["merge-lora", str(base), str(adapter)]
    merged, half = str(home / "merged"), str(home / "merged-16")
    take = {name: ["extract-lora", name, str(base)] for name in (merged, half)}
    rank = ["--rank", "32", "--only-linear"]
    return {
        "merged": [*merge, merged, "--dtype", "float32", "--overwrite"],
        "merged-16": [*merge, half, "--overwrite"],
        "extracted": [*take[merged], str(home / "extracted"), "--min-share", "1e-5", "--overwrite"],
        "extracted-16": [*take[half], str(home / "extracted-16"), *rank, "--overwrite"],
    }


def _used(words: list[str]) -> str:
    used: Usage = measure([*MERGECORE, *words, "-j", "1"], ENVIRONMENT)
    if used.exit_code:
        sys.exit(used.output_tail)
    return f"{used.wall:.1f} s, {used.cpu:.1f} s of CPU, peak {used.peak_anonymous / 1e6:.0f} MB"


# ---- what the models say -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What a model says to every prompt: its reply, and the logits (length, vocabulary) of the prompt."""

    replies: Mapping[str, str]
    logits: Mapping[str, Tensor]


def compared(base: Path, home: Path) -> list[tuple[str, str, str, str]]:
    """A line for each model: its name, replies, logits and known answers."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    wanted: Said | None = None
    found = []
    for name, model in models(base, home):
        made = said(model, tokenizer)
        wanted = wanted or made
        same = sum(made.replies[one] == wanted.replies[one] for one in made.replies)
        apart = max(float((made.logits[one] - wanted.logits[one]).abs().max()) for one in made.logits)
        known = sum(answer.startswith(made.replies[question].strip()) for question, answer in smollm2.FACTS)
        found.append(
            (name, f"{same} of {len(made.replies)}", f"{apart:.1e}", f"{known} of {len(smollm2.FACTS)}")
        )
    return found


def models(base: Path, home: Path) -> Iterator[tuple[str, Any]]:
    """Each model, all computing in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def plain(folder: Path) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def adapted(folder: Path) -> Any:
        return PeftModel.from_pretrained(plain(base), str(folder)).eval()

    yield "base and adapter in PEFT", adapted(home / "adapter")
    yield EXACT[0], plain(home / "merged")
    yield EXACT[1], adapted(home / "extracted")
    yield "merged in bfloat16, the format of the base", plain(home / "merged-16")
    yield "base and the adapter extracted from that, in PEFT", adapted(home / "extracted-16")
    yield "base", plain(base)


def prompts_of() -> tuple[str, ...]:
    """Everything the models are asked."""
    return (*(question for question, _ in smollm2.FACTS), *TEXTS)


def said(model: Any, tokenizer: PreTrainedTokenizerBase) -> Said:
    """What a model says: the questions of the training in its chat, the other texts as they are."""
    import torch

    replies, logits = {}, {}
    for prompt in prompts_of():
        asked = prompt if prompt in TEXTS else in_chat(tokenizer, prompt)
        with torch.no_grad():
            replies[prompt] = continuation(model, tokenizer, asked)
            logits[prompt] = model(**tokenizer(asked, return_tensors="pt")).logits[0]
    return Said(replies, logits)


if __name__ == "__main__":
    main()
