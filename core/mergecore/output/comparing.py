"""How two plans differ, in words: that of an earlier run, or of a result that is there, and the one at hand.

Plans are compared as `resume.described` and the manifest have them.  `told` is the whole of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from mergecore.errors import some
from mergecore.types import Json

_NAMED = 3
_CONSEQUENCES = ("side_files", "rows_sha256", "pieces_sha256", "plugins", "layout")
"""What follows from config and models, and is named only where these do not differ."""


def told(old: Json, new: Mapping[str, Json]) -> str:
    """The first few differences, in one line; nothing where there is none.  An arrow leads from old to new."""
    if not isinstance(old, dict):
        return "everything"
    found = list(dict.fromkeys(_of_plan(old, new)))
    if not found:
        found = list(dict.fromkeys(_consequences(old, new)))
    return some(found, _NAMED, mark="")


def _of_plan(old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[str]:
    given, options = _document(old), _options(old)
    given_now, options_now = _document(new), _options(new)
    config = list(_differences(given, given_now))
    yield from (f"config {one}" for one in config)
    yield from (f"option --{one.replace('_', '-')}" for one in _differences(options, options_now))
    if given.get("seed") == given_now.get("seed") and options.get("seed") == options_now.get("seed"):
        yield from _differences(old.get("seed"), new.get("seed"), "seed")
    yield from _models(old.get("models"), new.get("models"), same_config=not config)
    yield from _differences(old.get("mergecore"), new.get("mergecore"), "version of mergecore")
    yield from _differences(old.get("rng"), new.get("rng"), "random numbers")
    if old.get("mergecore") == new.get("mergecore"):
        plugins, plugins_now = (_mapping(one.get("plugins")) for one in (old, new))
        for name in (name for name in plugins if name in plugins_now):
            yield from _differences(plugins[name], plugins_now[name], f"plugin {name}")
    for key in new:
        if key not in (*_KNOWN, *_CONSEQUENCES):
            yield from _differences(old.get(key), new[key], key)


_KNOWN = ("document", "seed", "models", "mergecore", "rng")


def _consequences(old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[str]:
    made, made_now = (_mapping(one.get("side_files")) for one in (old, new))
    yield from (f"{name} of the output" for name in _changed(made, made_now))
    for key, words in (("rows_sha256", "the rows of the vocabulary"), ("pieces_sha256", "joined tensors")):
        if old.get(key) != new.get(key):
            yield words
    yield from _differences(_mapping(old.get("plugins")), _mapping(new.get("plugins")), "plugins")
    if "layout" not in old:
        yield "the files that hold the weights"  # a manifest tells only what is in them
    else:
        yield from _differences(old["layout"], new.get("layout"), "layout")


def _document(plan: Mapping[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in _mapping(plan.get("document")).items() if key != "command_line"}


def _options(plan: Mapping[str, Json]) -> dict[str, Json]:
    return _mapping(_mapping(plan.get("document")).get("command_line"))


# ---- models ------------------------------------------------------------------------------------------------


def _models(old: Json, new: Json, *, same_config: bool) -> Iterator[str]:
    """How models differ: which they are, unless the config says so, and what is in their files."""
    before, now = _named(old, "reference"), _named(new, "reference")
    names, names_now = ([name for name, _ in models] for models in (before, now))
    if names != names_now:
        if same_config:
            yield f"models: {_short([*names])} → {_short([*names_now])}"
        before = [one for one in before if one[0] in names_now]
        now = [(name, dict(now)[name]) for name, _ in before]
    for (name, one), (_, other) in zip(before, now, strict=True):
        yield from _differences(one.get("revision"), other.get("revision"), f"revision of {name}")
        for key, holds in (("files", "weights"), ("side_files", "contents")):
            had, has = (dict(_named(model.get(key), "name")) for model in (one, other))
            yield from _files(name, had, has, holds)


def _files(
    model: str, old: Mapping[str, Mapping[str, Json]], new: Mapping[str, Mapping[str, Json]], holds: str
) -> Iterator[str]:
    for name in _changed(old, new):
        place = f"{model}/{name}"
        if name not in new:
            yield f"{place} (it is gone)"
        elif name not in old:
            yield f"{place} (it is new)"
        elif old[name].get("size") != new[name].get("size"):
            yield f"{place} ({old[name].get('size')} bytes then, {new[name].get('size')} now)"
        else:
            yield f"{place} (its {holds} changed)"


def _named(items: Json, key: str) -> list[tuple[str, Mapping[str, Json]]]:
    found = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return [(str(item.get(key)), item) for item in found]


def _changed(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return [name for name in {**old, **new} if old.get(name) != new.get(name)]


# ---- values ------------------------------------------------------------------------------------------------


def _differences(old: Json, new: Json, path: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{path}[{_label(other, index)}]")
    elif old != new or type(old) is not type(new):
        yield f"{path}: {_short(old)} → {_short(new)}"


def _label(item: Json, index: int) -> str:
    names = [item.get(key) for key in ("reference", "name", "model")] if isinstance(item, dict) else []
    return next((name for name in names if isinstance(name, str)), str(index))


def _short(value: Json) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}
