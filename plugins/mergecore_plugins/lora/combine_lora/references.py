"""The adapters that a config names, and their base; read `read_named`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mergecore import Document
from mergecore.config import exists_below, parse_reference
from mergecore.errors import Collector, ConfigError, InputError, counted
from mergecore.types import AdapterReference, Json, ModelReference, Planner
from mergecore_plugins.lora.combine_lora.reading import Adapter, read_adapter
from mergecore_plugins.lora.config import NAME

DocPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Named:
    """The adapters of a config by their names in it, and what it says of their base."""

    adapters: Mapping[str, Adapter]
    names: Mapping[DocPath, str]
    """By the place in the config, the name of the adapter there."""
    base: ModelReference | None
    """The base as the config names it."""


def read_named(document: Document, planner: Planner) -> Named:
    """The adapters, opened and read.

    Raises:
        MergecoreError: E112 for what names no adapter, E250 and E251 for adapters that cannot be merged so, and what
            else is wrong with any of them.
    """
    problems = Collector()
    adapters: dict[str, Adapter] = {}
    names: dict[DocPath, str] = {}
    bases: list[ModelReference] = []
    for path, value in _models(document.data):
        with problems.collecting():
            reference = _parsed(document, path, value)
            if path == ("base_model",) and not _is_adapter(reference):
                bases.insert(0, reference)
                continue
            one, base = _adapter(document, path, reference)
            bases += [base] if base else []
            name = str(one)
            if name not in adapters:
                opened = planner.open(ModelReference(one.path, one.revision), path, adapter=True)
                adapters[name] = read_adapter(replace(opened, reference=ModelReference(name)), one.scale)
            names[path] = name
    problems.raise_any()
    return Named(adapters, names, bases[0] if bases else None)


def _models(data: Mapping[str, Json]) -> Sequence[tuple[DocPath, Json]]:
    """Where a config names models; what has another form is told by its grammar."""
    found: list[tuple[DocPath, Json]] = []
    if data.get("base_model") is not None:
        found.append((("base_model",), data["base_model"]))
    listed = data.get("models")
    for i, one in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(one, dict) and one.get("model") is not None:
            found.append((("models", i, "model"), one["model"]))
    return found


def _is_adapter(reference: ModelReference) -> bool:
    """Whether what stands as the base is an adapter, from which differences are then taken."""
    return bool(reference.adapters) or (Path(reference.path) / NAME).is_file()


def _parsed(document: Document, path: DocPath, value: Json) -> ModelReference:
    try:
        return parse_reference(value, exists_below(Path()))
    except ConfigError as error:
        error.place = document.place(path)
        raise


def _adapter(
    document: Document, path: DocPath, reference: ModelReference
) -> tuple[AdapterReference, ModelReference | None]:
    """The one adapter that a reference names, and its base where that is named too."""
    if not reference.adapters:
        return AdapterReference(reference.path, reference.revision), None
    if len(reference.adapters) > 1:
        what = (
            f"'{reference}' has {counted(len(reference.adapters), 'adapter')}; here each model is one adapter"
        )
        raise ConfigError("E112", what, place=document.place(path), hint="list them as models of their own")
    base = ModelReference(reference.path, reference.revision) if reference.path else None
    return reference.adapters[0], base


def of_one_base(named: Named) -> list[str]:
    """What to say of adapters that were trained on different bases."""
    bases: dict[str, list[str]] = {}
    for name, one in named.adapters.items():
        if one.config.base:
            bases.setdefault(one.config.base.rstrip("/").rpartition("/")[2], []).append(name)
    if len(bases) < 2:
        return []
    told = "; ".join(f"{', '.join(names)} on '{base}'" for base, names in bases.items())
    return [f"the adapters were trained on different bases: {told}"]


def base_of(named: Named) -> ModelReference | None:
    """The base: what the config names, or else the adapters do."""
    if named.base:
        return named.base
    found = [one.config for one in named.adapters.values() if one.config.base]
    return ModelReference(str(found[0].base), found[0].base_revision) if found else None


def no_base(names: Sequence[str], error: InputError | None = None) -> InputError:
    """The error for tensors that were trained whole, where the base is not there."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    what = f"'{names[0]}'{more} was trained whole, so the base is needed: {error.what if error else 'none is named'}"
    return InputError("E701", what, hint="name the base: 'base_model: PATH'")
