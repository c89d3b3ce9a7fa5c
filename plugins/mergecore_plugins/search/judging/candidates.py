"""The models of a search: those of points, and those that they are measured by; read `Workshop`.

Models are opened once, only tensors that change are merged again, and the module of transformers is made once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from mergecore import (
    Checkpoint,
    Document,
    Kept,
    MergecoreError,
    MergeMethod,
    ModelSource,
    Plan,
    PlanOptions,
    Registry,
    RunOptions,
    plan,
    run,
)
from mergecore.errors import Collector, InputError, Problems
from mergecore.types import Json, ModelReference, OpenOptions, Point
from mergecore_plugins.evaluation.models import Place, PlannedModel, made_by_documents, opened
from mergecore_plugins.search.space.ranges import Space

if TYPE_CHECKING:
    from torch import Tensor

_STRUCTURE = (
    "merge_method",
    "models",
    "slices",
    "modules",
    "parameters",
    "include",
    "exclude",
    "name",
    "made_before",
    "command_line",
    "recipe",
)
"""What a config says of how models are merged; the average says it otherwise."""


@dataclass(frozen=True)
class Reference:
    """A model that the points are measured by: the average of the parents, one of them, or their base."""

    kind: str
    name: str
    config: Mapping[str, Json]


@dataclass
class Workshop:
    """Makes the models of a search, one after the other, in this process.

    place: where they are evaluated; its registry keeps models that are opened.
    """

    space: Space
    place: Place
    options: PlanOptions = field(default_factory=PlanOptions)
    threads: int | None = None
    kept: Kept = field(default_factory=Kept)
    _module: list[tuple[Mapping[str, object], Any, dict[str, Tensor]]] = field(default_factory=list)

    def plan(self, point: Point) -> Plan:
        """The plan of a point, which has the errors that any config has, at the places of its ranges."""
        return self._planned(self.space.documents_at(point))

    def _planned(self, config: Sequence[Document] | Mapping[str, Json]) -> Plan:
        return plan(config, registry=self.place.registry, options=self.options)

    def check_ends(self) -> list[Plan]:
        """The plans of points that reach every end of every range.

        Raises:
            MergecoreError: everything that is wrong with any of them, each once; no weight was read.
        """
        problems, plans = Collector(), []
        told: set[str] = set()
        for name, point in self.space.ends():
            try:
                plans.append(self.plan(point))
            except MergecoreError as error:
                for one in error.errors if isinstance(error, Problems) else (error,):
                    if str(one) not in told:
                        told.add(str(one))
                        problems.add(_naming(one, name, self.space.shown(point).get(name)))
        problems.raise_any()
        return plans

    def candidate(self, made: Plan, name: str) -> Candidate:
        """The model of a plan."""
        return Candidate(name, made, self.place, workshop=self)

    def reference(self, one: Reference) -> PlannedModel:
        """The model that points are measured by.

        Raises:
            MergecoreError: what is wrong with it, such as models that cannot be averaged.
        """
        if one.kind == "average":
            return self.candidate(self._planned(one.config), one.name)
        model = cast("Any", one.config["model"])
        if isinstance(model, str):
            return opened(model, name=one.name, place=self.place)
        return opened(
            {"merge_method": "passthrough", "models": [{"model": model}]}, name=one.name, place=self.place
        )

    def merged(self, made: Plan) -> dict[str, Tensor]:
        """The tensors of a plan, of which only those are made that are not there from the one before."""
        options = RunOptions(threads=self.threads)
        return run(made, registry=self.place.registry, options=options, kept=self.kept)


def _naming(error: MergecoreError, name: str, value: Json) -> MergecoreError:
    """An error that says for which end of which range it is so."""
    if name:
        error.what = f"{error.what} (where {name} is {value})" if value is not None else error.what
    return error


@dataclass
class Candidate(PlannedModel):
    """A merge that is not written, whose module is that of the one before with other numbers."""

    workshop: Workshop | None = None
    merging: float = 0.0
    """Seconds that went into its tensors and its module."""
    changed: int = 0
    """How many tensors were made anew."""

    def module(self) -> Any:
        """The model of transformers."""
        if not self._made:
            assert self.workshop is not None
            begun = time.monotonic()
            tensors = self.workshop.merged(self.plan)
            self.changed = len(self.workshop.kept.changed)
            self._made.append(_module_of(self, tensors, self.workshop))
            self.merging += time.monotonic() - begun
        return self._made[0]

    def release(self) -> None:
        """Forget module and tokenizer; the next model of the search gets a module of its own."""
        super().release()
        if self.workshop is not None:
            self.workshop._module.clear()


def _module_of(model: Candidate, tensors: dict[str, Tensor], workshop: Workshop) -> Any:
    """The module of the model before, with the tensors that differ; a new one where it is of another kind."""
    files = {name: one for name, one in model.plan.side_files.items() if name.endswith("config.json")}
    kept = workshop._module
    if kept and kept[0][0] == files and _takes(kept[0][1], tensors, kept[0][2], model.place.dtype):
        _, module, before = kept[0]
        fresh = {name: one for name, one in tensors.items() if before.get(name) is not one}
        _put(module, fresh)
    else:
        kept.clear()
        own = {name: one.clone() for name, one in tensors.items()}  # what is done to it stays out of `kept`
        module = PlannedModel(model.name, model.plan, model.place, tensors=lambda: own).module()
    workshop._module[:] = [(files, module, tensors)]
    return module


def _takes(module: Any, tensors: Mapping[str, Tensor], before: Mapping[str, Tensor], dtype: str) -> bool:
    """Whether the module of `before` has places for these tensors, by name, shape and dtype."""
    own = module.state_dict()
    return tensors.keys() == before.keys() and all(
        name in own and own[name].shape == one.shape and (dtype != "auto" or own[name].dtype == one.dtype)
        for name, one in tensors.items()
    )


def _put(module: Any, tensors: Mapping[str, Tensor]) -> None:
    import torch

    own = module.state_dict()
    with torch.no_grad():
        for name, one in tensors.items():
            own[name].copy_(one)


# ---- what points are measured by ---------------------------------------------------------------------------


def references_of(space: Space, plans: Sequence[Plan], registry: Registry) -> list[Reference]:
    """The average of all models that a search may merge, each of them, and the base, which is scored once.

    A base counts in the average where a method merges it as it does the others, not where changes to it are merged.
    """
    models: dict[str, Json] = {}
    bases: dict[str, Json] = {}
    promised = {name for made in plans for name in made_by_documents(made)}
    entries: dict[str, Json] = {}
    averaged: set[str] = set()
    for _, point in space.ends():
        for document in space.documents_at(point):
            averaged |= _averaged(document.data, registry)
            for entry in _entries(dict(document.data)):
                model = entry["model"]
                if not (isinstance(model, str) and model in promised):
                    models.setdefault(_key(model), model)
                    kept: dict[str, Json] = {
                        key: entry[key] for key in ("model", "from", "into") if key in entry
                    }
                    entries.setdefault(_key(model), kept)
            base = document.data.get("base_model")
            if base is not None and not (isinstance(base, str) and base in promised):
                bases.setdefault(_key(base), base)
                entries.setdefault(_key(base), {"model": base})
    last = space.documents_at(next(iter(space.ends()))[1])[-1]
    kept_keys = {key: one for key, one in last.data.items() if key not in _STRUCTURE}
    average: dict[str, Json] = {
        "merge_method": "linear",
        **kept_keys,
        "models": [one for key, one in entries.items() if key in averaged],
        "parameters": {"weight": 1.0, "normalize": True},
    }
    found = [Reference("average", "average", average)] if len(averaged & entries.keys()) > 1 else []
    found += [
        Reference("parent", _name(one), {"model": one}) for key, one in models.items() if key not in bases
    ]
    return found + [Reference("base", _name(one), {"model": one}) for one in bases.values()]


def _averaged(config: Mapping[str, Json], registry: Registry) -> set[str]:
    """Which models of a config belong to the average of what it merges."""
    listed = {_key(one["model"]) for one in _entries(dict(config))}
    base, named = config.get("base_model"), config.get("merge_method")
    if base is None or not isinstance(named, str):
        return listed
    method: MergeMethod[Any] = registry.get(MergeMethod, named)
    if method.base_apart:
        return listed - {_key(base)}
    return listed | {_key(base)} if method.base == "required" else listed


def _key(model: Json) -> str:
    return json.dumps(model, sort_keys=True)


def _name(model: Json) -> str:
    return model if isinstance(model, str) else json.dumps(model, ensure_ascii=False)


def _entries(value: Json) -> Iterator[dict[str, Json]]:
    """Every entry of a config that names a model to merge."""
    if isinstance(value, list):
        for one in value:
            yield from _entries(one)
    if isinstance(value, dict):
        if "model" in value:
            yield value
        for key in ("models", "slices", "sources", "modules"):
            inner = value.get(key)
            yield from _entries([*inner.values()] if key == "modules" and isinstance(inner, dict) else inner)


# ---- models that are opened once ---------------------------------------------------------------------------


def opening_once(registry: Registry) -> Registry:
    """A registry with which a model is opened once, however often it is named."""
    registry.load_all()
    others = sorted(registry.all(ModelSource), key=lambda one: (one.rank, one.name))
    known: dict[tuple[ModelReference, bool, bool, bool], Checkpoint] = {}

    def source_of(reference: ModelReference, options: OpenOptions) -> ModelSource | None:
        for one in others:
            with registry.calling(ModelSource, one.name):
                if one.accepts(reference, options):
                    return one
        return None

    def key(reference: ModelReference, options: OpenOptions) -> tuple[ModelReference, bool, bool, bool]:
        return reference, options.offline, options.weights, options.adapter

    def accepts(reference: ModelReference, options: OpenOptions) -> bool:
        return key(reference, options) in known or source_of(reference, options) is not None

    def open_once(reference: ModelReference, options: OpenOptions) -> Checkpoint:
        if key(reference, options) not in known:
            source = source_of(reference, options)
            if source is None:
                raise InputError("E701", f"'{reference}': no installed plugin opens it")
            with registry.calling(ModelSource, source.name):
                known[key(reference, options)] = source.open(reference, options)
        return known[key(reference, options)]

    once = ModelSource(name="opened_once", accepts=accepts, open=open_once, rank=-(2**31))
    return registry.with_sources(once)
