"""The side files that plugins make for an output; read `collected`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from mergecore.config.chosen import Choice, read_params
from mergecore.errors import PluginError
from mergecore.models.local_paths import without_local_paths
from mergecore.plugins.registry import Registry
from mergecore.tokenizers.chat_template import FILE
from mergecore.types import Json, SideFile, SideFileRequest, SideFiles

CONFIG = "config.json"
Said = Mapping[str, bool | Mapping[str, Json]]
"""What a document says about side files: by name whether they are made, or their parameters."""


def collected(request: SideFileRequest, registry: Registry, said: Said) -> SideFiles:
    """What the built-in side files make, and those that a document asks for.

    Raises:
        PluginError: E605 when two make one file, or one makes what is not for it to make.
    """
    request = without_paths(request)
    made: dict[str, Path | bytes] = {}
    makers: dict[str, str] = {}
    warnings: list[str] = []
    for one in _chosen(registry, said):
        values = said.get(one.name)
        choice = Choice(
            SideFile, one.name, values if isinstance(values, Mapping) else {}, ("side_files", one.name)
        )
        files = _made(one, replace(request, files={**request.files, **made}), choice, registry)
        for name in files.files:
            if name == CONFIG:
                raise _wrong(f"the side file '{one.name}' makes {CONFIG}, which follows from the weights")
            if name in makers:
                raise _wrong(f"the side files '{makers[name]}' and '{one.name}' both make {name}")
            makers[name] = one.name
        made |= files.files
        warnings += files.warnings
    return SideFiles(made, tuple(warnings))


def named_template(name: str, registry: Registry) -> Path | bytes:
    """The file of the chat template of that name.

    Raises:
        MergecoreError: E105, E108 or E606 when there is none, E605 when its plugin makes something else.
    """
    one: SideFile[Any] = registry.get(SideFile, name)
    files = _made(one, SideFileRequest(models=()), Choice(SideFile, name, {}), registry).files
    if files.keys() != {FILE}:
        raise _wrong(f"the chat template '{name}' makes {', '.join(files) or 'nothing'}, not {FILE}")
    return files[FILE]


def without_paths(request: SideFileRequest) -> SideFileRequest:
    """The request with texts that name no path of this machine."""
    names: list[Json] = [str(one.full_reference or one.reference) for one in request.models]
    told = without_local_paths(
        {"title": request.title, "names": names, "document": {**request.document}, "card": {**request.card}},
        request.models,
    )
    texts, document, card = told["names"], told["document"], told["card"]
    assert isinstance(texts, list)
    assert isinstance(document, dict)
    assert isinstance(card, dict)
    return replace(
        request,
        title=str(told["title"]),
        names=tuple(map(str, texts)),
        config=deepcopy(dict(request.config)),  # whoever writes into it must not change what is written
        document=document,
        card=card,
    )


def _chosen(registry: Registry, said: Said) -> Iterator[SideFile[Any]]:
    """In the order of their ranks: the built-in ones that are not refused, and the others that are asked for."""
    usual = [
        one.name
        for one in registry.all(SideFile)
        if one.chosen_by == "side_files" and registry.provider(SideFile, one.name).built_in
    ]
    usual = [name for name in usual if not any(_is_that(registry, name, other) for other in said)]
    names = dict.fromkeys([*usual, *said])
    chosen: list[SideFile[Any]] = [
        registry.get(SideFile, name) for name in names if said.get(name) is not False
    ]
    yield from sorted(chosen, key=lambda one: (one.rank, one.name))


def _is_that(registry: Registry, name: str, other: str) -> bool:
    """Whether `other` is NAME@DISTRIBUTION for what is also called `name`."""
    if other.partition("@")[::2] == (name, "") or other.partition("@")[0] != name:
        return False
    return registry.provider(SideFile, other) == registry.provider(SideFile, name)


def _made(one: SideFile[Any], request: SideFileRequest, choice: Choice, registry: Registry) -> SideFiles:
    params = read_params(one.params, choice)
    with registry.calling(SideFile, one.name):
        made = one.make(request, params)
    if not isinstance(made, SideFiles):
        raise _wrong(f"the side file '{one.name}' returns {type(made).__name__} in place of SideFiles")
    for name, content in made.files.items():
        if not isinstance(content, bytes | Path):
            raise _wrong(
                f"the side file '{one.name}' makes {name} of a {type(content).__name__}; bytes or a path are expected"
            )
    return made


def _wrong(what: str) -> PluginError:
    return PluginError("E605", what, hint="report it to the authors of the plugin")
