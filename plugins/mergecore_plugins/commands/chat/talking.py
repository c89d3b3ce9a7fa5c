"""A conversation with one model, or with several that answer the same lines; read `talk`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from mergecore import InputError, Registry
from mergecore_plugins.evaluation.loading import check_makes_text
from mergecore_plugins.evaluation.models import Place, opened

RESET = "/reset"


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
    """What a model says; `complete` where it ended by itself, before it had said as much as it may.

    full: whether it may say no more since its context is full.
    """

    text: str
    complete: bool
    full: bool = False

    def shown(self) -> str:
        """The text, and what a reader should know of it."""
        why = "its context is full" if self.full else "--max-tokens"
        return f"{self.text or '(nothing)'}{'' if self.complete else f' [cut off: {why}]'}"


@dataclass
class Conversation:
    """A model, and what was said."""

    model: Answering
    asked: Asked
    said: list[dict[str, str]] = field(default_factory=list)

    def ask(self, line: str) -> Answer:
        """What the model says to a line, after what was said before if it is one that chats.

        Raises:
            InputError: E271 when the model takes no more tokens; the line then counts as not said.
        """
        chats = bool(getattr(self.model.tokenizer, "chat_template", None)) and not self.asked.raw
        if not chats:
            return self._answer(self._opening(line))
        said = [*self.said, {"role": "user", "content": line}]
        tokens = self.model.tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=True)
        answer = self._answer([*tokens["input_ids"]])
        self.said = [*said, {"role": "assistant", "content": answer.text}]
        return answer

    def _opening(self, line: str) -> list[int]:
        """The tokens of a line that goes on; a model that reads it first, and then answers, gets its end, too."""
        from mergecore_plugins.evaluation.evaluators.tokens import opening_by

        if self.model.module.config.is_encoder_decoder:
            return [*self.model.tokenizer(line).input_ids]
        return opening_by(self.model.tokenizer, line)

    def _answer(self, tokens: Sequence[int]) -> Answer:
        import torch

        from mergecore_plugins.evaluation.evaluators.answers import likeliest

        if not tokens:
            return Answer("", complete=True)  # the tokenizer knows nothing of the line
        module, most, pad = self.model.module, self._most(tokens), self.model.tokenizer.pad_token_id or 0
        ids = torch.tensor([tokens], device=module.device)
        heat = self.asked.temperature
        torch.manual_seed(self.asked.seed)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.inference_mode():
            if heat:
                drawn = {"do_sample": True, "temperature": heat, "max_new_tokens": most, "pad_token_id": pad}
                made = module.generate(**given, **drawn)
            else:
                with likeliest(module, most, pad):
                    made = module.generate(**given)
        start = 1 if module.config.is_encoder_decoder else len(tokens)
        new = made[0, start:].tolist()
        text = self.model.tokenizer.decode(new, skip_special_tokens=True).strip()
        return Answer(text, len(new) < most or new[-1] in self._ends(), full=most < self.asked.max_tokens)

    def _most(self, tokens: Sequence[int]) -> int:
        """How many tokens an answer may have."""
        from mergecore_plugins.evaluation.evaluators.tokens import longest_in

        config = self.model.module.config
        longest = None if config.is_encoder_decoder else longest_in(config)
        if longest is None:
            return self.asked.max_tokens
        if len(tokens) >= longest:
            what = f"{self.model.name}: what was said has {len(tokens)} tokens; it takes {longest} with the answer"
            raise InputError("E271", what, hint="say less, or begin anew with /reset")
        return min(self.asked.max_tokens, longest - len(tokens))

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
            try:
                answer = one.ask(line)
            except InputError as error:
                if prompts or not sys.stdin.isatty():
                    raise
                click.echo(f"error {error.code}: {error}", err=True)  # who types goes on
                continue
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
