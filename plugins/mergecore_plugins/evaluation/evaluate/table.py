"""A comparison as text of 80 columns; read `as_text`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from mergecore.errors import printable
from mergecore_plugins.evaluation.cells import WIDTH, cells, ending, filled
from mergecore_plugins.evaluation.statistics import RESAMPLES

NAME = 20
"""Cells of a name at most."""


def as_text(found: Mapping[str, Any]) -> str:
    """What `Comparison.as_json` holds, for people."""
    given = {one["name"] for one in found["models"] if one["given"]}
    parts = [
        "\n".join(_score(evaluation, score, given, found))
        for evaluation in found["evaluations"]
        for score in evaluation["scores"]
    ]
    notes = [f"warning: {one}" for one in found["warnings"]]
    several = any(score["differences"] for one in found["evaluations"] for score in one["scores"])
    return "\n\n".join(
        [*parts, *(["\n".join(notes)] if notes else []), *([_meaning(found)] if several else [])]
    )


def _meaning(found: Mapping[str, Any]) -> str:
    """What differences are, in words."""
    return (
        f"Differences are those to {printable(found['against'])}, with intervals of 95 %: {RESAMPLES} draws of as "
        f"many samples, the same ones for both, seed {found['seed']}.  Within noise: other samples could turn it round."
    )


def _score(
    evaluation: Mapping[str, Any],
    score: Mapping[str, Any],
    given: Collection[str],
    found: Mapping[str, Any],
) -> Iterator[str]:
    """A heading, and a line for each model that has the score, or was asked for."""
    names = [printable(one) for one in dict.fromkeys((evaluation["name"], score["name"]))]
    samples = next((row["samples"] for row in score["results"] if row["value"] is not None), 0)
    better = "more is better" if score["goal"] == "max" else "less is better"
    word = "sample" if samples == 1 else "samples"
    yield heading(names, f", of {samples} {word}; {better}")
    differences = {one["model"]: one for one in score["differences"]}
    yield row_of("model", "value", "difference" if differences else "", "interval of 95 %")
    for row in score["results"]:
        if row["value"] is None:
            if row["model"] in given:
                yield row_of(shortened(row["model"]), "–")
            continue
        mark = "best" if row["best"] else ""
        if row["model"] in differences:
            told = difference(differences[row["model"]])
            told = (*told[:2], told[2] if "within" in told[2] else f"{told[2]} {mark}".strip())
        else:
            told = ("", "" if differences else ends(row), mark)
        yield row_of(shortened(row["model"]), number(row["value"]), *told)
    yield from _swept(found, score)


_BARS = "▁▂▃▄▅▆▇█"
_BARS_OF_LINE = 70


def _swept(found: Mapping[str, Any], score: Mapping[str, Any]) -> Iterator[str]:
    """The values of a sweep as bars in a line, higher for more, and the best of them."""
    at = {one["name"]: one["at"] for one in found["models"] if one["at"] is not None}
    rows = [row for row in score["results"] if row["model"] in at and row["value"] is not None]
    if len(rows) < 2:
        return
    low, high = (pick(row["value"] for row in rows) for pick in (min, max))
    steps = [(row["value"] - low) / (high - low) if high > low else 0 for row in rows]
    bars = "".join(_BARS[round(step * (len(_BARS) - 1))] for step in steps)
    first, last = at[rows[0]["model"]], at[rows[-1]["model"]]
    best = (max if score["goal"] == "max" else min)(rows, key=lambda row: row["value"])["model"]
    about = f"  {printable(found['sweep'])} from {first:g} to {last:g}:"
    line = f"{about} {bars}  best: {best}"
    if cells(line) <= WIDTH:
        yield line
        return
    yield f"{about} best: {best}"
    yield from (f"    {bars[start : start + _BARS_OF_LINE]}" for start in range(0, len(bars), _BARS_OF_LINE))


def heading(names: Sequence[str], rest: str) -> str:
    """Names and what is said of them in a line, for which long names are cut."""
    room = WIDTH - cells(rest) - 2 * (len(names) - 1)
    whole = sum(map(cells, names)) <= room
    return ": ".join(one if whole else ending(one, room // len(names)) for one in names) + rest


def row_of(name: str, value: str, difference: str = "", between: str = "", words: str = "") -> str:
    """A line of the table."""
    return f"  {filled(name, NAME)} {value:>9} {difference:>10}  {between:<21} {words}".rstrip()


def difference(one: Mapping[str, Any]) -> tuple[str, str, str]:
    """A difference, its interval, and what that means."""
    words = one["words"].partition(":")[0]
    between = ""
    if one["low"] is not None:
        between = " to ".join(number(one[key], sign=True, digits=3) for key in ("low", "high"))
    return number(one["value"], sign=True, digits=3), between, words


def ends(row: Mapping[str, Any]) -> str:
    """The interval of a value that is compared with no other."""
    return "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"


def number(value: float, *, sign: bool = False, digits: int = 4) -> str:
    """A number of so many digits."""
    text = f"{value:{'+' if sign else ''}.{digits}g}"
    return "0" if float(text) == 0 else text


def shortened(name: str) -> str:
    """A name of at most `NAME` cells; its end, where it is longer."""
    return ending(printable(name), NAME)
