"""Merge methods in files that were written for mergekit or sd-mecha: `MERGECORE_METHOD_FILES=my_method.py`.

Read `methods_of`.  `stand_ins` makes the modules that a file imports; `old_mergekit`, `new_mergekit` and `sd_mecha`
turn what it defines into merge methods, `calling` has what these share.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mergecore import ConfigError, MergeMethod, PluginError, hookimpl

__all__ = ["methods_of"]

VARIABLE = "MERGECORE_METHOD_FILES"


def methods_of(path: str | Path) -> list[MergeMethod[Any]]:
    """The merge methods that the file `path` defines for mergekit or sd-mecha; neither of them is needed.

    Raises:
        ConfigError: E105 when the file is not there, cannot be loaded, or defines no method.
    """
    from mergecore_contrib.method_files.loading import load

    return load(path)


@hookimpl
def mergecore_merge_methods() -> Iterator[MergeMethod[Any]]:
    seen: dict[str, str] = {}
    for path in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        try:
            methods = methods_of(path)
        except ConfigError as error:  # the file is to be mended, and not this plugin
            raise PluginError("E601", f"{VARIABLE}: {error.what}", hint=error.hint) from error
        for one in methods:
            if one.name in seen:
                what = f"{VARIABLE}: '{seen[one.name]}' and '{path}' both define a merge method '{one.name}'"
                raise PluginError("E601", what, hint="give one of them another name, or name one file only")
            seen[one.name] = path
            yield one
