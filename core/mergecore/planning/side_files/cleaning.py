"""Side files without what must not travel: paths of a machine, and keys that make a loader fetch or run code.

Read `cleaned`.  Files in which nothing of the kind is found stay as they are, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from mergecore.errors import MergecoreError, some
from mergecore.files.small_files import read_small
from mergecore.files.strict_json import parse_json
from mergecore.models.local_paths import is_local_path, last_name
from mergecore.types import Json


def cleaned(
    files: Mapping[str, Path | bytes], config: Mapping[str, Json]
) -> tuple[dict[str, Path | bytes], list[str]]:
    """The side files and config.json of a model, and what the user should know about what was left out."""
    made: dict[str, Path | bytes] = {}
    left_out: list[str] = []
    for name, content in files.items():
        value = _json(name, content)
        made[name] = content
        if value is not None:
            cleaner = _Cleaner(name, frozenset(files))
            clean = cleaner.clean(value)
            if clean != value:
                made[name] = as_json(clean)
            left_out += cleaner.left_out
    if config:
        cleaner = _Cleaner("config.json", frozenset(files))
        made["config.json"] = as_json(cleaner.clean(dict(config)))
        left_out = cleaner.left_out + left_out
    return made, [_told(left_out)] if left_out else []


def as_json(value: Json) -> bytes:
    """The text of a side file."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _told(left_out: list[str]) -> str:
    named = some(left_out, _NAMED, mark="")
    return f"left out of the output, since loaders may fetch other people's code for it: {named}"


_NAMED = 6
_MAX_BYTES = 16_000_000
_LARGE = ("tokenizer.json", "vocab.json", "added_tokens.json", "tekken.json")


def _json(name: str, content: Path | bytes) -> Json:
    """What a file holds; nothing where it is not JSON, or holds only tokens."""
    if not name.endswith(".json") or name in _LARGE:
        return None
    data = content if isinstance(content, bytes) else b""
    try:
        if isinstance(content, Path):
            if content.stat().st_size > _MAX_BYTES:
                return None
            data = read_small(content, code="E250", max_bytes=_MAX_BYTES)
        return parse_json(data, code="E250", place=name, infinite=True)
    except MergecoreError:  # readers of it will tell what is wrong; it is copied as it is
        return None


class _Cleaner:
    """One file, with the names of those beside it."""

    def __init__(self, name: str, beside: Collection[str]) -> None:
        self.name = name
        self.beside = beside
        self.left_out: list[str] = []

    def clean(self, value: Json, path: str = "") -> Json:
        """A copy of a value without what must not travel."""
        if isinstance(value, list):
            return [self.clean(item, path) for item in value]
        if isinstance(value, str):
            return last_name(value) if is_local_path(value) else value
        if not isinstance(value, dict):
            return value
        kept: dict[str, Json] = {}
        for key, item in value.items():
            place = f"{path}.{key}" if path else key
            if _OF_CODE.fullmatch(key):
                rest = self._own_code(key, item)
                if rest is not None:
                    kept[key] = rest
                if rest != item and not _is_harmless(item):
                    self.left_out.append(f"{place} in {self.name}")
            elif not (_ORIGIN.fullmatch(key) and isinstance(item, str) and _is_local(item)):
                kept[key] = self.clean(item, place)
        return kept

    def _own_code(self, key: str, item: Json) -> Json:
        """What names only code that lies beside it, which loaders run only if they are told to."""
        if key not in ("auto_map", "custom_pipelines") or not isinstance(item, dict):
            return None
        kept = {name: one for name, one in item.items() if all(map(self._is_beside, _classes(one)))}
        return kept or None

    def _is_beside(self, reference: str) -> bool:
        module, dot, _ = reference.rpartition(".")
        return bool(dot) and "--" not in reference and f"{module.replace('.', '/')}.py" in self.beside


_OF_CODE = re.compile(
    r"auto_map|custom_pipelines|custom_generate|custom_code|trust_remote_code|(code|kernel)_(revision|config|repo)"
    r"|use_kernels|\w*_implementation(_\w+)?"
)
"""Keys that name code: classes in files or other repositories, implementations that may come from a hub."""
_ORIGIN = re.compile(r"_?(\w+_)?(name_or_path|file|dir|folder|path)")
_HARMLESS = (
    "eager",
    "sdpa",
    "flash_attention_2",
    "flash_attention_3",
    "flex_attention",
    "grouped_mm",
    "batched_mm",
)


def _is_harmless(item: Json) -> bool:
    """Whether an implementation is one that every loader has."""
    if isinstance(item, dict):
        return all(map(_is_harmless, item.values()))
    return not item or item is True or item in _HARMLESS


def _is_local(text: str) -> bool:
    """Whether a text that says where something came from is neither an id on a hub nor the name of a file beside it."""
    return is_local_path(text) or text.startswith(("./", ".\\")) or text.count("/") > 1


def _classes(value: Json) -> Iterator[str]:
    """The classes that an entry of `auto_map` or `custom_pipelines` names; those of transformers are not."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _classes(one)
    elif isinstance(value, dict):
        yield from _classes(value.get("impl"))
