"""Side files: what lies beside the weights of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class SideFiles:
    """Files by name, each as bytes or as the path of the file that is copied; and what the user should know of them."""

    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
