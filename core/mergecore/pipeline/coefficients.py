"""A merge config whose numbers a policy chooses; read `with_coefficients`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from mergecore.config.chosen import Choice, read_params
from mergecore.config.documents import Config, documents_of
from mergecore.config.parameters.declared import parameters_of
from mergecore.errors import ConfigError, PluginError, placed
from mergecore.files.yaml_document import Document
from mergecore.pipeline.plans import planner
from mergecore.plugins.registry import Registry
from mergecore.types import Coefficients, Json, MergeMethod, Policy, PolicyRequest
from mergecore.types.plans import PlanOptions


def with_coefficients(
    config: Path | str | Config | Document,
    policy: str,
    *,
    registry: Registry | None = None,
    options: PlanOptions | None = None,
    **parameters: object,
) -> tuple[dict[str, Json], tuple[str, ...]]:
    """The config with the numbers that a policy chooses, which are plain numbers; and what the user should know.

    config: a merge config with a list of models, as a file or a mapping.
    policy: the name of a policy.  parameters: those of the policy.

    Raises:
        MergecoreError: what is wrong with the config, the models or the parameters.
    """
    registry = registry or Registry.discover()
    chooser: Policy[Any] = registry.get(Policy, policy)
    made = read_params(chooser.params, Choice(Policy, chooser.name, cast("dict[str, Json]", parameters)))
    document = _single(documents_of(config))
    request = policy_request(document, registry, options)
    with registry.calling(Policy, chooser.name):
        found = chooser.choose(request, made)
        _check(found, chooser.name, request)
    return _written(request, found), tuple(found.notes)


def policy_request(
    document: Document, registry: Registry, options: PlanOptions | None = None
) -> PolicyRequest:
    """What a policy gets of a config; numbers of models that it has to have, and does not say, are 1."""
    data = document.data
    models = data.get("models")
    if not isinstance(models, list) or not isinstance(data.get("merge_method"), str):
        what = "a policy chooses numbers of a merge config with a list of `models`"
        hint = "write `merge_method` and `models`, without `slices` or `modules`"
        raise ConfigError("E104", what, place=document.place(), hint=hint)
    planning = planner(registry=registry, options=options)
    with placed(document.place(("merge_method",))):
        method: MergeMethod[Any] = registry.get(MergeMethod, str(data["merge_method"]))
    places = _places(data, method)
    whole = replace(document, data=_complete(data, method, places))
    made = planning.compile(whole)
    names = tuple(str(cast("dict[str, Json]", models[i])["model"]) for i in places)
    return PolicyRequest(whole.data, names, method, made, planning)


def _single(documents: Sequence[Document]) -> Document:
    if len(documents) > 1:
        what = f"{documents[0].name} has {len(documents)} documents; a policy chooses numbers of one"
        raise ConfigError("E104", what, hint="put the merge config into a file of its own")
    return documents[0]


def _places(data: Mapping[str, Json], method: MergeMethod[Any]) -> list[int]:
    """The places of the models that the method has parameters for: all of them but a base that stands apart."""
    models = cast("list[Json]", data["models"])
    apart = data.get("base_model") if method.base_apart else None
    return [
        i
        for i, one in enumerate(models)
        if isinstance(one, dict) and "model" in one and (apart is None or one["model"] != apart)
    ]


def _complete(data: Mapping[str, Json], method: MergeMethod[Any], places: Sequence[int]) -> dict[str, Json]:
    """The config with 1 for numbers of models that it has to have and does not say yet."""
    shared = cast("dict[str, Json]", data.get("parameters") or {})
    required = [
        word
        for word, one in parameters_of(method.params).items()
        if one.required and one.per_model and one.type is float and word not in shared
    ]
    models = list(cast("list[Json]", data["models"]))
    for i in places:
        entry = cast("dict[str, Json]", models[i])
        own = cast("dict[str, Json]", entry.get("parameters") or {})
        models[i] = {**entry, "parameters": {**dict.fromkeys(required, 1.0), **own}}
    return {**data, "models": cast("Json", models)}


def _check(found: Coefficients, name: str, request: PolicyRequest) -> None:
    """Refuse what is no choice of numbers for these models."""
    if not isinstance(found, Coefficients):
        raise PluginError("E605", f"policy '{name}' returns {type(found).__name__} in place of Coefficients")
    if len(found.models) not in (0, len(request.models)):
        what = (
            f"policy '{name}' returns numbers of {len(found.models)} models; there are {len(request.models)}"
        )
        raise PluginError("E605", what)
    known = parameters_of(request.method.params)
    for word in {**found.shared, **{word: 0 for one in found.models for word in one}}:
        if word not in known:
            what = f"policy '{name}' chooses '{word}', which {request.method.name} does not have"
            raise ConfigError("E105", what, hint=f"its parameters: {', '.join(known) or 'none'}")
    try:
        json.dumps([dict(one) for one in (found.shared, *found.models)], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PluginError("E605", f"policy '{name}' returns what is not plain numbers: {error}") from error


def _written(request: PolicyRequest, found: Coefficients) -> dict[str, Json]:
    """The config with the numbers in it."""
    data = request.config
    models = list(cast("list[Json]", data["models"]))
    for i, numbers in zip(
        _places(data, request.method), found.models or [{}] * len(request.models), strict=True
    ):
        entry = cast("dict[str, Json]", models[i])
        own = cast("dict[str, Json]", entry.get("parameters") or {})
        if {**own, **numbers}:
            models[i] = {**entry, "parameters": {**own, **numbers}}
    shared = {**cast("dict[str, Json]", data.get("parameters") or {}), **found.shared}
    if found.models:  # what is said of each model goes before what is said of all of them
        chosen = {word for one in found.models for word in one}
        shared = {word: value for word, value in shared.items() if word not in chosen}
    rest = {key: value for key, value in data.items() if key not in ("models", "parameters")}
    return {**rest, "models": cast("Json", models), **({"parameters": shared} if shared else {})}
