"""Folders as Trainer leaves them: checkpoints of a tiny Llama with what lies beside them."""

from __future__ import annotations

import json
from pathlib import Path

from tiny import write_llama

from mergecore.types import Json


def write_run(folder: Path, *steps: int, tokens: int = 0, **state: Json) -> Path:
    """A run with a checkpoint at each of the steps, whose numbers all are that step; the folder.

    tokens: how many a step reads; 0 where the run does not count them.
    """
    for step in steps:
        write_saved(folder / f"checkpoint-{step}", step, tokens * step, **state)
    return folder


def write_saved(folder: Path, step: int, tokens: int = 0, **state: Json) -> Path:
    """One checkpoint; the folder."""
    write_llama(folder, 1, float(step))
    write_state(folder, step, tokens, **state)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (folder / name).write_bytes(b"a pickle that nobody reads")
    return folder


def write_state(folder: Path, step: int, tokens: int = 0, **state: Json) -> None:
    """What Trainer writes last; a loss may be NaN there."""
    log: list[Json] = [{"loss": float("nan"), "step": step}]
    facts: dict[str, Json] = {
        "global_step": step,
        "max_steps": 10_000_000,
        "num_input_tokens_seen": tokens,
        "log_history": log,
        **state,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps(facts, indent=2))
