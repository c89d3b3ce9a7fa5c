"""Evaluators: how good is a model?  Read `Evaluator`, then `EvaluatedModel`, which it gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol

from mergecore.types.evaluation.scores import Score, Watch
from mergecore.types.params import NO_PARAMS, P


class EvaluatedModel(Protocol):
    """A model that is evaluated: a folder, one of a hub, an adapter on its base, or a merge that is not written."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def identity(self) -> str:
        """A digest of its content: weights, config, tokenizer.  Of a merge, of all that decides them."""

    @property
    def parents(self) -> Sequence[EvaluatedModel]:
        """The models that it was merged from, as far as that is known and they can be opened; base first."""

    def config(self) -> Any:
        """Its config, of transformers; no weight is read.

        Raises:
            MergecoreError: E224 when transformers cannot read it.
        """

    def module(self) -> Any:
        """The model of transformers that its config names, on the device of the evaluation, in `eval()` mode.

        It is made when it is first asked for, and is the same until `release`.

        Raises:
            MergecoreError: E221 for weights that its class lacks, E224 when transformers has no class for it.
        """

    def tokenizer(self) -> Any:
        """Its tokenizer, of transformers; no weight is read.

        Raises:
            MergecoreError: E240 when it has none that can be read.
        """

    def folder(self) -> Path:
        """A folder with its weights and files; a merge is written to one for the time of the evaluation."""

    def open(self, reference: str) -> EvaluatedModel:
        """Another model, named as in a config, on the same device.

        Raises:
            MergecoreError: what is wrong with it.
        """

    def release(self) -> None:
        """Forget module and tokenizer, so that their memory is free; they are made again when they are asked for."""


def _nothing_to_check(params: Any, models: Sequence[EvaluatedModel]) -> None:
    return None


def _no_files(params: Any) -> Iterable[Path]:
    return ()


def _no_models(model: EvaluatedModel, params: Any) -> Iterable[EvaluatedModel]:
    return ()


def _no_test_set(params: Any) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Evaluator(Generic[P]):
    """A way to say how good a model is.

    name: what configs call it.
    evaluate: the scores of a model.  It tells `Watch` now and then how far it is, and the scores so far; samples are
        done in the order of the data.  The same model, parameters and files give the same scores.
    params: the parameters that it takes, a class of `Params`.
    check: raises a `MergecoreError` for everything that is wrong with parameters, data, and what the models lack for
        it, such as a chat template; `models` is empty where they are not known yet.  It reads no weight.
    files: the files whose content decides the scores beside the model, such as data.
    compared: the models that the scores depend on beside the one that is evaluated, such as those it is compared with.
    public_test_set: the name of the benchmark whose public test set is asked for; None for the user's own data.
        `mergecore search` refuses such an objective.
    keeps_models: whether modules and tokenizers are certainly as they were after it, hooks and settings included.
        Where that is not so, they are made anew for whoever asks next, which takes time.
    summary: what it measures, in one line of at most 59 characters, for lists.

    A parameter `limit`, None or how many samples to take at most, is set by `--limit` too.  Paths in parameters are
    relative to the file that names them: fields of type `Path` are resolved before `check`.
    """

    name: str
    evaluate: Callable[[EvaluatedModel, P, Watch], Iterable[Score]]
    params: type[P] = NO_PARAMS
    summary: str = ""
    check: Callable[[P, Sequence[EvaluatedModel]], None] = _nothing_to_check
    files: Callable[[P], Iterable[Path]] = _no_files
    compared: Callable[[EvaluatedModel, P], Iterable[EvaluatedModel]] = _no_models
    public_test_set: Callable[[P], str | None] = _no_test_set
    keeps_models: bool = False
