"""Runs a model over token ids and shows what enters and leaves its modules; read `observe`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from mergecore.compute import one_thread_each
from mergecore_plugins.activations.decoder import Decoder
from mergecore_plugins.activations.layout import RunLayout
from mergecore_plugins.activations.lockstep import Lockstep

if TYPE_CHECKING:
    from mergecore.types import Matrix

TOKENS = 4096
"""Tokens of a batch, padding included; fixed, so that numbers do not depend on the machine."""
SQUARES = 1 << 20
"""Pairs of positions of a batch, for each head of attention."""


@dataclass(frozen=True)
class Point:
    """What enters or leaves a module, by its name in the model."""

    module: str
    side: Literal["input", "output"] = "input"


class Observer(Protocol):
    """What takes the numbers."""

    def see(self, point: Point, text: int, values: Tensor) -> None:
        """Take what passes a point for the tokens of a text, (tokens, width); it is overwritten afterwards."""

    def done(self, layer: str) -> None:
        """Hear that all texts have passed a layer: its points will not be seen again."""


def observe(
    layout: RunLayout,
    weights: Mapping[str, Matrix],
    texts: Sequence[Sequence[int]],
    points: Sequence[Point],
    observer: Observer,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Run a model over texts, given as ids of tokens; `observer` sees the `points` of every one.

    weights: what `layout.names` names.  All texts go through a layer before the next one is read.  Texts of a batch
    are padded at their ends, and what is padded is never shown.  It all happens in this thread's stead, one operation
    after the other, so that numbers depend on the texts and the machine only.
    """
    with one_thread_each():
        _Run(Decoder(layout, weights, torch.device(device), dtype), layout, texts, points, observer).run()


class _Run:
    """The passes of all batches, with hooks where somebody looks."""

    def __init__(
        self,
        decoder: Decoder,
        layout: RunLayout,
        texts: Sequence[Sequence[int]],
        points: Sequence[Point],
        observer: Observer,
    ) -> None:
        self._decoder = decoder
        self._texts = texts
        self._batches = [*_batches(texts)]
        self._observer = observer
        self._steps = Lockstep(decoder.bring, self._leave)
        for layer in layout.layers:
            decoder.submodule(layer).register_forward_pre_hook(self._arrival(layer))
        for point in points:
            module = decoder.submodule(point.module)
            if point.side == "input":
                module.register_forward_pre_hook(self._entrance(point), with_kwargs=True)
            else:
                module.register_forward_hook(self._exit(point))

    def run(self) -> None:
        """Let every batch pass."""
        try:
            self._steps.run(len(self._batches), self._forward)
        finally:  # who trips over a NaN is not to blame
            self._decoder.raise_faults()

    def _forward(self, index: int) -> None:
        batch = self._batches[index]
        length = max(len(self._texts[i]) for i in batch)
        ids = torch.zeros((len(batch), length), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(batch):
            count = len(self._texts[text])
            ids[row, :count] = torch.tensor(self._texts[text])
            mask[row, :count] = 1
        with torch.inference_mode():
            self._decoder(ids, mask)

    def _leave(self, layer: str) -> None:
        self._decoder.put_away(layer)
        self._observer.done(layer)

    def _arrival(self, layer: str) -> Callable[[nn.Module, object], None]:
        return lambda module, given: self._steps.arrive(layer)

    def _entrance(self, point: Point) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        return lambda module, given, named: self._show(point, (*given, *named.values()))

    def _exit(self, point: Point) -> Callable[[nn.Module, object, Any], None]:
        return lambda module, given, made: self._show(point, made if isinstance(made, tuple) else (made,))

    def _show(self, point: Point, candidates: tuple[Any, ...]) -> None:
        """Show the first tensor of floats, text by text, without what is padded."""
        values = next(one for one in candidates if isinstance(one, Tensor) and one.is_floating_point())
        batch = self._batches[self._steps.running]
        rows = values.view(
            len(batch), -1, values.shape[-1]
        )  # some modules see all tokens of a batch in a row
        for row, text in zip(rows, batch, strict=True):
            self._observer.see(point, text, row[: len(self._texts[text])])


def _batches(texts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The numbers of texts of about one length, as many as go through the model at once."""
    batch: list[int] = []
    for index in sorted((i for i, text in enumerate(texts) if text), key=lambda i: (len(texts[i]), i)):
        length, rows = len(texts[index]), len(batch) + 1
        if batch and (rows * length > TOKENS or rows * length**2 > SQUARES):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
