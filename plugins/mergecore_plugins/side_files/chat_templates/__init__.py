"""Side files for `chat_template: NAME` in a config: the chat templates that come with mergecore, each in a file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.resources import files

from mergecore import NoParams, SideFile, hookimpl
from mergecore.types import SideFileRequest, SideFiles

NAMES = ("alpaca", "chatml", "exaone", "llama3", "mistral")


@hookimpl
def mergecore_side_files() -> Iterator[SideFile[NoParams]]:
    """Yield one for each of `NAMES`."""
    for name in NAMES:
        yield SideFile(
            name=name,
            make=partial(template, name),
            chosen_by="chat_template",
            summary=f"the chat template {name}",
        )


def template(name: str, request: SideFileRequest, params: NoParams) -> SideFiles:
    """The template of that name."""
    return SideFiles({"chat_template.jinja": (files(__name__) / f"{name}.jinja").read_bytes()})
