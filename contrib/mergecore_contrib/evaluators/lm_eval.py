"""Scores of a model by the tasks of lm-evaluation-harness: its own ones, and those in YAML files.

Read `scores_of`.  `harness` holds what calls lm-eval: the model goes in as it is in memory, the results come out as
the command `lm_eval` prints them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from mergecore import ConfigError, Evaluator, Field, InputError, Params, hookimpl
from mergecore.types import EvaluatedModel, EvaluationProgress, Score, Watch


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class LmEvalParams(Params):
    """What the options of the command `lm_eval` of these names mean."""

    tasks: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        min_length=1, description="names of tasks, groups or tags"
    )
    include_path: Path | None = Field(default=None, description="a folder with the YAML files of tasks")
    limit: int | None = Field(
        default=None, ge=1, description="how many samples of each task to take at most; all by default"
    )
    num_fewshot: int | None = Field(
        default=None, ge=0, description="examples before each question; as the task says by default"
    )
    batch_size: int = Field(default=1, ge=1, description="how many requests the model gets at once")
    apply_chat_template: bool = Field(
        default=False, description="whether questions are put as turns of a chat"
    )
    fewshot_as_multiturn: bool | None = Field(
        default=None, description="whether examples are turns of their own; by default, in a chat they are"
    )
    system_instruction: str | None = Field(default=None, description="what is said before each question")
    gen_kwargs: str | None = Field(
        default=None, description="how answers are made, such as max_gen_toks=64,temperature=0"
    )
    backend: str = Field(
        default="hf",
        description="a model type of lm-eval; hf takes the model from memory, others read a folder",
    )
    model_args: str | None = Field(
        default=None, description="more of the backend, such as max_length=2048,add_bos_token=true"
    )
    seed: int | None = Field(
        default=None, ge=0, description="of examples and answers; by default those of lm-eval"
    )
    confirm_run_unsafe_code: bool = Field(
        default=False, description="run what the model writes, for tasks that need it"
    )


@hookimpl
def mergecore_evaluators() -> Iterator[Evaluator[Any]]:
    yield Evaluator(
        name="lm_eval",
        evaluate=scores_of,
        params=LmEvalParams,
        summary="tasks of lm-evaluation-harness, its own or yours",
        check=check,
        files=files,
        public_test_set=public_test_set,
    )


def scores_of(model: EvaluatedModel, params: LmEvalParams, watch: Watch) -> Iterable[Score]:
    """The scores of all tasks and groups, each called by its task and metric: `arc_easy/acc_norm`."""
    from mergecore_contrib.evaluators.harness import running, scores

    _check_makes_text(model, params)
    found, answers, total = running.evaluated(model, params, watch)
    made = tuple(scores.of_results(found, answers))
    if not made:
        what = f"lm-eval gives no number for {', '.join(params.tasks)}"
        raise ConfigError("E105", what, hint="give the task a metric in its metric_list")
    watch(EvaluationProgress(done=total, total=total, scores=made))
    return made


def check(params: LmEvalParams, models: Sequence[EvaluatedModel]) -> None:
    """What is wrong with tasks, options and data, before a model is made.

    Raises:
        PluginError: E601 when lm-eval is not installed.
        ConfigError: E105 for a task that is not there or cannot be used, and for an option of a backend.
        InputError: E704 for data that are on the hub, which cannot be reached; E240 for a model without a chat
            template, where one is to be applied.
    """
    from mergecore_contrib.evaluators.harness import backends, tasks

    backends.check(params)
    if params.include_path is not None and not params.include_path.is_dir():
        what = f"include_path: there is no folder {params.include_path}"
        raise ConfigError("E105", what, hint="name the folder with the YAML files of the tasks")
    for name, like in tasks.unknown(params).items():
        hint = "`lm_eval ls tasks` lists them; those of your own are in include_path"
        raise ConfigError("E105", f"lm-eval has no task '{name}'{like}", hint=hint)
    tasks.check(params)
    for model in models if params.apply_chat_template else ():
        if not getattr(model.tokenizer(), "chat_template", None):
            what = f"{model.name}: it has no chat template"
            raise InputError("E240", what, hint="leave out apply_chat_template, or give the model a template")


def files(params: LmEvalParams) -> Iterable[Path]:
    """The files of the tasks that are not part of lm-eval, and their data."""
    from mergecore_contrib.evaluators.harness import tasks

    return tasks.files(params)


def public_test_set(params: LmEvalParams) -> str | None:
    """The first task whose data are on the hub."""
    from mergecore_contrib.evaluators.harness import tasks

    return next(tasks.public(params), None)


def _check_makes_text(model: EvaluatedModel, params: LmEvalParams) -> None:
    if params.backend == "hf" and not model.module().can_generate():
        what = f"{model.name}: lm-eval needs a model that makes text, and {type(model.module()).__name__} does not"
        raise InputError("E224", what, hint="evaluate a language model")
