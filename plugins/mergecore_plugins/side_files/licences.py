"""Side files: under which terms a merged model may be used, the licences and notices of all its parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mergecore import Checkpoint, NoParams, SideFile, hookimpl
from mergecore.types import SideFileRequest, SideFiles
from mergecore_plugins.side_files.stated import with_parts


@hookimpl
def mergecore_side_files() -> Iterator[SideFile[NoParams]]:
    """Yield the side file `licences`."""
    yield SideFile(name="licences", make=licences, summary="licences of all parts, and what they ask for")


def licences(request: SideFileRequest, params: NoParams) -> SideFiles:
    """The files of all models that state terms of use."""
    return SideFiles(terms_files(with_parts(request.models), request.files))


def terms_files(models: Sequence[Checkpoint], taken: Mapping[str, object]) -> dict[str, Path]:
    """The files about terms of all models by name; those that differ get the names of their models."""
    from mergecore.models import is_terms

    found: dict[str, Path] = {}
    contents: dict[tuple[str, str], str] = {}
    for model in models:
        for name, path in model.side_files.items():
            if not is_terms(name):
                continue
            small = model.small.get(name)
            content = small.sha256 if small else str(path)
            if (name.lower(), content) in contents:
                continue
            contents[name.lower(), content] = name
            used = {one.lower() for one in (*found, *taken)}
            found[name if name.lower() not in used else _renamed(name, short_name(model), used)] = path
    return found


def _renamed(name: str, model: str, used: set[str]) -> str:
    path = PurePosixPath(name)
    suffix = path.suffix if path.suffix.lower() in (".md", ".txt", ".rst", ".pdf", ".html", ".htm") else ""
    stem = f"{name.removesuffix(suffix)}-{model}"
    tries = [f"{stem}{suffix}", *(f"{stem}-{i}{suffix}" for i in range(2, len(used) + 3))]
    return next(one for one in tries if one.lower() not in used)


def short_name(model: Checkpoint) -> str:
    """The last part of the name of a model, as a part of a file name."""
    last = re.split(r"[/\\]", model.reference.path.rstrip("/"))[-1]
    return re.sub(r"[^\w.-]+", "-", last).strip("-.")[:80] or "model"
