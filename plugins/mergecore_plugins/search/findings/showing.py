"""What a search says on the screen: a line for each model, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mergecore.types import Json, Score
from mergecore_plugins.evaluation.cells import WIDTH, cells
from mergecore_plugins.evaluation.evaluate.table import heading, number, row_of, shortened
from mergecore_plugins.search.findings.results import Findings
from mergecore_plugins.search.journal import Trial


def line_of(trial: Trial, point: Mapping[str, Json], better: bool) -> str:
    """A trial in a line, the values of a point in the next where they do not fit; `better`: than all before it."""
    scores = ", ".join(f"{one.name} {number(one.value, digits=5)}" for one in trial.scores)
    said = {"failed": f"failed: {trial.error}", "pruned": f"ended early: {scores}"}.get(trial.state, scores)
    values = ", ".join(f"{name} {_value(value)}" for name, value in point.items())
    line = f"{trial.name}: {said}{' *' if better else ''}"
    if not values or cells(f"{line} ({values})") <= WIDTH:
        return f"{line} ({values})" if values else line
    return "\n".join([line, *_lines([f"{name} {_value(value)}" for name, value in point.items()])])


def _lines(parts: Sequence[str]) -> Iterator[str]:
    """The parts in lines that fit, unless one alone does not."""
    line = ""
    for part in parts:
        if line and cells(f"    {line}, {part},") > WIDTH:
            yield f"    {line},"
            line = ""
        line = f"{line}, {part}" if line else part
    yield f"    {line}"


def table(found: Findings, out: Path, written: Path | None = None) -> str:
    """The table, and what the search comes to; `written`: the folder of its model, if it was written."""
    if not found.rows:
        return "\n".join(verdict_lines(found, out, written))
    where = "data held out, looked at once" if found.held_out else "data of the search"
    parts = [
        "\n".join(_score(found, index, score, where))
        for index, score in enumerate(found.rows[0].trial.scores)
    ]
    gain = ["gain: by how much the best point is better"] if len(found.rows) > 1 else []
    return "\n\n".join([*parts, "\n".join([*gain, *verdict_lines(found, out, written)])])


def _score(found: Findings, index: int, score: Score, where: str) -> Iterator[str]:
    """A heading, and a line for each model; differences are those of the numbers that the search looked at."""
    weighted = found.section.objectives[0].weight is not None
    better = "more is better" if score.goal == "max" else "less is better"
    yield heading([score.name], f" on the {where}; {better}")
    alone = not weighted or index == len(found.rows[0].trial.scores) - 1
    yield row_of("model", "value", *(("gain", "interval of 95 %") if alone else ()))
    for row in found.rows:
        gain = row.gains[0 if weighted else index] if row.gains and alone else None
        told = ("", "", "")
        if gain is not None:
            ends = " to ".join(number(one, sign=True, digits=3) for one in (gain.low, gain.high))
            told = (number(gain.mean, sign=True, digits=3), ends, gain.in_words)
        elif row.trial.kind != "point" and not row.gains:
            told = ("", "", "cannot be paired")
        yield row_of(shortened(row.trial.name), number(row.trial.scores[index].value, digits=5), *told)
        yield from _odd_answers(row.trial.scores[index])


def _odd_answers(score: Score) -> Iterator[str]:
    """The shares of answers that were cut off and empty."""
    for share, word in ((score.truncated, "cut off"), (score.empty, "empty")):
        if share:
            yield f"    {100 * share:.0f} % of its answers are {word}"


def verdict_lines(found: Findings, out: Path, written: Path | None = None) -> list[str]:
    """What to use, in plain words."""
    important = {name: share for name, share in found.as_json()["importance"].items() if share}  # type: ignore[union-attr]
    most = sorted(important, key=lambda name: -float(important[name]))[:3]  # type: ignore[arg-type]
    told = [f"what matters most: {', '.join(most)}"] if most else []
    notes = [f"note: {one}" for one in found.notes]
    return [*notes, *told, *_outcome(found), *_where(found, out, written)]


def _outcome(found: Findings) -> list[str]:
    """What the search comes to."""
    judged, better = found.verdict, found.stronger
    if judged is None:
        told = ["there is no average to compare the best point with"]
    elif judged.beats:
        told = [f"the best point beats the average: {judged.why}"]
    else:
        told = [f"nothing beats the average{'' if better else ': use it'} ({judged.why})"]
    if better is not None:
        ours = "the average" if judged is not None and not judged.beats else "the best point"
        told.append(f"but {better.name} ({better.kind}) is better than {ours}: use {better.name} as it is")
    return told


def _where(found: Findings, out: Path, written: Path | None) -> list[str]:
    """Which files hold what was found."""
    what = "the best point" if found.recommended == "best" else "the average"
    told = [f"{what} is merged in {written}"] if written is not None else []
    return told + ([f"the config of the best point is {out / 'best.yml'}"] if found.best is not None else [])


def _value(value: Json) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
