"""Plans: every output tensor with its inputs and its place in a file, and who carries them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mergecore.files.strict_json import Json
from mergecore.types.architectures import Description
from mergecore.types.methods import MergeMethod
from mergecore.types.models import Checkpoint
from mergecore.types.outputs import Layout
from mergecore.types.params import Params
from mergecore.types.steps import Step

if TYPE_CHECKING:
    from mergecore.files.yaml_document import Document
    from mergecore.plugins.registry import Registry

# ---- plans -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dropped:
    """Input tensors that reach no output, and why."""

    model: int
    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Plan:
    """Everything that will happen, decided from headers alone."""

    models: tuple[Checkpoint, ...]
    donor: int
    steps: tuple[Step, ...]
    layout: Layout
    side_files: Mapping[str, Path | bytes]
    """What is written beside the weights, by name; a path is that of a side file of a model."""
    seed: int
    executor: str
    document: Mapping[str, Json]
    """The config as it was read."""
    descriptions: tuple[Description, ...] = ()
    layers: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """Of each stack whose layers were selected, by its prefix: for each layer the model and layer that stand first."""
    dropped: tuple[Dropped, ...] = ()
    warnings: tuple[str, ...] = ()
    plugins: Mapping[str, str] = field(default_factory=dict)
    """Distribution and version of every plugin that takes part."""
    title: str = ""
    side_digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of every side file as it was checked: no other bytes are written."""
    executor_params: Params | None = None
    """The parameters of `executor`; None for its defaults."""
    recipe: str = ""
    """The recipe whose own methods make steps; empty for a merge."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Another kind of document that compiles to a plan.

    accepts: whether a document is of this kind.
    compile: the plan of a document, with the plugins to use and what the command line adds.
    methods: what makes steps of its plans and can be named by no config; their plans name the recipe.
    """

    name: str
    accepts: Callable[[Mapping[str, Json]], bool]
    compile: Callable[[Document, Registry, PlanOptions], Plan]
    methods: tuple[MergeMethod[Any], ...] = ()


# ---- execution ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlanOptions:
    """What the command line adds to a config."""

    offline: bool = False
    missing: Literal["error", "base", "skip"] = "error"
    unexpected: Literal["error", "copy", "drop"] = "error"
    allow_crimes: bool = False
    """Merge models of different architectures as long as the tensors fit."""
    seed: int | None = None
    shard_size: int | None = None
    strict: bool = False
    """Refuse a config of which something has no effect, instead of saying so."""

    @property
    def complete(self) -> bool:
        """Whether the models must be of one kind, and every tensor must find its place."""
        return self.missing == self.unexpected == "error" and not self.allow_crimes
