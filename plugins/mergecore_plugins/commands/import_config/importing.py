"""What a file of another program is, and the config that says the same here; read `imported`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergecore.config import other_document
from mergecore.errors import ConfigError
from mergecore.files import parse_documents
from mergecore_plugins.commands.import_config.bakllama import from_bakllama
from mergecore_plugins.commands.import_config.evolve import Tagged, from_evolve
from mergecore_plugins.commands.import_config.parameters_by_model import with_parameters_by_model
from mergecore_plugins.commands.import_config.removing import data_without_leftovers, without_leftovers
from mergecore_plugins.commands.import_config.scripts import commands_in, from_command

if TYPE_CHECKING:
    from mergecore import Document, Registry
    from mergecore.types import Json


@dataclass(frozen=True)
class Imported:
    """The text of a config, and what to say of how it came about."""

    text: str
    notes: tuple[str, ...] = ()


def imported(text: str, name: str, registry: Registry) -> Imported:
    """The config of today that a text stands for.

    Raises:
        MergecoreError: what is wrong with the text; E104 for what cannot be said here, with the reason.
    """
    if commands := commands_in(text):
        made, said = from_command(commands, name, registry)
        return Imported(_written([made]), tuple(said))
    documents = parse_documents(text, name)
    notes: list[str] = []
    rewritten = []
    for document in documents:
        data = _rewritten(document, registry, notes)
        rewritten.append(data)
    if any(data is not None for data in rewritten):
        return Imported(*_anew(text, documents, rewritten, notes))
    kept, removed = without_leftovers(text, name, documents)
    if not removed:
        return Imported(text, (f"{name} needs no change: mergecore reads it as it is",))
    if kept is None:
        return Imported(*_anew(text, documents, rewritten, notes))
    return Imported(kept, tuple(removed))


def _rewritten(document: Document, registry: Registry, notes: list[str]) -> dict[str, Json] | None:
    """A document in another form, where it must be written anew; None where keys are to be left out at most.

    Raises:
        ConfigError: E104 for what mergecore does not do.
    """
    if "layer_slices" in document.data:
        return from_bakllama(document, notes)
    if "genome" in document.data:
        return from_evolve(document, registry, notes)
    if other := other_document(document.data):
        raise ConfigError("E104", other[0], place=document.place(), hint=other[1])
    if "input_model_parameters" in document.data:
        return with_parameters_by_model(document, notes)
    return None


def _anew(
    text: str,
    documents: Sequence[Document],
    rewritten: Sequence[dict[str, Json] | None],
    notes: list[str],
) -> tuple[str, tuple[str, ...]]:
    """The text of documents that are written anew, which keeps only the comments before the first."""
    told: list[str] = []
    made = []
    for document, data in zip(documents, rewritten, strict=True):
        cleaned, removed = data_without_leftovers(document.data if data is None else data)
        made.append(cleaned)
        told += [one for one in removed if one not in told]
    head = _first_lines(text)
    if text.count("#") > sum(line.count("#") for line in head):
        notes = [*notes, "the config is written anew: comments within it are not kept"]
    return "".join(head) + _written(made), (*notes, *told)


def _first_lines(text: str) -> list[str]:
    """The comments and empty lines at the beginning."""
    lines = text.splitlines(keepends=True)
    end = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return lines[:end]


def _written(documents: Sequence[dict[str, Json]]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Puts text in quotes that would be read as something else here."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "'" if _ODD.fullmatch(value) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    def ranged(dumper: yaml.SafeDumper, value: Tagged) -> yaml.MappingNode:
        return dumper.represent_mapping("!range", dict(value), flow_style=True)

    Dumper.add_representer(str, text)
    Dumper.add_representer(Tagged, ranged)
    made: str = yaml.dump_all(
        documents, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )
    return made


_ODD = re.compile(r"[-+.\d][\d_]*\.?[\d_]*(e[-+]?\d+)?", re.IGNORECASE)
"""Text that looks like a number."""
