"""The page about a search; read `search_report`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mergecore_plugins.reports.drawing.axes import number_text
from mergecore_plugins.reports.drawing.bars import bars
from mergecore_plugins.reports.drawing.dots import Dot, dots
from mergecore_plugins.reports.drawing.lines import Line, lines
from mergecore_plugins.reports.drawing.parallel import Axis, parallel
from mergecore_plugins.reports.drawing.points import Point, points
from mergecore_plugins.reports.html import Part, bullets, data_table, fact_list, figures, page, paragraph
from mergecore_plugins.reports.words import counted, joined, percent

Values = Mapping[str, Any]
MOST_LINES = 300
"""Trials that are drawn on parallel axes at most: the last ones."""


def search_report(found: Mapping[str, Any]) -> str:
    """One HTML file about a search, the plain values that `mergecore search` writes as JSON.

    found: `config`; `objectives` with `name` and `goal`; `dimensions` with `name`; `trials` with `name`, `kind`,
        `state`, `point`, `scores`, `seconds`; `best` and `front`, the numbers of points; `importance` by dimension;
        `table` with `name`, `scores`, `best_is_better_by`, on data held out where `held_out`; `verdict` with `why`;
        `search`; `notes`.
    """
    names = [str(one["name"]) for one in found["objectives"]]
    parts = [Part("What came out", [*_outcome(found)])]
    parts += [Part("Trial by trial", [figures([*_history(found, names)])])]
    if len(names) > 1 and any(_value(one, 1) is not None for one in found["trials"]):
        parts.append(Part("Front", [_front(found, names)]))
    known = {name: one for name, one in (found.get("importance") or {}).items() if one is not None}
    if known:
        parts.append(Part("What matters", [_importance(known)]))
    if found["dimensions"]:
        parts.append(Part("Parameters and scores", [*_parallel(found, names)]))
    parts += [Part("Every trial", [_trials(found, names)]), Part("The search", [*_settings(found)])]
    return page(f"Search: {found.get('config') or 'parameters of a merge'}", [*_summary(found)], parts)


def _summary(found: Values) -> Iterator[str]:
    verdict = found.get("verdict") or {}
    if verdict.get("why"):
        yield f"{_sentence(str(verdict['why']))}"
    states = Counter(str(one["state"]) for one in found["trials"])
    told = joined([f"{count} {state}" for state, count in states.items()])
    kinds = Counter("point" if one["kind"] == "point" else "other" for one in found["trials"])
    other = f" and {counted(kinds['other'], 'model')} to compare with" if kinds["other"] else ""
    yield f"{counted(kinds['point'], 'point')}{other}: {told}."


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")


# ---- what came out -----------------------------------------------------------------------------------------


_RECOMMENDED = {"best": "the best point", "average": "the average of the models"}


def _outcome(found: Values) -> Iterator[str]:
    best = found.get("best") or {}
    if best.get("point"):
        yield paragraph("The best point:")
        yield fact_list({name: _shown(value) for name, value in best["point"].items()})
    if found.get("recommended"):
        yield paragraph(f"Recommended: {_RECOMMENDED.get(found['recommended'], found.get('stronger'))}.")
    table: Sequence[Values] = found.get("table") or ()
    drawn = []
    for i, objective in enumerate(found["objectives"]):
        rows = [(one, one["scores"][i]["value"]) for one in table if i < len(one["scores"])]
        if rows:
            drawn += [_final(objective, rows, bool(found.get("held_out"))), *_gains(objective, i, table)]
    yield figures(drawn)
    if table:
        yield _table(found, table)


def _final(objective: Values, rows: Sequence[tuple[Values, float]], held_out: bool) -> str:
    lower = objective["goal"] == "min"
    first, value = (min if lower else max)(rows, key=lambda row: row[1])
    where = "On the data held out" if held_out else "On the data of the search"
    sentence = f"{where}, the best is {first['name']} with {number_text(value)}; its dot is full."
    shown = [Dot(str(one["name"]), number, full=one is first) for one, number in rows]
    axis = f"{objective['name']}, {'lower' if lower else 'higher'} is better"
    return dots(f"{objective['name']} at the end", sentence, shown, axis=axis)


def _gains(objective: Values, number: int, table: Sequence[Values]) -> Iterator[str]:
    """By how much the best point is better than the others."""
    rows = [
        (str(one["name"]), one["best_is_better_by"][number])
        for one in table
        if number < len(one.get("best_is_better_by") or ())
    ]
    if not rows:
        return
    clear = [name for name, one in rows if one["low"] > 0]
    told = f"The best point is clearly better than {joined(clear) or 'none'}"
    others = [name for name, one in rows if one["low"] <= 0]
    told += f", and not clearly better than {joined(others)}" if others and clear else ""
    shown = [Dot(name, one["mean"], one["low"], one["high"], one["low"] > 0) for name, one in rows]
    sentence = f"{told}: dots are full where the whole interval, of paired samples, is above zero."
    yield dots(f"How much better the best point is: {objective['name']}", sentence, shown, line=0.0)


def _table(found: Values, table: Sequence[Values]) -> str:
    heading = [
        "model",
        *(str(one["name"]) for one in found["objectives"]),
        "samples",
        "cut off",
        "empty",
        "the best is",
    ]
    rows = []
    for one in table:
        scores = one["scores"]
        words = [str(each.get("words") or "") for each in one.get("best_is_better_by") or ()]
        rows.append(
            [
                str(one["name"]),
                *(number_text(each["value"]) for each in scores),
                str(scores[0].get("samples") or "") if scores else "",
                ", ".join(filter(None, (percent(each.get("truncated")) for each in scores))),
                ", ".join(filter(None, (percent(each.get("empty")) for each in scores))),
                ", ".join(words),
            ]
        )
    return data_table(heading, rows)


# ---- trials ------------------------------------------------------------------------------------------------


def _value(trial: Values, number: int) -> float | None:
    """A score of a trial that is complete."""
    scores = trial.get("scores") or ()
    if trial["state"] != "complete" or number >= len(scores) or scores[number].get("value") is None:
        return None
    return float(scores[number]["value"])


def _history(found: Values, names: Sequence[str]) -> Iterator[str]:
    trials: Sequence[Values] = found["trials"]
    for i, name in enumerate(names):
        lower = found["objectives"][i]["goal"] == "min"
        values = [_value(one, i) for one in trials]
        known = [(value, at) for at, value in enumerate(values) if value is not None]
        if not known:
            continue
        best, at = min(known, key=lambda one: (one[0] if lower else -one[0], one[1]))
        sentence = f"The best, {number_text(best)}, came with trial {at + 1} of {len(trials)} ({trials[at]['name']})."
        each = [Line("each trial", values, marks=True), Line("best so far", _so_far(values, lower))]
        x = [float(at + 1) for at in range(len(trials))]
        axis = f"{name}, {'lower' if lower else 'higher'} is better"
        yield lines(f"{name} by trial", sentence, x, each, axes=("trial", axis))


def _so_far(values: Sequence[float | None], lower: bool) -> list[float | None]:
    found: list[float | None] = []
    best: float | None = None
    for value in values:
        if value is not None and (best is None or (value < best if lower else value > best)):
            best = value
        found.append(best)
    return found


def _front(found: Values, names: Sequence[str]) -> str:
    numbers = {*found.get("front", ())}
    each = [
        Point(str(one["name"]), x, y, one["kind"] == "point" and one["number"] in numbers)
        for one in found["trials"]
        if (x := _value(one, 0)) is not None and (y := _value(one, 1)) is not None
    ]
    front = [one for one in each if one.front]
    sentence = f"Of {counted(len(each), 'complete trial')}, {counted(len(front), 'point')} of the search"
    sentence += (
        f" {'is' if len(front) == 1 else 'are'} on the front: no other point is better in all objectives."
    )
    goals = ["lower" if one["goal"] == "min" else "higher" for one in found["objectives"]]
    axes = (f"{names[0]}, {goals[0]} is better", f"{names[1]}, {goals[1]} is better")
    return points(f"{names[0]} and {names[1]}", sentence, each, axes=axes)


def _importance(values: Mapping[str, float]) -> str:
    ranked = dict(sorted(values.items(), key=lambda item: -item[1]))
    first = next(iter(ranked))
    sentence = (
        f"{first} matters most, with {number_text(ranked[first])}: the score depends more on longer bars."
    )
    if not any(ranked.values()):
        sentence = "No parameter matters, as far as these trials tell: all bars are empty."
    return bars("Importance of parameters", sentence, ranked, of="importance")


def _parallel(found: Values, names: Sequence[str]) -> Iterator[str]:
    trials = [one for one in found["trials"] if one.get("point") and _value(one, 0) is not None][-MOST_LINES:]
    if len(trials) < 2:
        return
    lower = found["objectives"][0]["goal"] == "min"
    ranked = sorted(trials, key=lambda one: (_value(one, 0) or 0.0) * (1 if lower else -1))
    good = ranked[: max(1, len(ranked) // 10)]
    axes = [_axis(str(one["name"]), trials) for one in found["dimensions"]]
    axes += [Axis(name, [_value(one, i) for one in trials]) for i, name in enumerate(names)]
    best = ", ".join(f"{name} {_shown(value)}" for name, value in good[0]["point"].items())
    sentence = f"A line is a complete trial; the best {len(good)} of {len(trials)} by {names[0]} "
    sentence += f"{'is' if len(good) == 1 else 'are'} drawn strong. The very best is at {best}."
    yield parallel("Parameters against scores", sentence, axes, [one in good for one in trials])


def _axis(name: str, trials: Sequence[Values]) -> Axis:
    """A parameter of each trial: a number, or the place of a word among those that occur."""
    values = [one["point"].get(name) for one in trials]
    if all(
        value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values
    ):
        return Axis(name, [None if value is None else float(value) for value in values])
    words = [*dict.fromkeys(_shown(value) for value in values if value is not None)]
    return Axis(
        name, [None if value is None else float(words.index(_shown(value))) for value in values], words
    )


def _shown(value: object) -> str:
    if isinstance(value, float):
        return number_text(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _trials(found: Values, names: Sequence[str]) -> str:
    dimensions = [str(one["name"]) for one in found["dimensions"]]
    rows = [
        [
            str(one["name"]),
            str(one["state"]),
            *("" if (value := _score(one, i)) is None else number_text(value) for i in range(len(names))),
            *(_shown(one["point"][name]) if name in (one.get("point") or {}) else "" for name in dimensions),
            number_text(one["seconds"]) if one.get("seconds") is not None else "",
            str(one.get("error") or ""),
        ]
        for one in found["trials"]
    ]
    heading = ["trial", "state", *names, *dimensions, "seconds", "error"]
    return data_table(heading, rows, closed=counted(len(rows), "trial"))


def _score(trial: Values, number: int) -> float | None:
    """A score of any trial; of one that was pruned, what it had until then."""
    scores = trial.get("scores") or ()
    return scores[number].get("value") if number < len(scores) else None


def _settings(found: Values) -> Iterator[str]:
    search: Values = found.get("search") or {}
    yield fact_list({name: _plain(value) for name, value in search.items()})
    if found["dimensions"]:
        keys = [*dict.fromkeys(key for one in found["dimensions"] for key in one)]
        rows = [[_plain(one.get(key)) for key in keys] for one in found["dimensions"]]
        yield data_table(keys, rows)
    if found.get("notes"):
        yield bullets(map(str, found["notes"]))


def _plain(value: object) -> str:
    """A setting in words: without what is not set, and without brackets."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text}" for key, one in value.items() if (text := _plain(one)))
    if isinstance(value, list):
        return "; ".join(filter(None, map(_plain, value)))
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return _shown(value)
