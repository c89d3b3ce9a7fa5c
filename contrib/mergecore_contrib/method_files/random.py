"""Random numbers of torch that are the same in every run, whichever thread draws them; read `Seeded`."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_ONE_AT_A_TIME = Lock()
"""The generator that functions draw from belongs to the whole process."""


class Seeded(TorchDispatchMode):
    """Within it, what this thread draws from torch depends on `seed` and on what it drew before, on nothing else.

    A function that brings a generator of its own draws from that.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed = seed

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The result of an operation; of one that draws, with a seed of its own."""
        given = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or given.get("generator") is not None:
            return func(*args, **given)
        self._seed += 1
        return _drawn(func, args, given, self._seed)


def _drawn(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], seed: int) -> Any:
    with _ONE_AT_A_TIME, torch.random.fork_rng():
        torch.manual_seed(seed)
        return func(*args, **kwargs)
