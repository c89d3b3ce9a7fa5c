"""A run of lm-eval over tasks, watched; read `evaluated`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mergecore import ConfigError
from mergecore.types import EvaluatedModel, EvaluationProgress, Watch
from mergecore_contrib.evaluators.extras import imported
from mergecore_contrib.evaluators.harness import backends, tasks
from mergecore_contrib.evaluators.harness.quiet import quiet

if TYPE_CHECKING:
    from mergecore_contrib.evaluators.lm_eval import LmEvalParams

REQUESTS = ("loglikelihood", "loglikelihood_rolling", "generate_until", "multiple_choice")


@dataclass
class Answers:
    """What a model generated: for each task, how many answers, and how many of them were cut off or empty."""

    count: dict[str, int] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=dict)
    empty: dict[str, int] = field(default_factory=dict)
    whole_length: set[str] = field(default_factory=set)  # answers that end because they may not be longer

    def take(self, requests: Sequence[Any], texts: Sequence[str]) -> None:
        """Count the answers of requests."""
        for request, text in zip(requests, texts, strict=True):
            task = request.task_name
            self.count[task] = self.count.get(task, 0) + 1
            self.truncated[task] = self.truncated.get(task, 0) + (text in self.whole_length)
            self.empty[task] = self.empty.get(task, 0) + (not text.strip())


def evaluated(
    model: EvaluatedModel, params: LmEvalParams, watch: Watch
) -> tuple[Mapping[str, Any], Answers | None, int]:
    """The results of lm-eval, with every sample; what was generated, if that is known; how many samples there were."""
    harness = imported("lm_eval.evaluator", backends.EXTRA)
    manager = tasks.manager(params)
    lm = backends.backend(model, params)
    answers = _counted(lm) if params.backend == "hf" else None
    follower = _Follower(watch, params.limit)
    follower.follow(manager, lm)
    chat = params.apply_chat_template
    seeds = {} if params.seed is None else dict.fromkeys(_SEEDS, params.seed)
    asked: dict[str, Any] = {
        "tasks": list(params.tasks),
        "task_manager": manager,
        "limit": params.limit,
        "num_fewshot": params.num_fewshot,
        "batch_size": params.batch_size,
        "apply_chat_template": chat,
        "fewshot_as_multiturn": chat if params.fewshot_as_multiturn is None else params.fewshot_as_multiturn,
        "system_instruction": params.system_instruction,
        "gen_kwargs": params.gen_kwargs,
        "confirm_run_unsafe_code": params.confirm_run_unsafe_code,
        "bootstrap_iters": 0,
        "log_samples": True,
        **seeds,
    }
    with quiet(), _same_random_numbers():
        try:
            found = harness.simple_evaluate(lm, **asked)
        except (AssertionError, *tasks.FAULTS) as error:
            if follower.stopped is error:
                raise
            what = f"lm-eval stopped at {', '.join(params.tasks)}: {tasks.reason_of(error)}"
            raise ConfigError(
                "E105", what, hint="look at the task and at the parameters; --debug shows more"
            ) from error
    return found, answers, follower.total


_SEEDS = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")


@dataclass
class _Follower:
    """Tells how many samples are done, by the requests that are."""

    watch: Watch
    limit: int | None
    total: int = 1
    before: int = 0  # samples whose requests were all done earlier
    samples: int = 0  # those of the requests that are being done
    requests: int = 1
    done: int = 0
    told: int = 0
    stopped: BaseException | None = None  # what was raised to end the evaluation

    def follow(self, manager: Any, lm: Any) -> None:
        """Listen to what makes tasks, for their size, and to a model, for its requests and its answers."""
        load = manager.load

        def loaded(names: Any) -> Any:
            found = load(names)
            sizes = [len(task.eval_docs) for task in found["tasks"].values()]
            self.total = max(1, sum(size if self.limit is None else min(size, self.limit) for size in sizes))
            return found

        manager.load = loaded
        for kind in REQUESTS:
            if ask := getattr(lm, kind, None):
                setattr(lm, kind, self._begun(ask))
        lm.set_cache_hook(self)

    def _begun(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(requests: Sequence[Any], **options: Any) -> Any:
            self.before += self.samples
            self.samples = len({(one.task_name, one.doc_id) for one in requests})
            self.requests, self.done = max(1, len(requests)), 0
            return ask(requests, **{"disable_tqdm": True, **options})

        return asked

    def add_partial(self, *_: Any) -> None:
        """One more request is done; lm-eval calls this to keep the answer."""
        self.done = min(self.done + 1, self.requests)
        now = min(self.before + self.samples * self.done // self.requests, self.total)
        if now > self.told:
            self.told = now
            try:
                self.watch(EvaluationProgress(done=now, total=self.total))
            except BaseException as error:
                self.stopped = error
                raise


def _counted(lm: Any) -> Answers:
    """Counts what lm-eval's class for transformers generates from now on."""
    answers, generate, until = Answers(), lm._model_generate, lm.generate_until

    def generated(context: Any, max_length: int, stop: Sequence[str], **options: Any) -> Any:
        rows = generate(context=context, max_length=max_length, stop=stop, **options)
        if rows.shape[1] >= max_length:
            start = context.shape[1] if lm.backend == "causal" else 0
            texts = (lm.tok_decode(row[start:]) for row in rows.tolist() if row[-1] not in _ends(lm))
            answers.whole_length |= {text for text in texts if not any(one and one in text for one in stop)}
        return rows

    def asked(requests: Sequence[Any], **options: Any) -> Any:
        texts = until(requests, **options)
        answers.take(requests, texts)
        return texts

    lm._model_generate, lm.generate_until = generated, asked
    return answers


def _ends(lm: Any) -> set[int]:
    """The tokens that end an answer, and that fill up behind the end."""
    ends = getattr(lm.model.generation_config, "eos_token_id", None)
    return {
        *(ends if isinstance(ends, list) else [ends]),
        lm.tokenizer.eos_token_id,
        lm.tokenizer.pad_token_id,
    }


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Random numbers that go on afterwards as if lm-eval had set no seed."""
    import numpy as np
    import torch

    mine, theirs, seen = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(mine)
        np.random.set_state(theirs)
        torch.set_rng_state(seen)
