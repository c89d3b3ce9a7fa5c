"""Paths that are handed to the functions of Python."""

from __future__ import annotations

import os
from pathlib import Path

from mergecore.errors import ConfigError


def path_of(value: object, name: str) -> Path:
    """A path, which may be text.

    Raises:
        ConfigError: E104 for anything else; the message calls it `name`.
    """
    if not isinstance(value, os.PathLike | str):
        raise ConfigError("E104", f"{name} is a {type(value).__name__}; a path is expected")
    return Path(os.fspath(value))
