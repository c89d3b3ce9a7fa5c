"""Describers made of YAML files, for packages that know a model family; read `from_file`."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path

from mergecore import Architecture, Checkpoint, Description
from mergecore_architectures import names


def from_file(name: str, file: Path | Traversable, rank: int = 20) -> Architecture:
    """A describer of that name that knows what `file` says; `docs/how-to/new-architectures.md` describes the form.

    ::

        @hookimpl
        def mergecore_architectures():
            yield from_file("acme", importlib.resources.files("mergecore_acme") / "acme.yml")

    Raises:
        ConfigError: what is wrong with the file.
    """
    from mergecore.models import refinement  # it reads YAML, which `mergecore --help` does without

    refined = refinement(file.read_text(encoding="utf8"), file.name)

    def describe(checkpoint: Checkpoint) -> Description | None:
        return refined(checkpoint, names.describe)

    return Architecture(name=name, describe=describe, rank=rank)
