"""Checks of evaluators; read `check_evaluator`, then `EVALUATOR`."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from mergecore.config.parameters.declared import parameters_of
from mergecore.errors import ConfigError, InputError
from mergecore.testing.checkpoints import tiny_model
from mergecore.testing.findings import NotCheckedError, Property, demand, hold
from mergecore.types import EvaluatedModel, EvaluationProgress, Evaluator, Json, Score
from mergecore.types.params import Params


def check_evaluator(
    evaluator: Evaluator[Any],
    *,
    params: Params | Mapping[str, Json] | None = None,
    model: Path | str | EvaluatedModel | None = None,
    without: Collection[str] = (),
) -> None:
    """Check that an evaluator says the same of a model each time, and leaves the model as it is.

    params: its parameters, such as its data; None for the defaults.
    model: what it evaluates: the folder of a model that transformers loads, or a model of your own; None for a tiny
        Llama.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    with evaluator_case(evaluator, params, model) as case:
        hold(f"evaluator '{evaluator.name}'", EVALUATOR, case, without)


@dataclass
class FolderModel:
    """The model in a folder, as an evaluator gets it; counts how often its weights were asked for."""

    path: Path
    parents: Sequence[EvaluatedModel] = ()
    loads: int = 0
    made: list[Any] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def identity(self) -> str:
        """A word that no other model of the check has."""
        return f"{self.path}"

    def config(self) -> Any:
        """Its config."""
        import transformers

        return transformers.AutoConfig.from_pretrained(self.path)

    def module(self) -> Any:
        """The model of the class that its config names."""
        import transformers
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        if not self.made:
            self.loads += 1
            names = self.config().architectures or [""]
            kind = getattr(transformers, names[0], None)
            if kind is None:
                raise InputError("E224", f"{self.path}: transformers has no class {names[0]!r}")
            self.made.append(kind.from_pretrained(self.path, dtype="auto").eval())
        return self.made[0]

    def tokenizer(self) -> Any:
        """Its tokenizer."""
        import transformers

        return transformers.AutoTokenizer.from_pretrained(self.path)

    def folder(self) -> Path:
        """The folder."""
        return self.path

    def open(self, reference: str) -> EvaluatedModel:
        """The model in another folder."""
        return FolderModel(Path(reference))

    def release(self) -> None:
        """Forget the module; the tokenizer is made whenever it is asked for."""
        self.made.clear()


@dataclass
class EvaluatorCase:
    """An evaluator with its parameters, and a model that it evaluates."""

    evaluator: Evaluator[Any]
    params: Params
    model: EvaluatedModel

    def scores(self, params: Params | None = None) -> list[Score]:
        """What it says of the model."""
        return list(self.evaluator.evaluate(self.model, params or self.params, lambda progress: None))

    @cached_property
    def first(self) -> list[Score]:
        """What it says of the model when it is asked first."""
        return self.scores()


@contextmanager
def evaluator_case(
    evaluator: Evaluator[Any],
    params: Params | Mapping[str, Json] | None = None,
    model: Path | str | EvaluatedModel | None = None,
) -> Iterator[EvaluatorCase]:
    """A case for `EVALUATOR`."""
    with TemporaryDirectory() as folder:
        if model is None:
            parents = [FolderModel(tiny_model(Path(folder) / f"parent{seed}", seed=seed)) for seed in (1, 2)]
            model = FolderModel(tiny_model(Path(folder) / "model", seed=3), parents)
        elif isinstance(model, Path | str):
            model = FolderModel(Path(model))
        yield EvaluatorCase(evaluator, _read(evaluator, params), model)


def _read(evaluator: Evaluator[Any], params: Params | Mapping[str, Json] | None) -> Params:
    """The parameters; raises `NotCheckedError` where some are needed and none are given."""
    if isinstance(params, Params):
        return params
    try:
        made: Params = evaluator.params.model_validate(dict(params or {}))
    except ValidationError as error:
        if params is None:
            lacking = [name for name, one in parameters_of(evaluator.params).items() if one.required]
            raise NotCheckedError(f"it needs parameters: {', '.join(lacking)}") from None
        raise AssertionError(f"the parameters are wrong: {error.errors()[0]['msg']}") from error
    if params is None:
        try:
            evaluator.check(made, ())
        except ConfigError as error:  # such as one of two parameters, of which each alone may be left out
            raise NotCheckedError(f"it needs parameters: {error}") from None
    return made


# ---- properties --------------------------------------------------------------------------------------------


def _is_described(case: EvaluatorCase) -> None:
    demand(case.evaluator.summary, "it has no `summary`; say in one line what it measures")
    silent = [name for name, one in parameters_of(case.evaluator.params).items() if not one.help]
    demand(not silent, f"parameters have no description: {', '.join(silent)}; give them with `Field`")


def _checks_without_weights(case: EvaluatorCase) -> None:
    if not isinstance(case.model, FolderModel):
        raise NotCheckedError("whether weights are read is seen of folders only")
    case.model.release()
    before = case.model.loads
    case.evaluator.check(case.params, ())
    case.evaluator.check(case.params, (case.model,))
    demand(case.model.loads == before, "`check` asks for `module()`; look at data, config and tokenizer only")


def _files_are_there(case: EvaluatorCase) -> None:
    lacking = [str(path) for path in case.evaluator.files(case.params) if not Path(path).is_file()]
    demand(not lacking, f"`files` names what is not a file: {', '.join(lacking)}")


def _scores_are_sound(case: EvaluatorCase) -> None:
    demand(case.first, "`evaluate` yields no score")
    for score in case.first:
        demand(isinstance(score, Score), f"`evaluate` yields {type(score).__name__}; yield Score")
        demand(_WORD.fullmatch(score.name), f"a score is called {score.name!r}; one word is expected")
        demand(math.isfinite(score.value), f"'{score.name}' is {score.value}; a finite number is expected")
        demand(score.goal in ("min", "max"), f"the goal of '{score.name}' is {score.goal!r}, not min or max")
        demand(score.samples > 0, f"'{score.name}' is of {score.samples} samples; refuse data without any")
    names = [score.name for score in case.first]
    demand(len(set(names)) == len(names), f"two scores have one name: {', '.join(names)}")


_WORD = re.compile(r"[\w.:/@+-]+")


def _values_are_means(case: EvaluatorCase) -> None:
    if not any(score.per_sample for score in case.first):
        raise NotCheckedError("it has no numbers of single samples")
    for score in (one for one in case.first if one.per_sample):
        count = len(score.per_sample)
        demand(count == score.samples, f"'{score.name}' has {count} numbers for {score.samples} samples")
        weights = score.weights or (1.0,) * count
        demand(len(weights) == count, f"'{score.name}' has {len(weights)} weights for {count} samples")
        demand(min(weights) >= 0 and sum(weights) > 0, f"the weights of '{score.name}' are negative or all 0")
        total = math.fsum(a * b for a, b in zip(score.per_sample, weights, strict=True))
        mean = total / math.fsum(weights)
        value = math.exp(mean) if score.scale == "exp" else mean
        demand(
            math.isclose(score.value, value, rel_tol=1e-6, abs_tol=1e-9),
            f"'{score.name}' is {score.value:.9g}, but the mean of its samples gives {value:.9g}",
        )


def _says_the_same(case: EvaluatorCase) -> None:
    again = case.scores()
    demand(again == case.first, "asked again, it says something else; take random numbers from a seed")


def _leaves_the_model(case: EvaluatorCase) -> None:
    import torch

    module = case.model.module()
    before = {name: one.clone() for name, one in module.state_dict().items()}
    case.scores()
    after = case.model.module().state_dict()
    changed = [name for name, one in before.items() if not torch.equal(one, after[name])]
    demand(not changed, f"it changes weights of the model: {', '.join(changed[:3])}; work on a copy")
    demand(not case.model.module().training, "it leaves the model in training mode; call `eval()`")


class _StopError(Exception):
    """What a watch raises that has seen enough."""


def _tells_how_far_it_is(case: EvaluatorCase) -> None:
    told: list[EvaluationProgress] = []
    list(case.evaluator.evaluate(case.model, case.params, told.append))
    demand(told, "it never calls `watch`; tell it at the end at least, with the scores")
    done = [one.done for one in told]
    demand(
        done == sorted(done), f"it tells of {done} samples in turn; they are done in the order of the data"
    )
    demand(
        all(0 < one.done <= one.total for one in told), "it tells of more samples than there are, or of none"
    )

    def stop(progress: EvaluationProgress) -> None:
        raise _StopError

    try:
        list(case.evaluator.evaluate(case.model, case.params, stop))
    except _StopError:
        return
    raise AssertionError("it keeps to itself what `watch` raises; let it pass, since it ends the evaluation")


def _keeps_the_limit(case: EvaluatorCase) -> None:
    if "limit" not in parameters_of(case.evaluator.params):
        raise NotCheckedError("it has no parameter `limit`")
    most = max(score.samples for score in case.first)
    for limit in sorted({1, max(1, most // 2), most}):
        found = case.scores(case.params.model_copy(update={"limit": limit}))
        for score, whole in zip(found, case.first, strict=True):
            demand(
                score.samples <= limit, f"with limit {limit}, '{score.name}' is of {score.samples} samples"
            )
            begins = all(
                math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6)
                for a, b in zip(score.per_sample, whole.per_sample, strict=False)
            )
            demand(begins, f"with limit {limit}, '{score.name}' is not of the first samples")


EVALUATOR: Sequence[Property[EvaluatorCase]] = (
    Property("described", "it says what it measures, and what its parameters mean", _is_described),
    Property("check", "its check reads no weight", _checks_without_weights),
    Property("files", "its files are there", _files_are_there),
    Property("scores", "it yields scores with names, goals and finite values", _scores_are_sound),
    Property("means", "values are means of their samples", _values_are_means),
    Property("same", "asked again, it says the same", _says_the_same),
    Property("model", "the model stays as it is", _leaves_the_model),
    Property("watch", "it tells how far it is, and can be stopped", _tells_how_far_it_is),
    Property("limit", "the first samples alone can be asked for", _keeps_the_limit),
)
"""What every evaluator keeps."""
