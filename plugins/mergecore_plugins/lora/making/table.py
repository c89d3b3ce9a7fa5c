"""The table of an adapter that was made: size and error by kind of module; read `Report`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from mergecore.files import size_text
from mergecore.types import Finished, Json, Plan
from mergecore_plugins.lora.making.peft import PREFIX

CARD = "README.md"
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
    finetuned: int | None = None
    """Bytes of the fine-tune that it was taken out of."""

    @property
    def error(self) -> float:
        """What the adapter lacks of all changes, as a share of them."""
        change = math.hypot(*(line.change for line in self.lines))
        return math.hypot(*(line.lost for line in self.lines)) / change if change else 0.0

    def as_json(self) -> dict[str, Json]:
        """Plain values."""
        lines: list[Json] = [line.as_json() for line in self.lines]
        of: dict[str, Json] = {} if self.finetuned is None else {"of_bytes": self.finetuned}
        return {"error": self.error, "bytes": self.size, **of, "kinds": lines}

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """The cells of the table, its head and its last line included."""
        rows = [("modules", "number", "stored", "size", "error")]
        rows += [
            (one.kind, str(one.count), _how(one), size_text(one.size), f"{one.error:.2%}")
            for one in self.lines
        ]
        count = str(sum(one.count for one in self.lines))
        whole = size_text(self.size)
        whole += f" of {size_text(self.finetuned)}" if self.finetuned is not None else ""
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


ERROR = "error: the share of the change that the adapter lacks (Frobenius norm)"


def _how(line: Line) -> str:
    if not line.ranks:
        return line.how
    low, high = line.ranks
    return f"rank {low}" if low == high else f"rank {low} to {high}"


def finished(plan: Plan, found: Report) -> Finished:
    """The table in the card of an adapter and in its manifest."""
    card = plan.side_files.get(CARD)
    files = {CARD: card + f"\n{found.as_markdown()}".encode()} if isinstance(card, bytes) else {}
    return Finished(files, found.as_json())


def kind_of(name: str) -> str:
    """A tensor of a model, or of an adapter, by its name in its layer."""
    bare = name.removeprefix(PREFIX).replace(".base_layer.", ".").replace(".lora_B.bias", ".bias")
    return _LAYER.sub("", bare).removesuffix(".weight")
