"""The chosen checkpoints with their weights, as text and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergecore_plugins.averaging.runs import Saved, TrainingRun

if TYPE_CHECKING:
    from mergecore.types import Json


@dataclass(frozen=True)
class Shown:
    """What is averaged, and what else is in the folder of the run."""

    run: TrainingRun
    found: Sequence[Saved]
    weights: Sequence[float]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The folders that do not count, and why."""
        return tuple(f"{path} is left out: {reason}" for path, reason in self.run.skipped.items())

    def as_text(self) -> str:
        """A line for each checkpoint, the oldest first."""
        counted = any(one.tokens for one in self.found)
        rows = [("weight", "step", *(["tokens"] if counted else []), "checkpoint")]
        for one, weight in zip(self.found, self.weights, strict=True):
            tokens = [f"{one.tokens or 0:,}"] if counted else []
            rows.append((f"{weight:.6f}", str(one.step), *tokens, str(one.path)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]])
            for row in rows
        )

    def as_json(self) -> dict[str, Json]:
        """The same as plain values."""
        return {
            "checkpoints": [
                {"path": str(one.path), "step": one.step, "tokens": one.tokens, "weight": weight}
                for one, weight in zip(self.found, self.weights, strict=True)
            ],
            "left_out": [{"path": str(path), "reason": reason} for path, reason in self.run.skipped.items()],
        }
