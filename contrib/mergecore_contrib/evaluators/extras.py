"""Packages that are not needed until somebody asks for what they do; read `imported`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from mergecore import PluginError


def imported(module: str, extra: str) -> Any:
    """A module of a package that an extra of mergecore installs.

    Raises:
        PluginError: E601 when it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        what = f"{module} is not installed" if missing else f"{module} cannot be imported: {error}"
        raise PluginError("E601", what, hint=f"pip install 'mergecore[{extra}]'") from error


def versioned(module: str, extra: str) -> Iterator[Path]:
    """The file of a package that tells its version, which keeps scores of different versions apart."""
    imported(module, extra)
    yield from (Path(str(one.locate())) for one in metadata.files(module) or () if one.name == "METADATA")
