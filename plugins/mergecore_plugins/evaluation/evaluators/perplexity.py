"""perplexity: how well a model predicts texts, token by token.

Each text is a sample.  It is cut into windows; of each but the first, only the tokens that no window before has
predicted count.  The value is exp of the mean of -log p over all tokens of all texts, so long texts count more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mergecore import Evaluator, Field, InputError, Params, hookimpl
from mergecore.errors import Collector
from mergecore.types import EvaluatedModel, EvaluationProgress, Score, Watch
from mergecore_plugins.evaluation.evaluators.data import Split

DEFAULT_WINDOW = 1024


class PerplexityParams(Params):
    """Texts, and how they are cut."""

    texts: Path | tuple[Path, ...] = Field(
        description="files of texts: .jsonl, or anything else as plain text"
    )
    field: str = Field(default="text", description="of a .jsonl file, where each line has its text")
    split: Split = Field(default="paragraph", description="what a sample is in a plain text")
    window: int | None = Field(
        default=None,
        ge=2,
        description="tokens that are seen at once; 1024 if nothing is said, or all the model takes",
    )
    stride: int | None = Field(
        default=None,
        ge=1,
        description="how far one window lies behind the one before; half a window if nothing is said",
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        description="windows that are run together; 1 on the host, 8 elsewhere if nothing is said",
    )
    limit: int | None = Field(default=None, ge=1, description="take this many texts at most, the first ones")


@dataclass(frozen=True)
class Text:
    """The windows of a text, and its bytes."""

    windows: Sequence[Any]
    nbytes: int


def files(params: Any) -> tuple[Path, ...]:
    """The files of texts."""
    return params.texts if isinstance(params.texts, tuple) else (params.texts,)


def read(params: Any) -> list[str]:
    """The texts.

    Raises:
        InputError: E270 for all that is wrong with the files.
    """
    from mergecore_plugins.evaluation.evaluators.data import texts

    return texts(files(params), params.field, params.split, params.limit)


def check(params: PerplexityParams, models: Sequence[EvaluatedModel]) -> None:
    """Raise for what is wrong with the texts, and with models that cannot predict them."""
    from mergecore_plugins.evaluation.evaluators.tokens import check_causal

    problems = Collector()
    with problems.collecting():
        read(params)
    with problems.collecting():
        check_causal(models)
    for model in models if not problems.errors else ():
        with problems.collecting():
            windows_of(model, params)
    problems.raise_any()


def windows_of(model: EvaluatedModel, params: Any) -> tuple[int, int]:
    """Window and stride for a model.

    Raises:
        InputError: E271 when the model takes fewer tokens, or tokens would be left out.
    """
    from mergecore_plugins.evaluation.evaluators.tokens import longest_of

    longest = longest_of(model)
    window = params.window or min(DEFAULT_WINDOW, longest or DEFAULT_WINDOW)
    if longest is not None and window > longest:
        what = f"{model.name}: it takes {longest} tokens at once; the window has {window}"
        raise InputError("E271", what, hint=f"window: {longest}")
    stride = params.stride or max(1, window // 2)
    if stride >= window:
        what = f"{model.name}: with a stride of {stride}, windows of {window} tokens do not overlap"
        raise InputError("E271", what, hint=f"stride: {window // 2}")
    return window, stride


def cut(ids: Sequence[int], window: int, stride: int) -> Iterator[Any]:
    """The windows of a text; each predicts what no earlier one has."""
    from mergecore_plugins.evaluation.evaluators.tokens import Tokens

    done = 1  # nothing stands before the first token, which nothing predicts
    for start in range(0, len(ids), stride):
        end = min(start + window, len(ids))
        if end > done:
            yield Tokens(tuple(ids[start:end]), max(done - start, 1))
            done = end
        if end == len(ids):
            return


def evaluate(model: EvaluatedModel, params: PerplexityParams, watch: Watch) -> Iterator[Score]:
    """`perplexity`, and `bits_per_byte`, which models of different tokenizers can be compared by."""
    from mergecore_plugins.evaluation.evaluators.tokens import batch_of, losses

    tokenizer, (window, stride) = model.tokenizer(), windows_of(model, params)
    texts = [
        Text([*cut(tokenizer(text).input_ids, window, stride)], len(text.encode())) for text in read(params)
    ]
    windows = [one for text in texts for one in text.windows]
    if not windows:
        what = f"{model.name}: no text has two tokens"
        raise InputError("E271", what, hint="name longer texts, or 'split: file'")
    module = model.module()
    batch = batch_of(params.batch, module)
    found = losses(module, windows, batch)
    sums: list[float] = []
    told = 0
    for text in texts:
        sums.append(math.fsum(next(found) for _ in text.windows))
        if len(sums) == len(texts) or len(sums) - told >= batch:
            told = len(sums)
            scores = tuple(_scores(texts[:told], sums))
            if scores:
                watch(EvaluationProgress(done=told, total=len(texts), scores=scores))
    yield from _scores(texts, sums)


def _scores(texts: Sequence[Text], sums: Sequence[float]) -> Iterator[Score]:
    tokens = [sum(one.predicted for one in text.windows) for text in texts]
    if not sum(tokens):
        return
    means = [loss / count if count else 0.0 for loss, count in zip(sums, tokens, strict=True)]
    score = partial(Score, goal="min", samples=len(texts))
    yield score(
        name="perplexity",
        value=_exp(math.fsum(sums) / sum(tokens)),
        per_sample=tuple(means),
        weights=tuple(map(float, tokens)),
        scale="exp",
    )
    nbytes = [text.nbytes for text in texts]
    bits = [loss / math.log(2) for loss in sums]
    yield score(
        name="bits_per_byte",
        value=math.fsum(bits) / sum(nbytes),
        per_sample=tuple(one / count for one, count in zip(bits, nbytes, strict=True)),
        weights=tuple(map(float, nbytes)),
    )


def _exp(value: float) -> float:
    """exp, infinite where it is more than a float holds."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


@hookimpl
def mergecore_evaluators() -> Iterable[Evaluator[PerplexityParams]]:
    """Yield `perplexity`."""
    yield Evaluator(
        name="perplexity",
        evaluate=evaluate,
        params=PerplexityParams,
        summary="how well a model predicts texts",
        check=check,
        files=files,
        keeps_models=True,
    )
