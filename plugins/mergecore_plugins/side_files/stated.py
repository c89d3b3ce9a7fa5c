"""What the cards of models state for machines: licences, languages, tasks; as far as all agree, or each for itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from mergecore import Checkpoint
from mergecore.types import Json


def with_parts(models: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The models, each followed by what it has further parts of, such as adapters."""
    return [one for model in models for one in (model, *model.parts)]


def licence(models: Sequence[Checkpoint]) -> dict[str, Json]:
    """What the metadata of the card says about the licence: the one of all models, or nothing."""
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
