"""Modules of a model in folders of their own, such as `2_Dense`, as sentence-transformers writes them.

Their tensors are those of the model, under names that begin with the folder: `2_Dense/linear.weight`.
"""

from __future__ import annotations

import re

MODULES = "modules.json"
"""Lists the modules in their order."""
FOLDER = re.compile(r"[0-9]+_\w+", re.ASCII)


def module_folder(name: str) -> str:
    """The folder in whose file a tensor or a file lies; nothing for those beside config.json."""
    folder, slash, _ = name.partition("/")
    return folder if slash and FOLDER.fullmatch(folder) else ""


def name_in_file(name: str) -> str:
    """The name that a tensor has in its file."""
    folder = module_folder(name)
    return name[len(folder) + 1 :] if folder else name


def is_inside(name: str) -> bool:
    """Whether `name` is that of a file in a folder or below it, written in one way only."""
    return not {"", ".", ".."} & {*name.split("/")} and "\0" not in name


def is_beside(name: str) -> bool:
    """Whether a file of weights lies beside config.json, or right in the folder of a module."""
    return "/" not in name_in_file(name)
