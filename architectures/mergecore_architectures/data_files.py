"""Describers made of YAML files, for packages that know a model family; read `from_file`."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path

from mergecore.config.architecture import parse_architecture
from mergecore.files.yaml_document import parse_document
from mergecore.models.refine import refined
from mergecore.types import Architecture, Checkpoint, Description
from mergecore_architectures import names


def from_file(name: str, file: Path | Traversable, rank: int = 20) -> Architecture:
    """A describer of that name that knows what `file` says; `mergecore.config.architecture` tells the form.

    ::

        @hookimpl
        def mergecore_architectures():
            yield from_file("acme", importlib.resources.files("mergecore_acme") / "acme.yml")

    Raises:
        ConfigError: what is wrong with the file.
    """
    known = parse_architecture(parse_document(file.read_text(encoding="utf8"), file.name))

    def describe(checkpoint: Checkpoint) -> Description | None:
        if not known.match.accepts(checkpoint.config):
            return None
        return refined(names.describe(checkpoint), checkpoint, known)

    return Architecture(name=name, describe=describe, rank=rank)
