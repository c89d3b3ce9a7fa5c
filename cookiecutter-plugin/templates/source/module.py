"""{{ cookiecutter.name }}: with this word in front, a folder means the newest checkpoint in it."""

import re
from collections.abc import Iterator
from pathlib import Path

from mergecore import Checkpoint, InputError, ModelSource, hookimpl
from mergecore.models import open_folder
from mergecore.types import ModelReference, OpenOptions

PREFIX = "{{ cookiecutter.name }}:"


def accepts(reference: ModelReference, options: OpenOptions) -> bool:
    return reference.path.startswith(PREFIX)


def open_newest(reference: ModelReference, options: OpenOptions) -> Checkpoint:
    folder = Path(reference.path.removeprefix(PREFIX))
    found = [(re.fullmatch(r"checkpoint-([0-9]+)", path.name), path) for path in sorted(folder.glob("*"))]
    steps = {int(name[1]): path for name, path in found if name and path.is_dir()}
    if not steps:
        raise InputError("E201", f"'{folder}' holds no folder such as checkpoint-2000")
    return open_folder(steps[max(steps)], reference)


@hookimpl
def mergecore_model_sources() -> Iterator[ModelSource]:
    yield ModelSource(name="{{ cookiecutter.name }}", accepts=accepts, open=open_newest, rank=10)
