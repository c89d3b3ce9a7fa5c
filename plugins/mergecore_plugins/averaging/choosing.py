"""Which checkpoints of a run are averaged, and the merge config that says so; read `chosen` and `config_of`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from mergecore import ConfigError
from mergecore_plugins.averaging.runs import Saved, TrainingRun
from mergecore_plugins.methods.common import DECAYS, Schedule, schedule_weights

if TYPE_CHECKING:
    from mergecore.types import Json

USUAL = 5
"""How many of the newest checkpoints are averaged where nothing is said."""


@dataclass(frozen=True)
class Window:
    """What is asked for: the checkpoints that all of it leaves."""

    last: int | None = None
    steps: tuple[int | None, int | None] = (None, None)
    """The first and the last step, both included."""
    tokens: int | None = None
    """Up to so many tokens before the newest."""
    every: int | None = None
    """Steps that lie between two of them at least, counted from the newest."""

    @property
    def said(self) -> bool:
        """Whether anything is asked for that bounds the window."""
        return self.last is not None or self.tokens is not None or self.steps != (None, None)


def parse_steps(text: str) -> tuple[int | None, int | None]:
    """The steps of `A:B`, either of which may be left out.

    Raises:
        ConfigError: E115.
    """
    found = re.fullmatch(r"(\d*):(\d*)", text.replace("_", ""), re.ASCII)
    if not found or text == ":":
        what = f"--steps '{text}': A:B, A: or :B is expected"
        raise ConfigError("E115", what, hint="such as 1000:3000; both are included")
    first, last = (int(one) if one else None for one in found.groups())
    if first is not None and last is not None and first > last:
        what = f"--steps '{text}': {first} is behind {last}"
        raise ConfigError("E115", what, hint="write the smaller step first")
    return first, last


def parse_tokens(text: str) -> int:
    """The number that `2B`, `500M` or a plain number stands for.

    Raises:
        ConfigError: E115.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMbBtT]?)", text.strip().replace("_", ""), re.ASCII)
    if not found:
        what = f"--tokens '{text}': a number of tokens is expected"
        raise ConfigError("E115", what, hint="such as 2B, 500M or 100000")
    unit: int = 1000 ** " kmbt".index(found[2].lower() or " ")
    return round(float(found[1]) * unit)


# ---- choosing ----------------------------------------------------------------------------------------------


def chosen(run: TrainingRun, window: Window) -> tuple[Saved, ...]:
    """The checkpoints in the window, oldest first.

    Raises:
        ConfigError: E105 when they are fewer than asked for, or fewer than two; or when the run has not counted tokens.
    """
    first, last = window.steps
    found = [
        one
        for one in run.saved
        if (first is None or one.step >= first) and (last is None or one.step <= last)
    ]
    if not found:
        what = f"{run.path} has no checkpoint among these steps; it has {_steps(run.saved)}"
        raise ConfigError("E105", what, hint="choose other --steps")
    if window.tokens is not None:
        found = _of_tokens(found, window.tokens)
    if window.every is not None:
        found = _apart(found, window.every)
    count = window.last if window.said else USUAL
    if window.last is not None and len(found) < window.last:
        what = f"--last {window.last}: {run.path} has {len(found)} such checkpoints, {_steps(found)}"
        hint = f"write --last {len(found)}; save_total_limit tells Trainer how many to keep"
        raise ConfigError("E105", what, hint=hint)
    found = found[-count:] if count else found
    if len(found) < 2:
        what = f"only {found[0].path.name} is chosen, and an average needs two checkpoints"
        raise ConfigError("E105", what, hint=f"choose a wider window; {run.path} has {_steps(run.saved)}")
    return tuple(found)


def _of_tokens(found: Sequence[Saved], window: int) -> list[Saved]:
    uncounted = [one.path.name for one in found if one.tokens is None]
    if uncounted:
        what = f"--tokens: {uncounted[-1]} does not say how many tokens the run had read"
        hint = "use --last or --steps; Trainer counts tokens with include_num_input_tokens_seen"
        raise ConfigError("E105", what, hint=hint)
    newest = found[-1].tokens or 0
    return [one for one in found if newest - (one.tokens or 0) <= window]


def _apart(found: Sequence[Saved], distance: int) -> list[Saved]:
    """The newest, and going back from it each that lies far enough before the one after it."""
    kept = [found[-1]]
    for one in reversed(found[:-1]):
        if kept[-1].step - one.step >= distance:
            kept.append(one)
    return kept[::-1]


def _steps(found: Sequence[Saved]) -> str:
    steps = [str(one.step) for one in found]
    return ", ".join(steps if len(steps) <= 8 else [*steps[:3], "…", *steps[-3:]])


# ---- what they stand for -----------------------------------------------------------------------------------


def weights(found: Sequence[Saved], schedule: Schedule, decay: float) -> tuple[float, ...]:
    """The weight of each checkpoint."""
    return schedule_weights(schedule, len(found), decay=decay, at=_uneven(found, schedule))


def config_of(
    found: Sequence[Saved],
    schedule: Schedule,
    decay: float,
    *,
    base: str | None = None,
    config: str | None = None,
    dtype: str | None = None,
) -> dict[str, Json]:
    """The merge config that averages checkpoints: the newest gives config.json and tokenizer.

    base: the model that adapters are put on, where it is not the one that they name.
    config: the model that gives config.json and tokenizer in place of the newest checkpoint.
    """
    uneven = _uneven(found, schedule)
    models: list[Json] = [
        {"model": _reference(one, base), **({"parameters": {"step": step}} if uneven else {})}
        for one, step in zip(found, uneven or [0] * len(found), strict=True)
    ]
    parameters: dict[str, Json] = {"schedule": schedule, **({"decay": decay} if schedule == "ema" else {})}
    return {
        "merge_method": "average",
        "base_model": config or _reference(found[-1], base),
        "models": models,
        "parameters": parameters,
        **({"out_dtype": dtype} if dtype else {}),
    }


def _uneven(found: Sequence[Saved], schedule: Schedule) -> list[int] | None:
    """The steps, where the schedule depends on them and they are not evenly spaced."""
    steps = [one.step for one in found]
    if schedule not in DECAYS or len({later - earlier for earlier, later in pairwise(steps)}) <= 1:
        return None
    return steps


def _reference(one: Saved, base: str | None) -> Json:
    path = _written(one.path)
    if one.kind == "model":
        return path
    return {**({"model": base} if base else {}), "adapter": path}


def _written(path: Path) -> str:
    """The path so that it cannot be taken for the name of a hub model."""
    text = str(path)
    return text if path.is_absolute() or text.startswith(os.curdir) else f".{os.sep}{text}"
