"""Policies: how the numbers of a merge config are chosen from its models.  Read `Policy`, then what it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from mergecore.files.strict_json import Json
from mergecore.types.methods import MergeMethod
from mergecore.types.params import NO_PARAMS, P
from mergecore.types.plans import Plan, Planner


@dataclass(frozen=True)
class PolicyRequest:
    """A merge config whose numbers are to be chosen.

    config: the config as it is written; with 1 for numbers of models that it has to have and does not say.
    models: as it calls them, those that the method has parameters for, in its order; a base apart is not among them.
    method: the merge method that gets the numbers.
    plan: what the config compiles to.  The inputs of a step that has the method are of `models`, in that order.
    planner: plans other configs, and knows the plugins.
    """

    config: Mapping[str, Json]
    models: Sequence[str]
    method: MergeMethod[Any]
    plan: Plan
    planner: Planner


@dataclass(frozen=True)
class Coefficients:
    """What a policy has chosen, as a config writes it: numbers, or gradients along the layers.

    models: for each model, parameters of it; empty where none is chosen for models.
    shared: parameters of all of them.
    notes: what the user should know, a sentence each.
    """

    models: Sequence[Mapping[str, Json]] = ()
    shared: Mapping[str, Json] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Policy(Generic[P]):
    """A way to choose numbers of a merge config.

    name: what the command line calls it.
    choose: what it chooses.  The same config, models and parameters give the same numbers; weights are read by
        `open_tensors`, a few rows at a time.
    params: the parameters that it takes, a class of `Params`.
    summary: what it does, in one line of at most 59 characters.
    paper: where it was published.
    """

    name: str
    choose: Callable[[PolicyRequest, P], Coefficients]
    params: type[P] = NO_PARAMS
    summary: str = ""
    paper: str | None = None
