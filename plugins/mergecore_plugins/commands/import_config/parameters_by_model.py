"""`input_model_parameters` of early releases of mergekit: the parameters of each model, written under the models."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from mergecore.errors import Collector, ConfigError

if TYPE_CHECKING:
    from mergecore import Document
    from mergecore.types import Json

KEY = "input_model_parameters"


def with_parameters_by_model(document: Document, notes: list[str]) -> dict[str, Json]:
    """The config with the parameters where the models are listed; those that are there already come first.

    Raises:
        ConfigError: E104 where that is not a mapping by models, or names a model that is not listed.
    """
    data = copy.deepcopy(dict(document.data))
    place = document.key_place((KEY,))
    given = data.pop(KEY)
    if not isinstance(given, dict) or not all(isinstance(one, dict) for one in given.values()):
        hint = "it is a mapping of models to mappings of parameters"
        raise ConfigError("E104", f"'{KEY}' is not the parameters of each model", place=place, hint=hint)
    problems = Collector()
    for model, parameters in given.items():
        entries = [entry for entry in _entries(data) if entry.get("model") == model]
        if not entries:
            what = f"'{KEY}' has parameters of '{model}', which is not listed under 'models' or 'slices'"
            problems.add(
                ConfigError("E104", what, place=document.key_place((KEY, model)), hint="remove them")
            )
        for entry in entries:
            own = entry.get("parameters")
            theirs = own if isinstance(own, dict) else {}
            entry["parameters"] = {**cast("dict[str, Json]", parameters), **theirs}
    problems.raise_any()
    notes.append(f"'{KEY}': the parameters are written under each model")
    return data


def _entries(data: dict[str, Json]) -> Iterator[dict[str, Json]]:
    """The models of a config, and the sources of its slices."""
    for key in ("models", "slices", "sources"):
        listed = data.get(key)
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, dict):
                if "model" in one:
                    yield one
                yield from _entries(one)
