"""How well do routers route?  Mixtures with the routers of every gate mode, asked about text that nobody has seen.

    python benchmarks/routers.py [--mergekit /path/to/mergekit-moe]
    python benchmarks/routers.py --smollm2 FOLDER

The first trains tiny models of two made-up languages, about a minute.  The second takes the models that
`benchmarks/smollm2.py FOLDER` writes: FOLDER/base and FOLDER/tuned.  Read `measure`.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import languages, smollm2
from benchmarks.measure import measure as usage_of

if TYPE_CHECKING:
    from torch import Tensor

MODES = ("router_input", "hidden", "hidden_avg", "cheap_embed", "random", "uniform_random")
SEEN, UNSEEN = 24, 48
"""Sentences of each language that are prompts, and others that are routed."""


@dataclass(frozen=True)
class Routed:
    """How a model does on the texts of each expert."""

    right: float | None
    """The share of tokens whose first choice is the expert of their text; the mean over layers."""
    worst: float | None
    """The same in the layer where it is least."""
    share: float | None
    """The mean share of the first choice."""
    perplexities: tuple[float, ...]
    """Of the texts of each expert."""


@dataclass(frozen=True)
class Task:
    """A mixture to be made, and the texts to try it with, by expert."""

    base: Path
    experts: Mapping[str, Path]
    prompts: Mapping[str, Sequence[str]]
    chat: bool
    texts: Mapping[str, Sequence[tuple[list[int], int]]]
    """Ids of tokens, and where what is to be predicted and routed begins."""

    def document(self, mode: str, **changes: Any) -> dict[str, Any]:
        """A document of mergekit-moe, with our keys among `changes`."""
        experts = [
            {"source_model": str(self.experts[name]), "positive_prompts": [*self.prompts[name]]}
            for name in self.experts
        ]
        return {"base_model": str(self.base), "gate_mode": mode, "experts": experts, **changes}


def measure(folder: Path, texts: Mapping[str, Sequence[tuple[list[int], int]]]) -> Routed:
    """Route texts through a model in float32; a dense one has perplexities alone."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    seen: dict[str, list[Tensor]] = {}
    rows = {name: one for name, one in model.named_parameters() if name.endswith("mlp.gate.weight")}
    for name, weight in rows.items():
        hook = _noting(seen.setdefault(name, []), weight)
        model.get_submodule(name.removesuffix(".weight")).register_forward_pre_hook(hook)
    losses: list[float] = []
    expert: list[Tensor] = []
    asked: list[Tensor] = []  # of which tokens first choices are counted
    for number, own in enumerate(texts.values()):
        total, count = 0.0, 0
        for tokens, start in own:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, start - 1 : -1]
            wanted = torch.tensor(tokens[start:])
            total += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
            count += len(wanted)
            expert += [torch.full((len(tokens) - start,), number)]
            asked += [torch.arange(len(tokens)) >= start]
        losses.append(math.exp(total / count))
    if not rows:
        return Routed(None, None, None, tuple(losses))
    each = [torch.cat(shares)[torch.cat(asked)] for shares in seen.values()]
    right = [_right(shares, torch.cat(expert)) for shares in each]
    share = sum(float(shares.amax(dim=1).mean()) for shares in each) / len(each)
    return Routed(sum(right) / len(right), min(right), share, tuple(losses))


def _noting(shares: list[Tensor], weight: Tensor) -> Callable[[object, tuple[Tensor, ...]], None]:
    """A hook that notes the shares of experts of every token."""

    def note(module: object, given: tuple[Tensor, ...]) -> None:
        tokens = given[0].reshape(-1, given[0].shape[-1])
        shares.append((tokens @ weight.T).softmax(dim=1))

    return note


def _right(shares: Tensor, expert: Tensor) -> float:
    """The share of tokens whose first choice is right, all experts counted alike."""
    first = shares.argmax(dim=1)
    kinds = sorted({int(one) for one in expert})
    return sum(float((first[expert == kind] == kind).double().mean()) for kind in kinds) / len(kinds)


# ---- two languages -----------------------------------------------------------------------------------------


def of_languages(folder: Path, schedule: languages.Schedule) -> Task:
    """The tiny models, trained into `folder`, with prompts and other sentences of both languages."""
    languages.train(folder, schedule)
    names = languages.LANGUAGES
    return Task(
        folder / "base",
        {name: folder / name for name in names},
        {name: languages.sentences(name, SEEN, seed=-1) for name in names},
        False,
        {
            name: [(row, 1) for row in languages.ids(languages.sentences(name, UNSEEN, seed=-2)).tolist()]
            for name in names
        },
    )


# ---- a real model ------------------------------------------------------------------------------------------

GENERAL = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("How many days are in a week?", "There are seven days in a week."),
    ("What do bees make?", "Bees make honey from the nectar of flowers."),
    ("Why is the sky blue?", "The sky is blue because air scatters blue light more than red light."),
    ("What is the largest ocean?", "The Pacific Ocean is the largest ocean on Earth."),
    ("Who wrote Hamlet?", "William Shakespeare wrote Hamlet."),
    ("What is water made of?", "Water is made of hydrogen and oxygen."),
    ("How do I boil an egg?", "Put the egg into boiling water and wait for about eight minutes."),
    ("What is a triangle?", "A triangle is a shape with three sides and three angles."),
    ("Which planet is the closest to the Sun?", "Mercury is the planet that is closest to the Sun."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("What language is spoken in Brazil?", "In Brazil people speak Portuguese."),
    ("What money is used in Japan?", "In Japan people pay with yen."),
    ("When is New Year's Day?", "New Year's Day is the first of January."),
    ("Tell me about Italy.", "Italy is a country in southern Europe. Its capital is Rome."),
)


def of_smollm2(folder: Path) -> Task:
    """SmolLM2 and its fine-tune: every other question is a prompt, the rest with their answers are routed."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    spoken = {"base": GENERAL, "tuned": smollm2.FACTS}

    def cut(question: str, answer: str) -> tuple[list[int], int]:
        asked = [{"role": "user", "content": question}]
        prompt = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
        start = len(tokenizer(prompt)["input_ids"])
        return tokenizer(f"{prompt}{answer}{tokenizer.eos_token}")["input_ids"], start

    return Task(
        folder / "base",
        {name: folder / name for name in spoken},
        {name: [f"{question} {answer}" for question, answer in pairs[::2]] for name, pairs in spoken.items()},
        True,
        {name: [cut(*pair) for pair in pairs[1::2]] for name, pairs in spoken.items()},
    )


# ---- the table ---------------------------------------------------------------------------------------------


def built(task: Task, mode: str, out: Path, **changes: Any) -> int:
    """Make a mixture with mergecore in a process of its own; its peak of memory in MB."""
    chat = {"chat_prompts": True} if task.chat and "random" not in mode else {}
    document = task.document(mode, **chat, **changes)
    return _called([sys.executable, "-m", "mergecore", "merge"], document, out)


def built_by_mergekit(task: Task, mode: str, out: Path, command: str) -> int:
    """The same with mergekit-moe."""
    return _called([command], task.document(mode), out)


def _called(command: Sequence[str], document: Mapping[str, Any], out: Path) -> int:
    config = out.with_suffix(".json")  # JSON is YAML
    config.write_text(json.dumps(document))
    called = [*command, str(config), str(out)]
    used = usage_of(called, {"HF_HUB_OFFLINE": "1"})
    if used.exit_code:
        raise click.ClickException(f"{' '.join(called)}\n{used.output_tail}")
    return used.peak_resident // 1_000_000


def rows_of(task: Task, work: Path, mergekit: str | None, modes: Sequence[str]) -> Iterator[str]:
    """The lines of the table, as they are found."""
    names = [*task.experts]
    asked = [
        "",
        "first choice right",
        "worst layer",
        "share of first",
        *(f"perplexity, {one}" for one in names),
    ]
    yield f"| {' | '.join([*asked, 'memory'])} |"
    yield f"|{' --- |' * (len(asked) + 1)}"
    dense = {"base": task.base, **task.experts}
    for name, folder in dense.items():
        yield _line(f"`{name}` alone", measure(folder, task.texts), None)
    for mode in modes:
        out = work / f"ours-{mode}"
        memory = built(task, mode, out)
        yield _line(f"`{mode}`", measure(out, task.texts), memory)
        if mergekit and mode != "router_input":
            out = work / f"mergekit-{mode}"
            memory = built_by_mergekit(task, mode, out, mergekit)
            yield _line(f"`{mode}`, mergekit", measure(out, task.texts), memory)


def _line(label: str, routed: Routed, memory: int | None) -> str:
    shares = [
        "" if one is None else f"{100 * one:.1f} %" for one in (routed.right, routed.worst, routed.share)
    ]
    losses = [f"{one:.2f}" for one in routed.perplexities]
    return f"| {' | '.join([label, *shares, *losses, '' if memory is None else f'{memory} MB'])} |"


@click.command()
@click.option("--smollm2", "real", type=click.Path(path_type=Path), help="Folder with base and tuned.")
@click.option("--mergekit", metavar="COMMAND", help="mergekit-moe, to be measured beside.")
@click.option(
    "--workdir", type=click.Path(path_type=Path), help="Where models are made; a temporary folder else."
)
@click.option("--modes", default=",".join(MODES), help="Gate modes, with commas between them.")
def main(real: Path | None, mergekit: str | None, workdir: Path | None, modes: str) -> None:
    """Print the table of all gate modes."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=workdir, prefix="routers-") as temporary:
        work = Path(temporary)
        task = of_smollm2(real.resolve()) if real else of_languages(work, languages.Schedule())
        for line in rows_of(task, work, mergekit, modes.split(",")):
            click.echo(line)


if __name__ == "__main__":
    main()
