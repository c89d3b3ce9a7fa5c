"""Where a callback writes an average: checked before training, since hours would be lost at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Formatter

from mergecore import ConfigError, OutputError

_STEP = "{step}"
_STEPS = (*range(1024), *(digit * 10**power for power in range(3, 16) for digit in range(1, 10)))
"""Steps that show which characters a step is written with."""


def check_name(out: str) -> None:
    """Raise E105 for braces with something else in them than the step: training would end with an error."""
    try:
        [*_patterns(out)]
    except (OverflowError, ValueError):
        what = f"out: '{out}' has braces that are not '{_STEP}'"
        raise ConfigError("E105", what, hint=f"write {_STEP} for the step, and no other braces") from None


def check_target(run: Path, out: str, is_average: Callable[[Path], bool]) -> None:
    """Raise E501 for what an average of some step would replace, and `is_average` does not know.

    run: the folder of the run.  out: the name of the average in it, with `{step}` or `{step:05d}` for any step.
    """
    there = [run]
    for part in _patterns(out):
        there = [found for folder in there for found in _within(folder, part)]
    for found in sorted(there):
        if not is_average(found):
            what = f"{found} exists, and is not an average that could be replaced"
            raise OutputError("E501", what, hint="remove it, or choose another name with out")


def _within(folder: Path, part: str | re.Pattern[str]) -> Iterator[Path]:
    if isinstance(part, str):
        yield from [folder / part] if (folder / part).exists() else []
    elif folder.is_dir():
        yield from (one for one in folder.iterdir() if part.fullmatch(one.name))


def _patterns(out: str) -> Iterator[str | re.Pattern[str]]:
    """What the folders of a path are called, and the last one: names, or patterns where there is a step in them.

    Raises:
        ValueError, OverflowError: for other braces than those of a step.
    """
    plain, steps = "", []
    for text, field, form, conversion in Formatter().parse(out):
        plain += text
        if field is not None:
            steps.append(_characters(field, form or "", conversion))
            plain += "\0"
    following = iter(steps)
    for part in Path(plain).parts:
        first, *others = map(re.escape, part.split("\0"))
        found = first + "".join(f"{next(following)}{other}" for other in others)
        yield re.compile(found) if others else part


def _characters(field: str, form: str, conversion: str | None) -> str:
    """A pattern of the characters with which a step is written."""
    if field != "step" or "{" in form or re.search(r"\d{4}", form):
        raise ValueError(field)
    value = f"{{step{f'!{conversion}' if conversion else ''}:{form}}}"
    written = {letter for step in _STEPS for letter in value.format(step=step)}
    if written & {"/", "\0"}:
        raise ValueError(form)
    return f"[{''.join(map(re.escape, sorted(written)))}]+"
