"""A config of mergekit-evolve as one for `mergecore search`; read `from_evolve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mergecore import planner
from mergecore.errors import Collector, ConfigError, MergecoreError
from mergecore.models import layer_counts

if TYPE_CHECKING:
    from mergecore import Document, Registry
    from mergecore.types import Json

TRIALS = 100
"""Evaluations of mergekit-evolve, if its command line says nothing."""


class Tagged(dict[str, Any]):
    """A mapping that is written with the tag `!range`."""


class _Task(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    weight: float = 1.0
    metric: str = "acc,none"


class _Genome(BaseModel):
    model_config = ConfigDict(extra="forbid")
    models: tuple[str, ...]
    merge_method: Literal["linear", "task_arithmetic", "ties", "dare_ties", "slerp"]
    base_model: str | None = None
    tokenizer_source: str | None = None
    layer_granularity: int = 0
    normalize: bool | None = None
    allow_negative_weights: bool = False
    filters: tuple[str, ...] | None = None
    smooth: bool = False


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    genome: _Genome
    tasks: tuple[_Task | str, ...]
    limit: int | None = None
    num_fewshot: int | None = None
    shuffle: bool = False
    random_init: bool = False
    apply_chat_template: bool = True
    fewshot_as_multiturn: bool = True


def from_evolve(document: Document, registry: Registry, notes: list[str]) -> dict[str, Json]:
    """The search that looks for the same.

    Raises:
        ConfigError: E104 for what is no such config, and for what a search here cannot do, several as `Problems`.
    """
    config = _read(document)
    problems = Collector()
    for what, hint, key in _impossible(config):
        problems.add(ConfigError("E104", what, place=document.key_place(("genome", key)), hint=hint))
    problems.raise_any()
    layers = _layers(config, document, registry)
    made: dict[str, Json] = {"merge_method": config.genome.merge_method}
    if config.genome.base_model:
        made["base_model"] = config.genome.base_model
    made |= _body(config.genome, layers)
    made |= _shared(config.genome)
    made["dtype"] = "bfloat16"
    if config.genome.tokenizer_source:
        made["tokenizer_source"] = config.genome.tokenizer_source
    made["search"] = _section(config)
    low = -1 if config.genome.allow_negative_weights else 0
    notes.append(f"mergekit-evolve has no ranges: weights go from {low} to 1 here, densities from 0 to 1")
    notes.append("add a 'holdout': mergekit-evolve looks at the data of the search only")
    if config.shuffle:
        notes.append("'shuffle' has no effect: samples are taken in the order of the data")
    return made


def _read(document: Document) -> _Config:
    try:
        return _Config.model_validate(dict(document.data))
    except ValidationError as error:
        first = error.errors()[0]
        place = document.place(tuple(first["loc"]))
        where = ".".join(map(str, first["loc"]))
        what = f"not a config of mergekit-evolve: {where}: {first['msg'].lower()}"
        raise ConfigError("E104", what, place=place, hint="it has 'genome' and 'tasks'") from None


def _impossible(config: _Config) -> list[tuple[str, str, str]]:
    """What cannot be translated: why, what to do, and the key."""
    genome, found = config.genome, []
    if genome.merge_method == "slerp":
        if len(genome.models) != 2:
            what = "slerp of the two models with the largest genes cannot be searched here"
            found.append((what, "list two models, or use 'merge_method: linear'", "models"))
        if genome.base_model and genome.base_model not in genome.models:
            what = "slerp takes its base among the models"
            found.append((what, "leave 'base_model' out, or name one of the models", "base_model"))
        idle = [key for key in ("filters", "smooth") if getattr(genome, key)]
        found += [(f"mergekit-evolve has no '{key}' with slerp", "remove it", key) for key in idle]
    elif genome.merge_method != "linear" and not genome.base_model:
        found.append(
            (
                f"{genome.merge_method} needs a 'base_model'",
                "name the model that all come from",
                "merge_method",
            )
        )
    if config.random_init:
        found.append(
            ("'random_init' cannot be kept: samplers here begin at random", "remove it", "random_init")
        )
    return found


def _layers(config: _Config, document: Document, registry: Registry) -> int:
    """How many layers there are, where groups of them are searched; else 0."""
    size = config.genome.layer_granularity
    if size <= 0:
        return 0
    place = document.key_place(("genome", "layer_granularity"))
    try:
        opened = planner(registry=registry).open(
            config.genome.base_model or config.genome.models[0], weights=False
        )
    except MergecoreError as error:
        what = (
            f"'layer_granularity' needs the number of layers, and the model cannot be looked at: {error.what}"
        )
        raise ConfigError("E104", what, place=place, hint="run this where the models are") from error
    counts = {count for _, count in layer_counts(opened.config)}
    if len(counts) != 1 or (count := counts.pop()) % size:
        what = f"'layer_granularity' is {size}, which does not divide the layers of {opened.name}"
        raise ConfigError("E104", what, place=place, hint="choose a number that does")
    return count


def _body(genome: _Genome, layers: int) -> dict[str, Json]:
    """Models or slices, with ranges."""
    groups = layers // genome.layer_granularity if layers else 1
    if genome.merge_method == "slerp":
        return {"base_model": genome.base_model or genome.models[0], **_entries(genome, layers, bare=True)}
    if genome.smooth and groups > 1:
        return {
            "models": [_entry(genome, one, {"per": "layer_group", "groups": groups}) for one in genome.models]
        }
    return _entries(genome, layers)


def _entries(genome: _Genome, layers: int, bare: bool = False) -> dict[str, Json]:
    def entry(model: str, more: Mapping[str, Json]) -> dict[str, Json]:
        return {"model": model, **more, **({} if bare else {"parameters": _parameters(genome, {})})}

    if not layers:
        return {"models": [entry(one, {}) for one in genome.models]}
    size = genome.layer_granularity
    everyone = [*genome.models]
    if genome.base_model and genome.base_model not in everyone:
        everyone.append(genome.base_model)
    slices: list[Json] = []
    for start in range(0, layers, size):
        sources: list[Json] = [
            entry(one, {"layer_range": [start, start + size]})
            if one in genome.models
            else {"model": one, "layer_range": [start, start + size]}
            for one in everyone
        ]
        part: dict[str, Json] = {"sources": sources}
        if bare:
            part["parameters"] = {"t": Tagged(low=0, high=1)}
        slices.append(part)
    return {"slices": slices}


def _entry(genome: _Genome, model: str, more: Mapping[str, Json]) -> dict[str, Json]:
    return {"model": model, "parameters": _parameters(genome, more)}


def _parameters(genome: _Genome, more: Mapping[str, Json]) -> dict[str, Json]:
    """The ranges of a model, for each filter where there are some."""
    low = -1 if genome.allow_negative_weights else 0
    found: dict[str, Json] = {"weight": _by_filter(genome.filters or (), {"low": low, "high": 1, **more})}
    if genome.merge_method in ("ties", "dare_ties"):
        found["density"] = _by_filter(genome.filters or (), {"low": 0, "high": 1, **more})
    return found


def _by_filter(filters: Sequence[str], said: Mapping[str, Json]) -> Json:
    if not filters:
        return Tagged(said)
    listed: list[Json] = [{"filter": one, "value": Tagged(said)} for one in filters]
    return [*listed, {"value": Tagged(said)}]


def _shared(genome: _Genome) -> dict[str, Json]:
    if genome.merge_method == "slerp":
        return {} if genome.layer_granularity > 0 else {"parameters": {"t": Tagged(low=0, high=1)}}
    default = genome.merge_method in ("ties", "dare_ties", "linear")
    return {"parameters": {"normalize": default if genome.normalize is None else genome.normalize}}


def _section(config: _Config) -> Json:
    tasks = [one if isinstance(one, _Task) else _Task(name=one) for one in config.tasks]
    more: dict[str, Json] = {
        **({"limit": config.limit} if config.limit else {}),
        **({"num_fewshot": config.num_fewshot} if config.num_fewshot is not None else {}),
        "apply_chat_template": config.apply_chat_template,
    }
    objectives: list[Json] = [
        {
            "evaluator": "lm_eval",
            "tasks": one.name,
            "score": f"{one.name}/{one.metric.removesuffix(',none')}",
            **({"weight": one.weight} if len(tasks) > 1 or one.weight != 1 else {}),
            **more,
        }
        for one in tasks
    ]
    return {"sampler": "cma", "trials": TRIALS, "objectives": objectives}
