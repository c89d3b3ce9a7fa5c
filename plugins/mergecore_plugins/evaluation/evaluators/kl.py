"""kl: how far the next tokens that a model expects lie from those that its parents expect, or another model.

For every token of the texts, the divergence KL(other || model) of the two distributions of the next token, in nats; the
value is the mean over all of them.  Texts are cut as those of `perplexity`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

from mergecore import Evaluator, Field, InputError, hookimpl
from mergecore.errors import Collector
from mergecore.types import EvaluatedModel, EvaluationProgress, Score, Watch
from mergecore_plugins.evaluation import MODEL
from mergecore_plugins.evaluation.evaluators.perplexity import (
    PerplexityParams,
    cut,
    files,
    read,
    windows_of,
)
from mergecore_plugins.evaluation.evaluators.perplexity import check as check_texts

if TYPE_CHECKING:
    from torch import Tensor


class KlParams(PerplexityParams):
    """Texts, how they are cut, and the model to compare with."""

    to: Annotated[str | None, MODEL] = Field(
        default=None, description="the model to compare with; the parents if nothing is said"
    )


@dataclass
class _Divergence:
    """How far one model lies from another, so far: sums over the tokens of texts, and their numbers."""

    name: str
    sums: list[float] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)

    def score(self) -> Score:
        """The mean over all tokens."""
        means = [a / b if b else 0.0 for a, b in zip(self.sums, self.counts, strict=True)]
        return Score(
            name=self.name,
            value=math.fsum(self.sums) / math.fsum(self.counts),
            goal="min",
            samples=len(means),
            per_sample=tuple(means),
            weights=tuple(self.counts),
        )


def compared(model: EvaluatedModel, params: KlParams) -> Sequence[EvaluatedModel]:
    """The models that it is compared with."""
    return [model.open(params.to)] if params.to else list(model.parents)


def check(params: KlParams, models: Sequence[EvaluatedModel]) -> None:
    """Raise for what is wrong with the texts, and with models that have nothing to be compared with."""
    problems = Collector()
    with problems.collecting():
        check_texts(params, models)
    for model in models if not problems.errors else ():
        with problems.collecting():
            others = compared(model, params)
            if not others:
                what = f"{model.name}: its parents are not known"
                raise InputError("E271", what, hint="name a model to compare with: 'to: MODEL'")
            check_texts(params, others)
            window, _ = windows_of(model, params)
            for other in others:
                _check_vocabulary(model, other)
                _check_window(other, window)
    problems.raise_any()


def _check_vocabulary(model: EvaluatedModel, other: EvaluatedModel) -> None:
    if model.tokenizer().get_vocab() != other.tokenizer().get_vocab():
        what = f"{model.name}: its vocabulary is not that of {other.name}, so their next tokens cannot be compared"
        raise InputError("E271", what, hint="`mergecore tokenizer diff` shows how they differ")


def _check_window(other: EvaluatedModel, window: int) -> None:
    from mergecore_plugins.evaluation.evaluators.tokens import longest_of

    longest = longest_of(other)
    if longest is not None and window > longest:
        what = f"{other.name}: it takes {longest} tokens at once; the window has {window}"
        raise InputError("E271", what, hint=f"window: {longest}")


def _names(others: Sequence[EvaluatedModel]) -> list[str]:
    """A name for the score of each, of what such names can hold; no two are the same."""
    if len(others) == 1:
        return ["kl"]
    found: dict[int, str] = {}
    for index in sorted(range(len(others)), key=lambda index: bool(_ODD.search(others[index].name))):
        plain = f"kl:{_ODD.sub('_', others[index].name)}"
        tries = (plain if number == 1 else f"{plain}-{number}" for number in count(1))
        found[index] = next(one for one in tries if one not in found.values())
    return [found[index] for index in range(len(others))]


def evaluate(model: EvaluatedModel, params: KlParams, watch: Watch) -> Iterator[Score]:
    """`kl` to the model that is named; to each of several parents, `kl:NAME`, and `kl` is their mean."""
    others = compared(model, params)
    from mergecore_plugins.evaluation.evaluators.tokens import batch_of

    window, stride = windows_of(model, params)
    for other in others:
        _check_window(other, window)
    tokenizer = model.tokenizer()
    texts = [[*cut(tokenizer(text).input_ids, window, stride)] for text in read(params)]
    if not any(texts):
        what = f"{model.name}: no text has two tokens"
        raise InputError("E271", what, hint="name longer texts, or 'split: file'")
    total = len(texts) * len(others)
    batch = batch_of(params.batch, model.module())
    found: list[_Divergence] = []
    for other, name in zip(others, _names(others), strict=True):
        found.append(_Divergence(name))
        for sums, counts in _of_texts(model.module(), other.module(), texts, batch):
            found[-1].sums.append(sums)
            found[-1].counts.append(counts)
            done = (len(found) - 1) * len(texts) + len(found[-1].sums)
            if done % batch == 0 or done == total:
                told = tuple(one.score() for one in found if sum(one.counts))
                watch(EvaluationProgress(done=done, total=total, scores=told))
        other.release()
    scores = [one.score() for one in found]
    if len(scores) > 1:
        yield _mean(scores)
    yield from scores


_ODD = re.compile(r"[^\w.:/@+-]")
"""What the name of a score cannot hold."""


def _mean(scores: Sequence[Score]) -> Score:
    """The mean over several models; all have the same samples and weights."""
    one = scores[0]
    samples = tuple(
        math.fsum(each) / len(scores) for each in zip(*(s.per_sample for s in scores), strict=True)
    )
    value = math.fsum(score.value for score in scores) / len(scores)
    return Score(
        name="kl", value=value, goal="min", samples=one.samples, per_sample=samples, weights=one.weights
    )


def _of_texts(
    module: Any, other: Any, texts: Sequence[Sequence[Any]], batch: int
) -> Iterator[tuple[float, float]]:
    """For each text the sum over its tokens, and their number."""
    import torch

    from mergecore_plugins.evaluation.evaluators.tokens import batches, groups

    windows = [one for text in texts for one in text]

    def each() -> Iterator[float]:
        for group in groups(windows, batch):
            found: dict[int, float] = {}
            for one in batches(windows, group, batch, module.device):
                with torch.inference_mode():
                    ours, theirs = module(**one.given).logits, other(**one.given).logits
                    for row, index in enumerate(one.which):
                        span = slice(windows[index].first - 1, len(windows[index].ids) - 1)
                        found[index] = _divergence(theirs[row, span], ours[row, span])
            yield from (found[index] for index in group)

    sums = each()
    for text in texts:
        yield math.fsum(next(sums) for _ in text), float(sum(one.predicted for one in text))


def _divergence(theirs: Tensor, ours: Tensor) -> float:
    """The sum of KL(theirs || ours) over rows of logits, in float32; rows beyond the smaller vocabulary are padding."""
    import torch

    width = min(theirs.shape[-1], ours.shape[-1])
    total = 0.0
    for p, q in zip(theirs[:, :width].split(256), ours[:, :width].split(256), strict=True):
        log_p, log_q = torch.log_softmax(p.float(), -1), torch.log_softmax(q.float(), -1)
        total += (log_p.exp() * (log_p - log_q)).sum(-1).double().sum().item()
    return total


@hookimpl
def mergecore_evaluators() -> Iterable[Evaluator[KlParams]]:
    """Yield `kl`."""
    yield Evaluator(
        name="kl",
        evaluate=evaluate,
        params=KlParams,
        summary="how far its next tokens lie from those of its parents",
        check=check,
        files=files,
        compared=compared,
        keeps_models=True,
    )
