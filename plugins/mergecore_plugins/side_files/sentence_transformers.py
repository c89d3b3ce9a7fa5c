"""The side file `sentence_transformers`: what packages of several modules need, and whether the models' are the same.

Modules after the first pool, project and normalise what it gives.  They come from the primary model, so what others
have there, and whether it is the same, must be reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mergecore import Checkpoint, MergecoreError, NoParams, SideFile, hookimpl
from mergecore.errors import some
from mergecore.files import read_json
from mergecore.types import Json, SideFileRequest, SideFiles

MODULES = "modules.json"
_SETTINGS = re.compile(
    r"modules\.json|sentence_\w+_config\.json|config_sentence_transformers\.json|[0-9]+_\w+/config\.json"
)
_NO_MEANING = ("__version__", "model_type", "name", "idx", "path")
_POOLING = "pooling_mode"
_OLDER = re.compile(r"pooling_mode_(\w+?)(_tokens?|token)?")
"""Keys of releases before 6, one for each way to pool."""
_NAMED = 6


@hookimpl
def mergecore_side_files() -> Iterator[SideFile[NoParams]]:
    """Yield the side file `sentence_transformers`."""
    yield SideFile(
        name="sentence_transformers",
        make=package_files,
        rank=20,
        summary="files of packages of several modules, where alike",
    )


def package_files(request: SideFileRequest, params: NoParams) -> SideFiles:
    """A modules.json that names no folder for the transformer, which lies beside it; and what to say about modules."""
    notes = package_notes([request.models[i] for i in request.merged], request.models[request.primary])
    return SideFiles(with_transformer_beside(request.files), tuple(notes))


def package_notes(models: Sequence[Checkpoint], primary: Checkpoint) -> Iterator[str]:
    """A sentence for each model whose modules are others, or differ in what they do."""
    if not any(MODULES in model.side_files for model in models):
        return
    ours = _settings(primary)
    for model in models:
        if model is primary:
            continue
        theirs = _settings(model)
        if bool(ours) != bool(theirs):
            has, lacks = (primary, model) if ours else (model, primary)
            yield (
                f"{has.name} has modules in folders of their own (modules.json), and {lacks.name} has none; "
                f"{'they are copied' if ours else 'the output has none'}, as {primary.name} gives the side files"
            )
            continue
        found = [*_differing(ours, theirs)]
        if found:
            yield (
                f"{primary.name} and {model.name} do not make the same of what their layers give: "
                f"{some(found, _NAMED, mark='')}; the files of {primary.name} are written"
            )


def with_transformer_beside(files: Mapping[str, Path | bytes]) -> dict[str, Path | bytes]:
    """The modules.json of `files` if it names a folder for the transformer that is not there; else nothing."""
    listed: Json = None
    content = files.get(MODULES)
    if isinstance(content, Path):
        with suppress(MergecoreError):  # it is copied as it is; its reader will tell
            listed = read_json(content, code="E250")
    first = listed[0] if isinstance(listed, list) and listed else None
    path = first.get("path") if isinstance(first, dict) else None
    if not isinstance(listed, list) or not isinstance(first, dict) or not isinstance(path, str) or not path:
        return {}
    if any(name.startswith(f"{path}/") for name in files):
        return {}
    changed = [{**first, "path": ""}, *listed[1:]]
    return {MODULES: (json.dumps(changed, indent=2, ensure_ascii=False) + "\n").encode()}


def _settings(model: Checkpoint) -> dict[str, Json]:
    """By file and key, everything that the files about modules say."""
    found: dict[str, Json] = {}
    if MODULES not in model.side_files:
        return found
    for name, path in model.side_files.items():
        if not _SETTINGS.fullmatch(name):
            continue
        try:
            value = read_json(path, code="E250")
        except MergecoreError:  # it is copied as it is; its reader will tell
            value = None
        found |= dict(_leaves(_renewed(value), name))
    return found


def _renewed(value: Json) -> Json:
    """The settings of a module under the keys of the newest release."""
    if not isinstance(value, dict):
        return value
    ways = [_OLDER.fullmatch(key) for key, item in value.items() if item is True]
    kept = {_KEYS.get(key, key): item for key, item in value.items() if not _OLDER.fullmatch(key)}
    chosen = kept.get(_POOLING, [found[1] for found in ways if found])
    if chosen:
        words = [str(one) for one in chosen] if isinstance(chosen, list) else [str(chosen)]
        kept[_POOLING] = " and ".join(sorted(one.removesuffix("_tokens") for one in words))
    return kept


_KEYS = {"word_embedding_dimension": "embedding_dimension"}


def _leaves(value: Json, place: str) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in _NO_MEANING:
                yield from _leaves(item, f"{place} {key}" if place.endswith(".json") else f"{place}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{place} {index}" if place.endswith(".json") else f"{place}.{index}")
    else:
        yield place, value.rpartition(".")[2] if isinstance(value, str) and place.endswith(".type") else value


def _differing(ours: dict[str, Json], theirs: dict[str, Json]) -> Iterator[str]:
    """What differs; of settings that one of them does not know only modules and how they pool."""
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        one, other = ours.get(key), theirs.get(key)
        both = key in ours and key in theirs
        if one != other and (one or other) and (both or key.startswith(MODULES) or key.endswith(_POOLING)):
            yield f"{key} {one!r} and {other!r}"
