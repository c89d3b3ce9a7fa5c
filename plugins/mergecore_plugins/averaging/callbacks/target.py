"""Where a callback writes an average: checked before training, since hours would be lost at the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mergecore import ConfigError, OutputError

_STEP = "{step}"


def check_name(out: str) -> None:
    """Raise E105 for braces with something else in them than the step: training would end with an error."""
    try:
        out.format(step=0)
    except (AttributeError, LookupError, ValueError):
        what = f"out: '{out}' has braces that are not '{_STEP}'"
        raise ConfigError("E105", what, hint=f"write {_STEP} for the step, and no other braces") from None


def check_target(run: Path, out: str, is_average: Callable[[Path], bool]) -> None:
    """Raise E501 for what an average of some step would replace, and `is_average` does not know.

    run: the folder of the run.  out: the name of the average in it, with `{step}` for any step.
    """
    target = run / out
    pattern = re.compile(r"\d+".join(map(re.escape, target.name.split(_STEP))))
    there = target.parent.iterdir() if target.parent.is_dir() else ()
    for found in sorted(one for one in there if pattern.fullmatch(one.name)):
        if not is_average(found):
            what = f"{found} exists, and is not an average that could be replaced"
            raise OutputError("E501", what, hint="remove it, or choose another name with out")
