"""What a search says on the screen: a line for each model, and the table at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mergecore.types import Json, Score
from mergecore_plugins.search.findings.results import Findings, Row
from mergecore_plugins.search.journal import Trial


def line_of(trial: Trial, point: Mapping[str, Json], better: bool) -> str:
    """A trial in a line; `better`: than all before it."""
    scores = ", ".join(f"{one.name} {_number(one.value)}" for one in trial.scores)
    said = {"failed": f"failed: {trial.error}", "pruned": f"ended early: {scores}"}.get(trial.state, scores)
    values = ", ".join(f"{name} {_value(value)}" for name, value in point.items())
    return f"{trial.name}: {said}{' *' if better else ''}{f' ({values})' if values else ''}"


def table(found: Findings, out: Path, written: Path | None = None) -> str:
    """The table, and what the search comes to; `written`: the folder of its model, if it was written."""
    if not found.rows:
        return "\n".join(verdict_lines(found, out, written))
    where = "data held out, looked at once" if found.held_out else "data of the search"
    head = ["model", *(one.name for one in found.rows[0].trial.scores), "best point is better by"]
    rows = [_cells(one) for one in found.rows]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([f"scores on the {where}:", "", *lines, "", *verdict_lines(found, out, written)])


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


def _cells(row: Row) -> list[str]:
    gains = "; ".join(
        f"{one.mean:+.4g} [{one.low:+.4g}, {one.high:+.4g}] {one.in_words}" for one in row.gains
    )
    kind = "" if row.trial.kind in ("point", "average") else f" ({row.trial.kind})"
    return [
        f"{row.trial.name}{kind}",
        *map(_shown, row.trial.scores),
        gains or ("" if row.trial.kind == "point" else "cannot be paired"),
    ]


def _shown(score: Score) -> str:
    """A score, with the shares of answers that were cut off and empty."""
    more = [
        f"{100 * share:.0f} % {word}"
        for share, word in ((score.truncated, "cut off"), (score.empty, "empty"))
        if share is not None
    ]
    said = f" ({', '.join(more)})" if more else ""
    return f"{_number(score.value)}{said}"


def _number(value: float) -> str:
    return f"{value:.5g}"


def _value(value: Json) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
