"""What several tests of merges in memory share."""

from __future__ import annotations

from torch import Tensor

Tensors = dict[str, Tensor]


NAMES = ("base", "a", "b", "c")
