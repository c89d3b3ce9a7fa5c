"""Under which terms a merged model may be used: the licences of its parts, in files and in the words of the card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mergecore.models.folder import is_terms
from mergecore.models.local_paths import without_local_paths
from mergecore.types import Checkpoint, Json


def terms_files(models: Sequence[Checkpoint], taken: Mapping[str, object]) -> dict[str, Path]:
    """The files about terms of all models by name; those that differ get the names of their models."""
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
    name = Path(str(without_local_paths({"name": model.reference.path}, [model])["name"])).name
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:80] or "model"


# ---- the card ----------------------------------------------------------------------------------------------


def licence(models: Sequence[Checkpoint]) -> dict[str, Json]:
    """What the metadata of the card says of the licence: the one of all models, or nothing."""
    stated = [_stated(model) for model in models]
    return stated[0] if stated and all(one == stated[0] for one in stated) else {}


def licences_in_words(models: Sequence[Checkpoint]) -> list[str]:
    """For each model what its card says; nothing where all say the same, or none says anything."""
    stated = [_stated(model) for model in models]
    return [_in_words(one) for one in stated] if any(stated) and not licence(models) else []


def languages(models: Sequence[Checkpoint]) -> list[str]:
    """The languages of all models, in order of appearance."""
    found: dict[str, None] = {}
    for model in models:
        value = model.about.get("language")
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and _WORD.fullmatch(one):
                found[one] = None
    return list(found)


def common(models: Sequence[Checkpoint], key: str) -> str | None:
    """The word that the cards of all models have under a key, if they agree."""
    values = [model.about.get(key) for model in models]
    first = values[0] if values else None
    return (
        first
        if isinstance(first, str) and _WORD.fullmatch(first) and set(map(str, values)) == {first}
        else None
    )


_WORD = re.compile(r"[\w.-]{1,60}", re.ASCII)
_KEYS = ("license", "license_name", "license_link")


def _stated(model: Checkpoint) -> dict[str, Json]:
    return dict(_parts(model.about))


def _parts(about: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for key in _KEYS:
        value = about.get(key)
        words = value if isinstance(value, list) else [value]
        texts: list[Json] = [
            one.lower() if key == "license" else one
            for one in words
            if isinstance(one, str) and 0 < len(one) <= 200
        ]
        if texts:
            yield key, texts if len(texts) > 1 else texts[0]


def _in_words(stated: Mapping[str, Json]) -> str:
    if not stated:
        return "its card states none"
    named = [
        ", ".join(map(str, value)) if isinstance(value, list) else str(value) for value in stated.values()
    ]
    return " ".join([named[0], *(f"({one})" for one in named[1:])])
