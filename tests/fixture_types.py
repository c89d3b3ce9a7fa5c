"""What the fixtures that many tests share hand out; the fixtures themselves are in conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]
"""Runs a command line of mergecore in this process."""

WritePlugin = Callable[..., Path]
"""Installs a distribution of somebody else."""

WriteModel = Callable[..., Path]
"""Writes a checkpoint."""
