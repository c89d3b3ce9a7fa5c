"""The table of an extraction: size and error by kind of module, and how near the whole comes; read `Report`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergecore.files import nbytes, size_text
from mergecore.types import Finished, Json, Plan, Step
from mergecore_plugins.lora.extract_lora.methods import FactorParams
from mergecore_plugins.lora.extract_lora.steps import FACTS

if TYPE_CHECKING:
    from torch import Tensor

_LAYER = re.compile(r".*\.(layers?|h|blocks?|layer)\.\d+\.")


@dataclass(frozen=True)
class Line:
    """Modules of one kind that fare alike."""

    kind: str
    how: str
    count: int
    ranks: tuple[int, int] | None
    size: int
    """Bytes in the adapter."""
    change: float
    """Length of the change, that of all numbers together."""
    lost: float
    """Length of what the adapter lacks of it."""

    @property
    def error(self) -> float:
        """The relative error of the change."""
        return self.lost / self.change if self.change else 0.0

    def as_json(self) -> dict[str, Json]:
        """Plain values."""
        ranks: Json = [*self.ranks] if self.ranks else None
        return {
            "kind": self.kind,
            "how": self.how,
            "count": self.count,
            "ranks": ranks,
            "bytes": self.size,
            "change": self.change,
            "error": self.error,
        }


@dataclass(frozen=True)
class Report:
    """All lines, and the whole."""

    lines: tuple[Line, ...]
    size: int
    """Bytes of the adapter."""
    finetuned: int
    """Bytes of the fine-tune."""

    @property
    def error(self) -> float:
        """How far base and adapter are from the fine-tune, as a share of how far the base is."""
        change = math.hypot(*(line.change for line in self.lines))
        return math.hypot(*(line.lost for line in self.lines)) / change if change else 0.0

    def as_json(self) -> dict[str, Json]:
        """Plain values."""
        lines: list[Json] = [line.as_json() for line in self.lines]
        return {"error": self.error, "bytes": self.size, "of_bytes": self.finetuned, "kinds": lines}

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """The cells of the table, its head and its last line included."""
        rows = [("modules", "number", "stored", "size", "error")]
        rows += [
            (one.kind, str(one.count), _how(one), size_text(one.size), f"{one.error:.2%}")
            for one in self.lines
        ]
        count = str(sum(one.count for one in self.lines))
        whole = f"{size_text(self.size)} of {size_text(self.finetuned)}"
        return [*rows, ("all", count, "", whole, f"{self.error:.2%}")]

    def as_text(self) -> str:
        """The table, and what an error is."""
        rows = self.rows()
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = [
            "  ".join(
                cell.rjust(size) if i in (1, 3, 4) else cell.ljust(size)
                for i, (cell, size) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, ERROR])

    def as_markdown(self) -> str:
        """The same for a card."""
        head, *rows = (f"| {' | '.join(row)} |" for row in self.rows())
        return "\n".join([head, "| --- | --: | --- | --: | --: |", *rows, "", ERROR, ""])


ERROR = "error: what the adapter lacks of the change, as a share of the change (Frobenius norm)"


def _how(line: Line) -> str:
    if not line.ranks:
        return line.how
    low, high = line.ranks
    return f"rank {low}" if low == high else f"rank {low} to {high}"


def finish(plan: Plan, read: Callable[[str], Tensor]) -> Finished:
    """The table in the card of an adapter and in its manifest."""
    names = (one.name for step in plan.steps for one in step.outputs if one.name.startswith(FACTS))
    found = report(plan, {name: read(name) for name in names})
    card = plan.side_files.get(CARD)
    files = {CARD: card + f"\n{found.as_markdown()}".encode()} if isinstance(card, bytes) else {}
    return Finished(files, found.as_json())


CARD = "README.md"


def report(plan: Plan, facts: Mapping[str, Tensor]) -> Report:
    """What an extraction has made, from its plan and the facts that lie beside the adapter."""
    copies = {one.name: one for step in plan.steps for one in step.outputs if not one.name.startswith(FACTS)}
    groups: dict[tuple[str, str], list[Step]] = {}
    for step in plan.steps:
        name = step.outputs[-1].name
        if name.startswith(FACTS):
            groups.setdefault((_kind(name.removeprefix(FACTS)), _stored(step)), []).append(step)
    lines = [_line(kind, how, steps, facts) for (kind, how), steps in groups.items()]
    now = plan.models[0].tensors.values()
    return Report(
        tuple(lines),
        sum(one.nbytes for one in copies.values()),
        sum(nbytes(one.dtype, one.shape) for one in now),
    )


def _line(kind: str, how: str, steps: Iterable[Step], facts: Mapping[str, Tensor]) -> Line:
    steps = list(steps)
    lengths = [facts[step.outputs[-1].name][0, 0, 0] for step in steps]
    ranks = [step.params.rank for step in steps if isinstance(step.params, FactorParams)]
    size = sum(one.nbytes for step in steps for one in step.outputs[:-1])
    if how == "whole":
        size = sum(nbytes(one.tensor.dtype, one.shape) for step in steps for one in step.inputs)
    return Line(
        kind,
        how,
        len(steps),
        (min(ranks), max(ranks)) if ranks else None,
        size,
        math.sqrt(sum(float(one[0]) for one in lengths)),
        math.sqrt(sum(float(one[1]) for one in lengths)),
    )


def _stored(step: Step) -> str:
    if isinstance(step.params, FactorParams):
        return "factored"
    return "left out" if getattr(step.params, "lost", False) else "whole"


def _kind(name: str) -> str:
    """A tensor by its name in its layer."""
    return _LAYER.sub("", name).removesuffix(".weight")
