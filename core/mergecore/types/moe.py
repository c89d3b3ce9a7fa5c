"""Architectures with experts that dense models can be made into; read `MoeFamily`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mergecore.files.strict_json import Json

ExpertPart: TypeAlias = Literal["gate", "up", "down"]
"""A matrix of a gated feed-forward block: `down(act(gate(x)) * up(x))`."""


@dataclass(frozen=True)
class Mixture:
    """A mixture of experts that is asked for: of what dense model, and how many experts it gets."""

    config: Mapping[str, Json]
    """The config.json of the dense model, with what its loader takes for what it does not say."""
    layer: frozenset[str]
    """The names of the tensors of a layer; those stored as one, such as q, k and v, are told apart."""
    experts: int
    """How many experts a layer gets."""
    experts_per_token: int
    """How many of them work on each token."""
    shared_experts: int = 0
    """How many work on every token besides."""
    shared_prompts: bool = False
    """Whether shared experts have prompts, of which a gate of theirs can be made."""
    drawn: bool = True
    """Whether routers and gates are random numbers."""


@dataclass(frozen=True, kw_only=True)
class ExpertNames:
    """How the tensors of the experts are called, within a layer.

    router: the matrix with a row for each expert.
    experts: by name the parts that a tensor holds, one behind the other.  A name with `{expert}` is a tensor of one
        expert, another one holds those of all experts: (experts, rows, columns).
    shared: the same for the shared experts, which are one block as wide as all of them together.
    shared_gate: the matrix of one row that says how much the shared expert counts; empty where there is none.
    zeros: further tensors that are 0 and in float32, with their shapes; -1 stands for the number of experts.
    """

    router: str
    experts: Mapping[str, tuple[ExpertPart, ...]]
    shared: Mapping[str, tuple[ExpertPart, ...]] = field(default_factory=dict)
    shared_gate: str = ""
    zeros: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MoeFamily:
    """An architecture with experts that dense models can be made into, such as Mixtral.

    name: what config.json says under `model_type`; `title` is how people write it.
    architecture: what it says under `architectures`.
    layer: the names of the tensors of a layer beside its experts: of the dense model, and of this family.
    optional: those of `layer` that a model may lack.
    zeros: those that are 0 where a model lacks them.  Those of them that are `optional` too are 0 only if it has some
        of them.
    names: how experts are called in the files that the authors of the family publish.
    fused: how they are called as transformers 5 holds them in memory; None where that is the same.
    shared_experts: the least and the largest number of them; None for any number.
    config: what config.json says beside what all families say in the same way.
    keeps: further keys that are taken over from the dense model.
    faults: why it cannot express a model, beside what the tensors and `Mixture` show.
    exact_router: whether its loaders hold the router in float32; it is then stored so.
    proved_by: another family whose class computes the same, where transformers has none for this one.
    note: what users should know who get one; `notes`: what they should know of a mixture of such a model.
    rank: of the families that can express a model, the one of lowest rank is taken.
    """

    name: str
    title: str
    architecture: str
    layer: Mapping[str, str]
    names: ExpertNames
    config: Callable[[Mixture], Mapping[str, Json]]
    fused: ExpertNames | None = None
    optional: frozenset[str] = frozenset()
    zeros: frozenset[str] = frozenset()
    shared_experts: tuple[int, int | None] = (0, 0)
    keeps: tuple[str, ...] = ()
    faults: Callable[[Mixture], Iterable[str]] = lambda mixture: ()
    exact_router: bool = False
    proved_by: str = ""
    note: str = ""
    notes: Callable[[Mixture], Iterable[str]] = lambda mixture: ()
    rank: int = 50
