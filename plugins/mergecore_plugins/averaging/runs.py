"""The checkpoints that a run of Trainer has left in its folder; read `read_run` first.  No weight is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mergecore.errors import InputError, MergecoreError
from mergecore.files import parse_json
from mergecore.models import is_pickle

STATE = "trainer_state.json"
MAX_STATE = 2**28
"""Bytes of the largest one that is read: it holds every logged line of the run."""
FOLDER = re.compile(r"checkpoint-(\d+)", re.ASCII)
SHARDS = re.compile(r"\.metadata|pytorch_model_fsdp_\d+|global_step\d+", re.ASCII)
"""Where processes save their shards of a model; which of them can be read is up to the sources of models."""
ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is complete: where it is, and how far the run was."""

    path: Path
    step: int
    tokens: int | None = None
    """What the run had read until then; None where it did not count."""
    kind: Literal["model", "adapter"] = "model"


@dataclass(frozen=True)
class TrainingRun:
    """The folder of a run: its checkpoints by step, and what of it is no checkpoint to count."""

    path: Path
    saved: tuple[Saved, ...]
    skipped: Mapping[Path, str]
    """Why each of the other folders does not count."""


class _Unfinished(Exception):
    """Why a checkpoint does not count; kept in the module."""


def read_run(folder: Path, final_step: int | None = None) -> TrainingRun:
    """The run in `folder`.

    final_step: the step of the model that lies in `folder` itself; without it, trainer_state.json tells.

    Raises:
        InputError: E701 when there is no such folder, E236 when it cannot be read, E201 when no checkpoint is in it.
    """
    names = _listed(folder)
    saved: list[Saved] = []
    skipped: dict[Path, str] = {}
    for number, name in sorted((int(found[1]), found[0]) for found in map(FOLDER.fullmatch, names) if found):
        path = folder / name
        try:
            one = _look(path, number)
            if saved and saved[-1].step == number:
                raise _Unfinished(f"{saved[-1].path.name} is of the same step")
            saved.append(one)
        except _Unfinished as reason:
            skipped[path] = str(reason)
    _add_final(folder, names, final_step, saved, skipped)
    if not saved:
        raise _no_checkpoints(folder, names, skipped)
    return TrainingRun(folder, tuple(saved), skipped)


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in folder.iterdir())
    except FileNotFoundError:
        from mergecore.config import nearest

        what = f"'{folder}': no such directory{nearest(str(folder))}"
        where = "" if folder.is_absolute() else f"; relative paths start at {Path.cwd()}"
        raise InputError("E701", what, hint=f"give the output_dir of the run{where}") from None
    except NotADirectoryError:
        what = f"'{folder}': not a directory"
        raise InputError("E701", what, hint="give the output_dir of the run") from None
    except OSError as error:
        raise InputError("E236", f"cannot be read: {error.strerror}", place=str(folder)) from error


def complete(folder: Path) -> bool:
    """Whether a checkpoint was saved to the end: Trainer writes its state last."""
    return _state(folder) is not None


# ---- one checkpoint ----------------------------------------------------------------------------------------


def _look(path: Path, number: int) -> Saved:
    """The checkpoint in a folder; Trainer writes its state last."""
    state = _state(path)
    if state is None:
        raise _Unfinished(f"it is unfinished: there is no {STATE}, which is written last")
    step = _count(state, "global_step")
    if step != number:
        raise _Unfinished(f"its {STATE} says that it is of step {step}")
    return Saved(path, number, _count(state, "num_input_tokens_seen") or None, _kind(path))


def _state(folder: Path) -> Mapping[str, Any] | None:
    """What Trainer says of its state; None where it has not written it, or not to the end.

    Its JSON may hold NaN, for a loss that is none.
    """
    file = folder / STATE
    try:
        if not file.is_file() or file.stat().st_size > MAX_STATE:
            return None
        state = parse_json(file.read_bytes(), code="E202", max_bytes=MAX_STATE, infinite=True, nan=True)
    except (OSError, MergecoreError):
        return None
    return state if isinstance(state, dict) else None


def _count(state: Mapping[str, Any], key: str) -> int:
    value = state.get(key)
    return value if type(value) is int and value > 0 else 0


def _kind(folder: Path) -> Literal["model", "adapter"]:
    """What kind of weights a folder holds; damaged ones are found when they are opened."""
    names = {one.name for one in folder.iterdir()}
    if ADAPTER in names:
        return "adapter"
    if any(_is_weights(name) for name in names):
        return "model"
    raise _Unfinished("no weights are in it")


def _is_weights(name: str) -> bool:
    return (
        name.endswith((".safetensors", ".safetensors.index.json"))
        or is_pickle(name)
        or SHARDS.fullmatch(name) is not None
    )


# ---- the model in the folder of the run --------------------------------------------------------------------


def _add_final(
    folder: Path, names: list[str], given: int | None, saved: list[Saved], skipped: dict[Path, str]
) -> None:
    """Count the final model where it is known to be of a later step than all checkpoints."""
    try:
        kind = _kind(folder) if saved or given is not None else None
    except _Unfinished:
        kind = None
    if kind is None:
        if given is not None:
            what = "the folder of the run has checkpoints, and no model beside them"
            raise InputError("E201", what, place=str(folder), hint="leave out --final-step")
        return
    newest = saved[-1] if saved else Saved(folder, 0)
    state = _state(folder) or {}
    step = given if given is not None else _count(state, "global_step")
    if given is None and (step == newest.step or _ended(newest)):
        return  # it is the newest checkpoint, or the best of them
    if given is None and (not step or state.get("best_model_checkpoint")):
        skipped[folder] = (
            "the step of the model in the folder of the run is not known; --final-step N counts it"
        )
    elif step <= newest.step:
        skipped[folder] = f"the model in the folder of the run is of step {step}, which is not the last"
    else:
        saved.append(Saved(folder, step, _count(state, "num_input_tokens_seen") or None, kind))


def _ended(newest: Saved) -> bool:
    """Whether the run ended with its newest checkpoint."""
    state = _state(newest.path) or {}
    return 0 < _count(state, "max_steps") <= newest.step


def _no_checkpoints(folder: Path, names: list[str], skipped: Mapping[Path, str]) -> InputError:
    what = "no finished checkpoints are here; Trainer writes them as checkpoint-NUMBER"
    told = "; ".join(f"{path.name}: {reason}" for path, reason in skipped.items())
    hint = "give the output_dir of the run"
    if FOLDER.fullmatch(folder.resolve().name):
        hint = f"this is a checkpoint itself; give the folder that holds it, {folder.resolve().parent}"
    elif inside := [name for name in names if any(map(_holds, (folder / name).glob("checkpoint-*")))]:
        hint = f"there are some in {folder / inside[0]}"
    return InputError("E201", f"{what} ({told})" if told else what, place=str(folder), hint=hint)


def _holds(path: Path) -> bool:
    return FOLDER.fullmatch(path.name) is not None and path.is_dir()
