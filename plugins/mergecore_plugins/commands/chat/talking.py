"""A conversation with one model, or with several that answer the same lines; read `talk`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from mergecore import Registry
from mergecore_plugins.evaluation.loading import check_makes_text
from mergecore_plugins.evaluation.models import Place, opened

RESET = "/reset"
_GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
"""Always the likeliest token, whatever the generation config says of chance."""


@dataclass(frozen=True)
class Asked:
    """How models are asked; the options of the command."""

    raw: bool = False
    max_tokens: int = 200
    temperature: float = 0.0
    seed: int = 0
    device: str = "cpu"
    offline: bool = False
    as_json: bool = False


@dataclass(frozen=True)
class Answering:
    """A model that makes text, with its tokenizer."""

    name: str
    module: Any
    tokenizer: Any


def loaded(name: str, place: Place) -> Answering:
    """The model that a config makes, or that has this name, in memory.

    Raises:
        MergecoreError: what is wrong with config or model; E224 when transformers cannot make text with it, E240
            when it has no tokenizer.
    """
    model = opened(name, place=place)
    check_makes_text(name, model.plan.side_files, "chat with a language model")
    tokenizer = model.tokenizer()
    return Answering(name, model.module(), tokenizer)


@dataclass(frozen=True)
class Answer:
    """What a model says; `complete` where it ended by itself, before it had said as much as it may."""

    text: str
    complete: bool

    def shown(self) -> str:
        """The text, and what a reader should know of it."""
        return f"{self.text or '(nothing)'}{'' if self.complete else ' [cut off: --max-tokens]'}"


@dataclass
class Conversation:
    """A model, and what was said."""

    model: Answering
    asked: Asked
    said: list[dict[str, str]] = field(default_factory=list)

    def ask(self, line: str) -> Answer:
        """What the model says to a line, after what was said before if it is one that chats."""
        chats = bool(getattr(self.model.tokenizer, "chat_template", None)) and not self.asked.raw
        if not chats:
            return self._answer(self.model.tokenizer(line, return_tensors="pt"))
        self.said.append({"role": "user", "content": line})
        tokens = self.model.tokenizer.apply_chat_template(
            self.said, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        answer = self._answer(tokens)
        self.said.append({"role": "assistant", "content": answer.text})
        return answer

    def _answer(self, tokens: object) -> Answer:
        import torch

        given = {name: one.to(self.model.module.device) for name, one in dict(tokens).items()}  # type: ignore[call-overload]
        given.pop("token_type_ids", None)
        before = given["input_ids"].shape[1]
        if not before:
            return Answer("", complete=True)  # the tokenizer knows nothing of the line
        torch.manual_seed(self.asked.seed)
        with torch.inference_mode():
            made = self.model.module.generate(
                **given,
                **_GREEDY
                if not self.asked.temperature
                else {"do_sample": True, "temperature": self.asked.temperature},
                max_new_tokens=self.asked.max_tokens,
                pad_token_id=self.model.tokenizer.pad_token_id or 0,
            )
        new = made[0, before:].tolist()
        text = self.model.tokenizer.decode(new, skip_special_tokens=True).strip()
        return Answer(text, len(new) < self.asked.max_tokens or new[-1] in self._ends())

    def _ends(self) -> list[int]:
        """The tokens that end an answer."""
        known = self.model.module.generation_config.eos_token_id
        return known if isinstance(known, list) else [known]


def talk(names: Sequence[str], prompts: Sequence[str], asked: Asked, registry: Registry) -> None:
    """Print what each model says to each of the prompts, or of the lines that are typed.

    Raises:
        MergecoreError: what is wrong with a config or a model, before anything is asked.
    """
    place = Place(registry, device=asked.device, offline=asked.offline)
    models = [Conversation(loaded(name, place), asked) for name in names]
    width = max(len(name) for name in names)
    for line in prompts or _typed():
        if line.strip() == RESET:
            for one in models:
                one.said.clear()
            continue
        for one in models:
            answer = one.ask(line)
            if asked.as_json:
                facts = {
                    "model": one.model.name,
                    "prompt": line,
                    "answer": answer.text,
                    "complete": answer.complete,
                }
                click.echo(json.dumps(facts))
            else:
                label = f"{one.model.name:<{width}}  " if len(models) > 1 else ""
                click.echo(f"{label}{answer.shown()}")


def _typed() -> Iterator[str]:
    """The lines of standard input that are not empty, asked for where somebody types."""
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        return
    while True:
        try:
            line = input("> ")
        except EOFError:
            click.echo()
            return
        if line.strip():
            yield line
