"""match: a model answers, and the answer is compared with the one that is expected.

A line of the data is `{"prompt": …, "answer": …}`, or `{"messages": […], "answer": …}` for a conversation; `answer`
may be a list of which any will do.  A model with a chat template gets the prompt as what a user says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from mergecore import ConfigError, Evaluator, Field, InputError, Params, hookimpl
from mergecore.errors import Collector
from mergecore.types import EvaluatedModel, EvaluationProgress, Score, Watch

if TYPE_CHECKING:
    from mergecore_plugins.evaluation.evaluators.answers import Answer
    from mergecore_plugins.evaluation.evaluators.data import Row


class MatchParams(Params):
    """Questions, how they are asked, and how answers are compared."""

    data: Path | tuple[Path, ...] = Field(
        description="JSONL files, a question a line: prompt or messages, answer"
    )
    compare: Literal["exact", "normalised", "regex", "numeric"] = Field(
        default="normalised",
        description="as they are; without case, punctuation and articles; as a pattern to find; by the last number",
    )
    chat: Literal["auto", "always", "never"] = Field(
        default="auto", description="ask through the chat template; auto: if the model has one"
    )
    system: str | None = Field(default=None, description="what the chat template is told first")
    max_tokens: int = Field(default=128, ge=1, description="tokens of an answer at most")
    stop: str | tuple[str, ...] = Field(
        default=(), description="texts that end an answer, such as a line break"
    )
    batch: int = Field(
        default=8, ge=1, description="questions that are asked together; does not change the result"
    )
    limit: int | None = Field(
        default=None, ge=1, description="take this many questions at most, the first ones"
    )

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, stop: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if "" in ((stop,) if isinstance(stop, str) else stop):
            raise ValueError("an empty text would end every answer before it begins")
        return stop


@dataclass(frozen=True)
class Question:
    """A question, and whether an answer to it is right."""

    messages: tuple[dict[str, str], ...]
    is_right: Callable[[str], bool]


def files(params: MatchParams) -> tuple[Path, ...]:
    """The files of questions."""
    return params.data if isinstance(params.data, tuple) else (params.data,)


def read(params: MatchParams) -> list[Question]:
    """The questions.

    Raises:
        InputError: E270 for all that is wrong with the files.
    """
    from mergecore_plugins.evaluation.evaluators.data import rows

    return rows(files(params), partial(_question, params), params.limit)


def _question(params: MatchParams, row: Row) -> Question:
    from mergecore_plugins.evaluation.evaluators.answers import comparison

    given = row.values.get("answer")
    expected = given if isinstance(given, list) else [given]
    plain = [str(one) if type(one) in (int, float) else one for one in expected]
    if not plain or not all(isinstance(one, str) and one.strip() for one in plain):
        raise row.fault("'answer' is not a text, a number, or a list of them", 'write "answer": "…"')
    try:
        is_right = comparison(params.compare, [str(one) for one in plain])
    except (ValueError, ConfigError) as error:
        hint = f"compare: {params.compare} needs one; another way to compare may do"
        raise row.fault(f"'answer': {error}", hint) from None
    if "messages" not in row.values:
        return Question(({"role": "user", "content": row.text("prompt", "question")},), is_right)
    return Question(_messages(row), is_right)


def _messages(row: Row) -> tuple[dict[str, str], ...]:
    given = row.values["messages"]
    wanted = {"role", "content"}
    for one in given if isinstance(given, list) and given else [None]:
        if (
            not isinstance(one, dict)
            or one.keys() != wanted
            or not all(isinstance(v, str) for v in one.values())
        ):
            what = "'messages' is not a list of objects with 'role' and 'content', both texts"
            raise row.fault(what, 'write [{"role": "user", "content": "…"}]')
    assert isinstance(given, list)
    return tuple({key: str(value) for key, value in one.items()} for one in given if isinstance(one, dict))


def check(params: MatchParams, models: Sequence[EvaluatedModel]) -> None:
    """Raise for what is wrong with the questions, and with models that cannot be asked them."""
    from mergecore_plugins.evaluation.evaluators.tokens import check_causal

    problems = Collector()
    questions: list[Question] = []
    with problems.collecting():
        questions = read(params)
    with problems.collecting():
        check_causal(models)
    for model in models if not problems.errors else ():
        for one in questions:
            before = len(problems.errors)
            with problems.collecting():
                _prompt(model, one, params)
            if len(problems.errors) > before:
                break
    problems.raise_any()


def _prompt(model: EvaluatedModel, question: Question, params: MatchParams) -> list[int]:
    """The tokens of a question, with room for the answer behind them."""
    from mergecore_plugins.evaluation.evaluators.tokens import first_token, longest_of, opening

    tokenizer, longest = model.tokenizer(), longest_of(model)
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if has_template and params.chat != "never":
        first = [{"role": "system", "content": params.system}] if params.system else []
        tokens = _templated(model, tokenizer, [*first, *question.messages])
    elif params.chat == "always" or params.system or len(question.messages) > 1:
        what = f"{model.name}: it has no chat template, which a conversation or 'system' needs"
        raise InputError("E271", what, hint="give the model one, or prompts without")
    else:
        tokens = opening(model, question.messages[0]["content"])
    begin = first_token(model)
    tokens = tokens or ([begin] if begin is not None else [])
    if not tokens:
        what = f"{model.name}: a prompt is nothing to its tokenizer"
        raise InputError("E271", what, hint="write prompts that are not empty")
    if longest is not None and len(tokens) + params.max_tokens > longest:
        what = f"{model.name}: a prompt of {len(tokens)} tokens leaves no room for {params.max_tokens} in {longest}"
        raise InputError("E271", what, hint="shorten it, or lower 'max_tokens'")
    return tokens


def _templated(model: EvaluatedModel, tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[int]:
    try:
        made = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    except Exception as error:  # a template may raise anything, such as for an order of roles
        what = f"{model.name}: its chat template refuses a conversation: {' '.join(str(error).split())}"
        raise InputError("E271", what, hint="ask otherwise, or 'chat: never'") from error
    return [*made["input_ids"]]


def evaluate(model: EvaluatedModel, params: MatchParams, watch: Watch) -> Iterator[Score]:
    """`accuracy`, with the shares of answers that are cut off or empty."""
    from mergecore_plugins.evaluation.evaluators.answers import answers

    questions = read(params)
    prompts = [_prompt(model, one, params) for one in questions]
    stop = (params.stop,) if isinstance(params.stop, str) else params.stop
    right: list[float] = []
    said: list[Answer] = []
    for answer in answers(model, prompts, params.max_tokens, stop, params.batch):
        right.append(float(questions[len(said)].is_right(answer.text)))
        said.append(answer)
        if len(said) == len(questions) or len(said) % params.batch == 0:
            watch(EvaluationProgress(done=len(said), total=len(questions), scores=(_score(right, said),)))
    yield _score(right, said)


def _score(right: Sequence[float], said: Sequence[Answer]) -> Score:
    count = len(right)
    return Score(
        name="accuracy",
        value=sum(right) / count,
        goal="max",
        samples=count,
        per_sample=tuple(right),
        truncated=sum(one.truncated for one in said) / count,
        empty=sum(not one.text for one in said) / count,
    )


@hookimpl
def mergecore_evaluators() -> Iterable[Evaluator[MatchParams]]:
    """Yield `match`."""
    yield Evaluator(
        name="match",
        evaluate=evaluate,
        params=MatchParams,
        summary="the share of questions that it answers as expected",
        check=check,
        files=files,
        keeps_models=True,
    )
