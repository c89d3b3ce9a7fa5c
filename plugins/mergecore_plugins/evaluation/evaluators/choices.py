"""choices: multiple choice; the answer of a model is the choice that it finds the likeliest after the question.

A line of the data is `{"prompt": …, "choices": […, …], "answer": …}`; the answer is the number of the right
choice, from 0, or its text.  `accuracy` goes by the sum of log p over the tokens of a choice, `accuracy_norm` by
that over its letters.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mergecore import Evaluator, Field, InputError, Params, hookimpl
from mergecore.errors import Collector
from mergecore.types import EvaluatedModel, EvaluationProgress, Json, Score, Watch

if TYPE_CHECKING:
    from mergecore_plugins.evaluation.evaluators.data import Row
    from mergecore_plugins.evaluation.evaluators.tokens import Tokens


class ChoicesParams(Params):
    """Questions, and how choices are put behind them."""

    data: Path | tuple[Path, ...] = Field(
        description="JSONL files, a question a line: prompt, choices, answer"
    )
    between: str = Field(default=" ", description="what stands between a question and a choice")
    batch: int | None = Field(
        default=None,
        ge=1,
        description="choices that are run together; 1 on the host, 8 elsewhere if nothing is said",
    )
    limit: int | None = Field(
        default=None, ge=1, description="take this many questions at most, the first ones"
    )


@dataclass(frozen=True)
class Question:
    """A question; `answer` is the index of the right choice."""

    prompt: str
    choices: tuple[str, ...]
    answer: int


def files(params: ChoicesParams) -> tuple[Path, ...]:
    """The files of questions."""
    return params.data if isinstance(params.data, tuple) else (params.data,)


def read(params: ChoicesParams) -> list[Question]:
    """The questions.

    Raises:
        InputError: E270 for all that is wrong with the files.
    """
    from mergecore_plugins.evaluation.evaluators.data import rows

    return rows(files(params), _question, params.limit)


def _question(row: Row) -> Question:
    prompt, choices = row.text("prompt", "question"), row.values.get("choices")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(one, str) for one in choices):
        raise row.fault("'choices' is not a list of two texts or more", 'write "choices": ["…", "…"]')
    texts = tuple(str(one) for one in choices)
    if len(set(texts)) < len(texts) or not all(one.strip() for one in texts):
        raise row.fault("two choices are the same, or one is empty", "each choice needs a text of its own")
    return Question(prompt, texts, _answer(row, row.values.get("answer"), texts))


def _answer(row: Row, given: Json, choices: Sequence[str]) -> int:
    """The index of the right choice."""
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(choices):
        return given
    if isinstance(given, str) and given in choices:
        return choices.index(given)
    what = f"'answer' is {given!r}; a number from 0 to {len(choices) - 1}, or one of the choices, is expected"
    raise row.fault(what, "the first choice is 0")


def check(params: ChoicesParams, models: Sequence[EvaluatedModel]) -> None:
    """Raise for what is wrong with the questions, and with models that cannot answer them."""
    from mergecore_plugins.evaluation.evaluators.tokens import check_causal

    problems = Collector()
    questions: list[Question] = []
    with problems.collecting():
        questions = read(params)
    with problems.collecting():
        check_causal(models)
    for model in models if not problems.errors else ():
        with problems.collecting():
            for one in questions:
                deque(_sequences(model, one, params.between), maxlen=0)
    problems.raise_any()


def evaluate(model: EvaluatedModel, params: ChoicesParams, watch: Watch) -> Iterator[Score]:
    """`accuracy` and `accuracy_norm`."""
    from mergecore_plugins.evaluation.evaluators.tokens import batch_of, losses
    from mergecore_plugins.evaluation.faults import not_finite

    questions = read(params)
    asked = [[*_sequences(model, one, params.between)] for one in questions]
    module = model.module()
    batch = batch_of(params.batch, module)
    found = losses(module, [one for choices in asked for one in choices], batch)
    plain: list[float] = []
    normed: list[float] = []
    for number, one in enumerate(questions, 1):
        each = [*islice(found, len(one.choices))]
        if not all(map(math.isfinite, each)):  # no number is the least of them
            raise not_finite(model.name, "log p of a choice")
        plain.append(float(_least(each) == one.answer))
        letters = [len(choice) for choice in one.choices]
        normed.append(float(_least([a / b for a, b in zip(each, letters, strict=True)]) == one.answer))
        if number == len(questions) or number % batch == 0:
            scores = (*_scores(plain, normed),)
            watch(EvaluationProgress(done=number, total=len(questions), scores=scores))
    yield from _scores(plain, normed)


def _least(numbers: Sequence[float]) -> int:
    """The index of the least; of several, the first."""
    return min(range(len(numbers)), key=numbers.__getitem__)


def _scores(plain: Sequence[float], normed: Sequence[float]) -> Iterator[Score]:
    score = partial(Score, goal="max", samples=len(plain))
    yield score(name="accuracy", value=sum(plain) / len(plain), per_sample=tuple(plain))
    yield score(name="accuracy_norm", value=sum(normed) / len(normed), per_sample=tuple(normed))


def _sequences(model: EvaluatedModel, question: Question, between: str) -> Iterator[Tokens]:
    """The tokens of question and choice, those of the choice to be predicted.

    What separates the two belongs to the choice, as most tokenizers join it with the word behind.
    """
    from mergecore_plugins.evaluation.evaluators.tokens import Tokens, first_token, longest_of, opening

    longest = longest_of(model)
    prompt = question.prompt.rstrip()
    between = question.prompt[len(prompt) :] + between if prompt else between
    before = opening(model, prompt)
    begin = first_token(model)
    if not before and begin is None:
        what = f"{model.name}: its tokenizer has no token to begin a text with, and a prompt is empty"
        raise InputError("E271", what, hint="write prompts that are not empty")
    for choice in question.choices:
        whole = opening(model, prompt + between + choice)
        first = len(before)
        if not before and begin is not None:
            whole, first = [begin, *whole], 1
        if first >= len(whole):
            first = max(1, len(whole) - 1)
        if longest is not None and len(whole) > longest:
            cut = min(len(whole) - longest, first - 1)
            whole, first = (
                whole[cut:],
                first - cut,
            )  # what stands first is left out, as a model would not see it
        if longest is not None and len(whole) > longest:
            what = f"{model.name}: it takes {longest} tokens at once; a choice has {len(whole) - first}"
            raise InputError("E271", what, hint="write shorter choices, or leave the question out")
        yield Tokens(tuple(whole), first)


@hookimpl
def mergecore_evaluators() -> Iterable[Evaluator[ChoicesParams]]:
    """Yield `choices`."""
    yield Evaluator(
        name="choices",
        evaluate=evaluate,
        params=ChoicesParams,
        summary="the share of multiple choice questions answered rightly",
        check=check,
        files=files,
        keeps_models=True,
    )
