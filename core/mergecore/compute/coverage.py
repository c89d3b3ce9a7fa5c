"""Whether stretches of outputs, made in any order, are every element once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mergecore.errors import PluginError


class Coverage:
    """The stretches made so far of each output; safe from any thread."""

    def __init__(self, counts: Sequence[int]) -> None:
        """`counts`: how many elements each output has."""
        self._counts = counts
        self._made: list[list[tuple[int, int]]] = [[] for _ in counts]

    def add(self, output: int, start: int, count: int) -> None:
        """Take note of a stretch.

        Raises:
            PluginError: E605 when there is no such place.
        """
        if not 0 <= output < len(self._counts):
            raise PluginError(
                "E605", f"it makes numbers of output {output}, and there are {len(self._counts)}"
            )
        if not 0 <= start <= start + count <= self._counts[output]:
            what = f"it makes elements {start} to {start + count} of output {output}, which has"
            raise PluginError("E605", f"{what} {self._counts[output]}")
        if count:
            self._made[output].append((start, start + count))

    def faults(self) -> Iterator[tuple[int, str]]:
        """The outputs of which elements are missing or were made twice, and the first of them in words."""
        for output, (count, made) in enumerate(zip(self._counts, self._made, strict=True)):
            at = 0
            for start, stop in [*sorted(made), (count, count)]:
                if start != at:
                    lost = f"no elements {at} to {start}" if start > at else f"elements {start} to {at} twice"
                    yield output, lost
                    break
                at = stop
