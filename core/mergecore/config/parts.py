"""The mappings of a config that hold parameters, and what several keys of it say together; read `parts`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mergecore.config.reference import real_path
from mergecore.errors import ConfigError
from mergecore.files.yaml_document import DocPath, Document
from mergecore.types import Json


def parts(data: object, path: DocPath = ()) -> Iterator[tuple[DocPath, Mapping[str, Json]]]:
    """Every mapping of the document that can hold `parameters`, with its path."""
    if not isinstance(data, dict):
        return
    yield path, data
    for key in ("models", "slices", "sources"):
        items = data.get(key)
        for i, item in enumerate(items if isinstance(items, list) else ()):
            yield from parts(item, (*path, key, i))
    modules = data.get("modules")
    for name, module in modules.items() if isinstance(modules, dict) else ():
        yield from parts(module, (*path, "modules", name))


def choices(document: Document) -> Iterator[ConfigError]:
    """Keys of which one is needed, or which exclude each other."""
    for path, part in parts(document.data):
        top = path == ()
        if not top and not (len(path) == 2 and path[0] == "modules"):
            continue
        keys = ("models", "slices", "modules") if top else ("models", "slices")
        given = [key for key in keys if part.get(key)]
        if len(given) != 1:
            what = (
                f"{' and '.join(given)} exclude each other"
                if given
                else f"one of {', '.join(keys)} is needed"
            )
            place = document.key_place((*path, given[1])) if given else document.place(path)
            yield ConfigError("E104", what, place=place, hint="keep one" if given else None)
    if document.data.get("tokenizer") is not None and document.data.get("tokenizer_source") is not None:
        what = "'tokenizer' and 'tokenizer_source' exclude each other"
        place = document.key_place(("tokenizer_source",))
        yield ConfigError("E104", what, place=place, hint="write the source within 'tokenizer'")


def duplicates(document: Document) -> Iterator[ConfigError]:
    """Models that are listed twice; slices may hold the same model several times."""
    seen: dict[tuple[DocPath, str], DocPath] = {}
    for path, part in parts(document.data):
        if len(path) < 2 or path[-2] != "models" or "model" not in part:
            continue
        model = part["model"]
        key = (path[:-1], real_path(model) if isinstance(model, str) else repr(model))
        first = seen.setdefault(key, path)
        if first != path:
            place = document.place(first)
            where = f"; first at line {place.line}" if place else ""
            other = _at(document.data, first)["model"]
            same = f"is {other!r} by another name, and" if other != model else "is"
            what = f"{model!r} {same} listed twice under 'models'{where}"
            hint = "list it once, with the weights added up"
            yield ConfigError("E111", what, place=document.place((*path, "model")), hint=hint)


def _at(data: Mapping[str, Json], path: DocPath) -> Any:
    """The value at a path."""
    found: Any = data
    for step in path:
        found = found[step]
    return found
