"""Handwritten digits of 8x8 pixels, 1797 of them, and tasks made from them.

A task is one way to transform the images: `TRANSFORMS` are all, `TASKS` those of the demo.  All tasks share
the ten classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from mergecore_plugins.commands.demo import ASSETS

TRANSFORMS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "identity": lambda images: images,
        "rotated": lambda images: images.rot90(1, (-2, -1)),  # a quarter turn, counter-clockwise
        "rotated180": lambda images: images.rot90(2, (-2, -1)),
        "rotated270": lambda images: images.rot90(3, (-2, -1)),
        "mirrored": lambda images: images.flip(-1),  # left and right exchanged
        "transposed": lambda images: images.mT,
        "negative": lambda images: 1 - images,  # white ink on black paper
        "checkered": lambda images: (images - _chequers(images)).abs(),  # a negative of every other pixel
    }
)
TASKS = ("rotated", "mirrored", "negative")


@dataclass(frozen=True)
class Digits:
    """Labelled images."""

    images: Tensor  # (n, 8, 8) float32, 0 is paper and 1 is ink
    labels: Tensor  # (n,) int64, 0 to 9

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> Digits:
        return Digits(self.images[index], self.labels[index])

    def seen_as(self, task: str) -> Digits:
        """The same digits with the task's transform applied to every image."""
        return Digits(TRANSFORMS[task](self.images), self.labels)

    def few(self, per_class: int) -> Digits:
        """The first `per_class` digits of every class."""
        return self[torch.cat([(self.labels == digit).nonzero()[:per_class, 0] for digit in range(10)])]


@dataclass(frozen=True)
class Split:
    """The digits in three parts that share no image."""

    train: Digits  # 1000
    validation: Digits  # 250, to choose a scale
    test: Digits  # 547, to report


def load_split() -> Split:
    """The digits of the package, always split the same way."""
    with np.load(ASSETS / "digits.npz") as arrays:
        digits = Digits(
            torch.from_numpy(arrays["images"]).float() / 16,
            torch.from_numpy(arrays["labels"]).long(),
        )
    # RandomState, not default_rng: NumPy promises that its stream never changes.
    shuffled = digits[torch.from_numpy(np.random.RandomState(0).permutation(len(digits)))]
    return Split(shuffled[:1000], shuffled[1000:1250], shuffled[1250:])


def _chequers(images: Tensor) -> Tensor:
    """1 where row and column are an odd and an even number, else 0."""
    rows, columns = (torch.arange(size) for size in images.shape[-2:])
    return (rows.unsqueeze(1) + columns) % 2
