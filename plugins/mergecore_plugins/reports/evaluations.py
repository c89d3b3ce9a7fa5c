"""The page about an evaluation; read `evaluation_report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mergecore_plugins.reports.drawing.axes import number_text
from mergecore_plugins.reports.drawing.dots import Dot, dots
from mergecore_plugins.reports.drawing.lines import Line, lines
from mergecore_plugins.reports.html import Part, bullets, data_table, fact_list, figures, page, paragraph
from mergecore_plugins.reports.words import counted, joined, percent

Values = Mapping[str, Any]


def evaluation_report(found: Mapping[str, Any]) -> str:
    """One HTML file about models and their scores, the plain values that `mergecore evaluate --json` prints.

    found: `models`, each with a `name`; `evaluations`, each with `name` and `scores`, of which each has `name`, `goal`,
        `results` by model (`value`, `low`, `high`, `samples`, `truncated`, `empty`, `cached`, `seconds`, or `why` there
        is none) and `differences` (`model`, `against`, `value`, `low`, `high`, `within_noise`, `words`); `warnings` and
        `device`.
    """
    names = [str(one["name"]) for one in found["models"]]
    scores = [(each, one) for each in found["evaluations"] for one in each["scores"]]
    parts = [Part("Warnings", [bullets(map(str, found["warnings"]))])] if found.get("warnings") else []
    parts += [
        Part(_title(each, one), [*_sweep(found, one), *_score(one, str(found.get("against") or ""))])
        for each, one in scores
    ]
    parts.append(Part("How it was evaluated", [*_settings(found)]))
    return page(f"Evaluation of {joined(names)}", [*_summary(scores)], parts)


def _title(evaluation: Values, score: Values) -> str:
    name, own = str(evaluation["name"]), str(score["name"])
    return name if own == name else f"{name}: {own}"


def _summary(scores: Sequence[tuple[Values, Values]]) -> Iterator[str]:
    for evaluation, score in scores:
        if told := _best(score):
            yield f"{_title(evaluation, score)}, {_goal(score)}: {told}."


def _goal(score: Values) -> str:
    return "lower is better" if score["goal"] == "min" else "higher is better"


def _known(score: Values) -> list[Values]:
    return [one for one in score["results"] if one.get("value") is not None]


def _best(score: Values) -> str:
    """Which model is best, and which of the others are not clearly worse."""
    known = _known(score)
    if not known:
        return ""
    pick = min if score["goal"] == "min" else max
    best = pick(known, key=lambda one: one["value"])
    if len(known) == 1:
        return f"{best['model']} has {number_text(best['value'])}"
    close = [
        str(other)
        for one in score.get("differences", ())
        if one.get("within_noise") and best["model"] in (one["model"], one["against"])
        for other in (one["model"], one["against"])
        if other != best["model"]
    ]
    noise = f"; within noise of it: {joined([*dict.fromkeys(close)])}" if close else ""
    return f"the best is {best['model']} with {number_text(best['value'])}{noise}"


def _score(score: Values, against: str) -> Iterator[str]:
    known = _known(score)
    title, axis = str(score["name"]), f"{score['name']}, {_goal(score)}"
    if known:
        best = (min if score["goal"] == "min" else max)(known, key=lambda one: one["value"])
        rows = [
            Dot(str(one["model"]), one["value"], one.get("low"), one.get("high"), one is best)
            for one in known
        ]
        sentence = f"{_capital(_best(score))}. The full dot is the best; whiskers are intervals of 95 %."
        drawn = [dots(title, sentence, rows, axis=axis, table=_table(score))]
        if score.get("differences"):
            drawn.append(_differences(score, against))
        yield figures(drawn)
    for one in score["results"]:
        if one.get("value") is None and one.get("why"):
            yield paragraph(f"{one['model']} has no score: {one['why']}.", soft=True)


def _sweep(found: Values, score: Values) -> Iterator[str]:
    """The score over the values of a sweep, and beside it those of the models that are not swept."""
    at = {str(one["name"]): one["at"] for one in found["models"] if one.get("at") is not None}
    known = {str(one["model"]): one["value"] for one in _known(score)}
    rows = sorted((at[name], known[name]) for name in at if name in known)
    if len(rows) < 2:
        return
    pick = min if score["goal"] == "min" else max
    value, best = pick((value, place) for place, value in rows)
    others = [name for name in known if name not in at][:3]
    each = [Line(str(score["name"]), [value for _, value in rows])]
    each += [Line(name, [known[name]] * len(rows)) for name in others]
    sentence = f"The best is {number_text(value)}, at {found['sweep']} {number_text(best)}."
    if others:
        sentence += f" Level lines: {joined(others)}."
    axes = (str(found["sweep"]), f"{score['name']}, {_goal(score)}")
    yield figures(
        [lines(f"{score['name']} by {found['sweep']}", sentence, [x for x, _ in rows], each, axes=axes)]
    )


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _table(score: Values) -> str:
    heading = ["model", str(score["name"]), "from", "to", "samples", "cut off", "empty", "seconds"]
    rows = [
        [
            str(one["model"]),
            _number(one.get("value")),
            _number(one.get("low")),
            _number(one.get("high")),
            "" if one.get("samples") is None else str(one["samples"]),
            percent(one.get("truncated")),
            percent(one.get("empty")),
            "cached" if one.get("cached") else _number(one.get("seconds")),
        ]
        for one in score["results"]
    ]
    kept = [0, *(i for i in range(1, len(heading)) if any(row[i] for row in rows))]
    return data_table([heading[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _number(value: float | None) -> str:
    return "" if value is None else number_text(value)


def _why_noise(each: Sequence[Values]) -> str:
    """Why differences are within noise; without an interval, the samples were too few for one."""
    known = {one.get("low") is not None for one in each if one.get("within_noise")}
    interval = "the interval, of paired samples, has zero in it"
    few = "the samples are too few for an interval"
    return few if known == {False} else f"{interval}, or {few}" if False in known else interval


def _differences(score: Values, against: str) -> str:
    """Each difference with its interval, beside zero."""
    each: Sequence[Values] = score["differences"]
    same = {one["against"] for one in each} == {against}
    rows = [
        Dot(
            str(one["model"]) if same else f"{one['model']} - {one['against']}",
            one["value"],
            one.get("low"),
            one.get("high"),
            not one.get("within_noise"),
        )
        for one in each
    ]
    noise = sum(bool(one.get("within_noise")) for one in each)
    sentence = f"{noise} of {counted(len(each), 'difference')} {'is' if noise == 1 else 'are'} within noise"
    sentence += f": there {_why_noise(each)}, and the dot is empty."
    title = f"Differences of {score['name']}" + (f" from {against}" if same and against else "")
    words = [
        [
            row.name,
            number_text(one["value"]),
            _number(one.get("low")),
            _number(one.get("high")),
            str(one.get("words") or ""),
        ]
        for row, one in zip(rows, each, strict=True)
    ]
    table = data_table(["model", "difference", "from", "to", "in words"], words)
    return dots(title, sentence, rows, line=0.0, table=table)


def _settings(found: Values) -> Iterator[str]:
    yield fact_list({"device": str(found.get("device") or "")})
    rows = [
        [str(one["name"]), str(one.get("evaluator") or ""), *[_words(one.get("params"))]]
        for one in found["evaluations"]
    ]
    yield data_table(["evaluation", "evaluator", "with"], rows)
    models = [
        [
            str(one["name"]),
            "a merge" if one.get("merge") else "a model",
            joined([*map(str, one.get("parents") or ())]),
        ]
        for one in found["models"]
    ]
    yield data_table(["model", "what it is", "of"], models)


def _words(params: object) -> str:
    if not isinstance(params, Mapping):
        return ""
    return ", ".join(f"{key}: {value}" for key, value in params.items() if value is not None)
