"""Answers that a model makes, in batches padded on the left, and whether they are right; read `answers`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from mergecore.files import searcher
from mergecore.types import EvaluatedModel
from mergecore_plugins.evaluation.evaluators.tokens import first_token, groups
from mergecore_plugins.evaluation.faults import not_finite

Compare = Literal["exact", "normalised", "regex", "numeric"]
TOKENS_AT_ONCE = 8192


@dataclass(frozen=True)
class Answer:
    """What a model says; `truncated` where it had more to say than it may."""

    text: str
    truncated: bool


def answers(
    model: EvaluatedModel, prompts: Sequence[Sequence[int]], most: int, stop: Sequence[str], batch: int
) -> Iterator[Answer]:
    """The likeliest answer to each prompt, in order: always the likeliest token, `most` of them.

    prompts: tokens.  stop: an answer ends before the first of these texts.

    Raises:
        MergeError: E409 where a token has no finite number.
    """
    import torch

    module, tokenizer = model.module(), model.tokenizer()
    for group in groups(prompts, batch):
        found: dict[int, Answer] = {}
        for which in _batches(prompts, group, batch, most):
            tokens = _padded([prompts[index] for index in which], _pad(model), module.device)
            longest = tokens["input_ids"].shape[1]
            with torch.inference_mode(), likeliest(module, most, _pad(model)):
                made = module.generate(
                    **tokens,
                    stopping_criteria=_stopping(tokenizer, stop, longest),
                    logits_processor=_finite(model.name),
                )
            ends = _ends(module)
            for row, index in enumerate(which):
                found[index] = _answer(made[row, longest:].tolist(), tokenizer, ends, stop, most)
        yield from (found[index] for index in group)


@contextmanager
def likeliest(module: Any, most: int, pad: int) -> Iterator[None]:
    """Have a model take the likeliest tokens while this lasts, whatever its generation_config.json says.

    Only the tokens that begin and end an answer are its own.  It is put into the model, as what is handed to
    `generate` is filled up with what the model has.
    """
    from transformers import GenerationConfig

    own = module.generation_config
    module.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
        eos_token_id=own.eos_token_id,
        pad_token_id=pad,
        do_sample=False,
        num_beams=1,
        max_new_tokens=most,
    )
    try:
        yield
    finally:
        module.generation_config = own


def _stopping(tokenizer: Any, stop: Sequence[str], start: int) -> list[Callable[..., Any]]:
    """What ends the answers in which one of the texts stands."""
    import torch

    def said(ids: Any, scores: Any, **_: Any) -> Any:
        texts = [tokenizer.decode(row[start:], skip_special_tokens=True) for row in ids]
        ended = [any(one in text for one in stop) for text in texts]
        return torch.tensor(ended, device=ids.device)

    return [said] if stop else []


def _finite(name: str) -> Any:
    """What raises E409 for next tokens of which none is the likeliest; one of -inf is never taken."""
    import torch
    from transformers import LogitsProcessorList

    def checked(ids: Any, scores: Any) -> Any:
        if not bool((scores < torch.inf).all()):
            raise not_finite(name, "a logit of the next token")
        return scores

    return LogitsProcessorList([checked])


def _answer(
    new: Sequence[int], tokenizer: Any, ends: Sequence[int], stop: Sequence[str], most: int
) -> Answer:
    """The text of an answer; what stands behind its end is padding."""
    end = next((place for place, token in enumerate(new) if token in ends), None)
    text = str(tokenizer.decode(new if end is None else new[:end], skip_special_tokens=True))
    places = [place for one in stop if (place := text.find(one)) >= 0]
    if places:
        return Answer(text[: min(places)].strip(), truncated=False)
    return Answer(text.strip(), truncated=end is None and len(new) >= most)


def _batches(
    prompts: Sequence[Sequence[int]], group: Sequence[int], batch: int, most: int
) -> Iterator[tuple[int, ...]]:
    """The prompts of a group in batches of about one length."""
    left = sorted(group, key=lambda index: -len(prompts[index]))
    while left:
        count = max(1, min(batch, TOKENS_AT_ONCE // (len(prompts[left[0]]) + most)))
        yield tuple(left[:count])
        left = left[count:]


def _padded(rows: Sequence[Sequence[int]], pad: int, device: Any) -> Mapping[str, Any]:
    """Rows of tokens that end together, since their next tokens stand side by side."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + [*row] for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _pad(model: EvaluatedModel) -> int:
    pad = model.tokenizer().pad_token_id
    return pad if pad is not None else first_token(model) or 0


def _ends(module: Any) -> list[int]:
    """The tokens that end an answer."""
    known = module.generation_config.eos_token_id
    return [] if known is None else known if isinstance(known, list) else [known]


# ---- whether they are right --------------------------------------------------------------------------------


def comparison(compare: Compare, expected: Sequence[str]) -> Callable[[str], bool]:
    """Whether an answer is one of those that are expected.

    Raises:
        ValueError: for an expected answer that is no number, or no regular expression.
    """
    if compare == "exact":
        return {one.strip() for one in expected}.__contains__
    if compare == "normalised":
        plain = {normalised(one) for one in expected}
        return lambda answer: normalised(answer) in plain
    if compare == "regex":
        patterns = [searcher(one) for one in expected]
        return lambda answer: any(search(answer) for search in patterns)
    numbers = [_only_number(one) for one in expected]
    return lambda answer: any(_alike(last_number(answer), one) for one in numbers)


def normalised(text: str) -> str:
    """A text without case, punctuation, articles and the kinds of its blanks."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(" " if unicodedata.category(one)[0] in "PZ" else one for one in plain)
    return " ".join(word for word in letters.split() if word not in ("a", "an", "the"))


_NUMBER = re.compile(r"(?<![\d.])[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?")


def last_number(text: str) -> float | None:
    """The last number of a text, such as -1,234.5; None where there is none."""
    found = [one for one in _NUMBER.findall(text) if any(letter.isdigit() for letter in one)]
    if not found:
        return None
    try:
        return float(found[-1].replace(",", "").replace("\u2212", "-"))
    except ValueError:
        return None


def _only_number(text: str) -> float:
    """The number that an expected answer is; GSM8K writes it behind `####`."""
    number = last_number(text.rpartition("####")[2])
    if number is None:
        raise ValueError(f"{text!r} holds no number")
    return number


def _alike(a: float | None, b: float) -> bool:
    return a is not None and abs(a - b) <= 1e-6 * max(1.0, abs(b))
