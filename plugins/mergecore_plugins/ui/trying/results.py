"""What the commands of these runs print, as their templates show it; read `answers` and `scores`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergecore import MergecoreError
from mergecore.files import parse_json
from mergecore_plugins.ui.runs.run import Run

MERGE = "this merge"


@dataclass(frozen=True)
class Answer:
    """What a model says to a prompt; None as long as it has not."""

    model: str
    text: str | None
    complete: bool = True


@dataclass(frozen=True)
class Row:
    """A model by one score, in words."""

    model: str
    value: str
    interval: str
    difference: str
    words: str
    best: bool


@dataclass(frozen=True)
class Table:
    """One score of all models."""

    title: str
    about: str
    against: str
    rows: Sequence[Row]


def answers(run: Run) -> list[tuple[str, list[Answer]]]:
    """Each prompt with what the models say, as far as they have."""
    prompts = [one.partition("=")[2] for one in run.words if one.startswith("--prompt=")]
    models = [one for one in run.filled[1:] if not one.startswith("--")]
    said = list(_lines(run.output))
    found: list[tuple[str, list[Answer]]] = []
    for i, prompt in enumerate(prompts):
        row = []
        for k, model in enumerate(models):
            number = i * len(models) + k
            one = said[number] if number < len(said) else {}
            text = one.get("answer")
            row.append(Answer(_name(model, run), text, bool(one.get("complete", True))))
        found.append((prompt, row))
    return found


def _lines(output: str) -> Iterator[Mapping[str, Any]]:
    """The objects that were written to their ends, in the order of prompts and models."""
    for line in output.splitlines(keepends=True):
        if line.startswith('{"model"') and line.endswith("\n"):
            said: Any = parse_json(line, code="E104")
            yield said


def scores(run: Run) -> tuple[list[Table], list[str]]:
    """The scores of a run that is done, and its warnings."""
    try:
        found: Any = parse_json(run.output, code="E104", nan=True, infinite=True)
    except MergecoreError:
        return [], []
    tables = [
        _table(evaluation["name"], score, found["against"], run)
        for evaluation in found["evaluations"]
        for score in evaluation["scores"]
    ]
    return tables, [str(one) for one in found["warnings"]]


def _table(name: str, score: Mapping[str, Any], against: str, run: Run) -> Table:
    differences = {one["model"]: one for one in score["differences"]}
    rows = [_row(one, differences.get(one["model"]), against, run) for one in score["results"]]
    samples = max((one.get("samples") or 0 for one in score["results"]), default=0)
    better = "more is better" if score["goal"] == "max" else "less is better"
    title = name if name == score["name"] else f"{name}: {score['name']}"
    return Table(title, f"{samples} samples; {better}", _name(against, run), rows)


def _row(one: Mapping[str, Any], other: Mapping[str, Any] | None, against: str, run: Run) -> Row:
    value = one.get("value")
    if value is None:
        return Row(
            _name(one["model"], run), "–", "", "", str(one.get("why") or "cannot be evaluated so"), False
        )
    words = "" if other is None else str(other["words"])
    if one["model"] == against:
        words = "compared with"
    return Row(
        _name(one["model"], run),
        _number(value),
        _ends(one, signed=False),
        "" if other is None else f"{_number(other['value'], signed=True)} {_between(other)}".strip(),
        words,
        bool(one.get("best")) and "within" not in words,
    )


def _between(one: Mapping[str, Any]) -> str:
    ends = _ends(one, signed=True)
    return f"({ends})" if ends else ""


def _ends(one: Mapping[str, Any], *, signed: bool) -> str:
    if one.get("low") is None or one.get("high") is None:
        return ""
    return f"{_number(one['low'], signed=signed)} to {_number(one['high'], signed=signed)}"


def _number(value: float, *, signed: bool = False) -> str:
    text = f"{value:{'+' if signed else ''}.4g}"
    return ("0" if float(text) == 0 else text).replace("-", "\N{MINUS SIGN}")


def _name(model: str, run: Run) -> str:
    config = (run.folder / "config.yml").as_posix()
    return MERGE if model == config else model
