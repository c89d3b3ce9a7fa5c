"""Architectures: what is known about a model's tensors, and who can describe them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mergecore.files.strict_json import Json
from mergecore.types.models import Checkpoint, TensorInfo


@dataclass(frozen=True)
class Stack:
    """Repeated layers: the tensors named `{prefix}{index}.…` for `count` indices from 0.

    Layers after these, which predict tokens further ahead, are tensors after the layers.
    """

    prefix: str
    """What the names of its tensors begin with, the last dot included."""
    count: int


@dataclass(frozen=True)
class TensorFacts:
    """What is known about one tensor: where it stands, and what it does if that is known."""

    stack: str | None = None
    """Prefix of its stack, None outside the layers."""
    layer: int | None = None
    """The index of its layer in the stack, None outside the layers."""
    suffix: str = ""
    """Its name within the layer, or its whole name outside the layers."""
    after: bool = False
    """Outside the layers only: applied after them (final norm, head) rather than before (embeddings)."""
    role: str = ""
    """`attn.q`, `mlp.down`, `norm`, `embed`, `head`, … or nothing."""
    vocabulary_axis: int | None = None
    """The axis with an entry for each token; None where it has none."""
    module: str = ""
    """Name of its module, where the model has several."""
    ends_module: bool = False
    """Applied after the layers of its module, which come before those that make text: the last norm of an encoder."""


@dataclass(frozen=True)
class Module:
    """A part of a model that can be merged in its own way, such as the text model of one that also sees."""

    name: str
    """What a config calls it under `modules`."""
    stack: Stack | None = None
    """Its layers, if it has any to choose from."""
    layer_count_key: tuple[str, ...] | None = None
    """Where config.json holds the number of these layers."""
    aliases: tuple[str, ...] = ()
    """What other tools call it."""


@dataclass(frozen=True)
class Description:
    """What a describer knows about a checkpoint.  It adds knowledge; it never adds or removes a tensor."""

    by: str
    """The name of the describer."""
    family: str
    """What kind of model it is, such as `llama`."""
    stacks: tuple[Stack, ...]
    """Its stacks of layers."""
    main: Stack | None
    """The stack that layer ranges mean; None when that is ambiguous."""
    tensors: Mapping[str, TensorFacts]
    """What is known about each tensor, by name."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Names that are not on disk, and the tensor that stands for each."""
    layer_count_key: tuple[str, ...] | None = None
    """Where config.json holds the number of layers of `main`."""
    modules: tuple[Module, ...] = ()
    """Its modules in order; none where it is a single one."""

    def module(self, name: str) -> Module | None:
        """The module of that name, otherwise of that alias; a model of one module is called `default`."""
        if not self.modules:
            return Module("default", self.main, self.layer_count_key) if name in ("", "default") else None
        named = [one for one in self.modules if one.name == name]
        return next(iter([*named, *(one for one in self.modules if name in one.aliases)]), None)


@dataclass(frozen=True)
class Layers:
    """The layers of a stack of a model that is made of layers of others."""

    stack: str
    """The prefix of the stack."""
    count_key: tuple[str, ...] | None
    """Where config.json counts them; there may be a list or a pattern with an entry for each instead of a number."""
    sources: tuple[tuple[Mapping[str, Json], int], ...]
    """For each the config of the model that it comes from, and its index there."""


@dataclass(frozen=True)
class Proposal:
    """A model that is about to be made of layers of others: what its config.json and its headers would say."""

    primary: Checkpoint
    """The model that gives config and side files."""
    config: Mapping[str, Json]
    """What config.json would say."""
    shapes: Mapping[str, tuple[int, ...]]
    """The shapes of its tensors, by name."""
    layers: tuple[Layers, ...]
    """Where the layers of each of its stacks come from."""


@dataclass(frozen=True)
class Loadability:
    """What a loader would make of a `Proposal`."""

    config: Mapping[str, Json]
    """The config with what it takes to tell the layers apart as their own models do."""
    faults: tuple[str, ...] = ()
    """Why the model cannot be used all the same."""
    lists: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    """By the prefix of a stack: the lists with a value for each layer that the primary model has, given or derived."""


ModuleKind: TypeAlias = Literal[
    "linear", "transposed", "embedding", "convolution", "grouped", "experts", "other"
]
"""`transposed` is a linear layer that holds its weight as (in, out), `grouped` a convolution with groups; `experts`
holds the weights of several."""


@dataclass(frozen=True)
class LoadedModule:
    """A module with parameters of its own."""

    name: str
    """Its full name."""
    kind: ModuleKind
    """What it computes."""
    parameters: tuple[str, ...]
    """Their names within it, in the order in which it declares them."""
    inside: tuple[str, ...] = ()
    """The modules with parameters that it contains, by their full names."""
    takes_in_first: bool = False
    """Whether experts are stored as (experts, in, out)."""


@dataclass(frozen=True)
class Loaded:
    """The modules of a model, and its tensors by their names there."""

    modules: Mapping[str, LoadedModule]
    """By their full names."""
    tensors: Mapping[str, TensorInfo]
    """By the names of the parameters that they become."""
    ties: Mapping[str, str] = field(default_factory=dict)
    """Parameters without a tensor of their own, and the parameter that they are."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A describer of checkpoints.  The one of lowest `rank` that returns a description is believed.

    name: what lists, messages and plans call it.
    describe: what it knows about a checkpoint; None when it knows nothing.
    rank: 50 if nothing is said; the lowest is asked first.
    slow: describing takes a second or more; such a describer is asked only where more than names decides
        something: when layers or modules are chosen, roles are asked for, or vocabularies are aligned.
    loadability: whether a model that is to be made of selected layers would load; None when it cannot tell.
    map_keys: the tensors of a checkpoint under the names, and cut or joined to the parts, that another one has;
        None when it knows no way.  Every stored tensor is still there, under its own name if it has no place.
    loaded: the modules that a loader makes of the first checkpoint, by the class that the config of the second names;
        None when it does not know it.
    keeps_f32: names of the tensors of a checkpoint that its loader holds in float32 when the rest is in the 16-bit
        format of that name, "F16" or "BF16".
    completed: the config of a checkpoint with what its loader takes for what is not said; None when it cannot tell.
    summary: what it goes by, in one line of at most 59 characters, for lists.
    """

    name: str
    describe: Callable[[Checkpoint], Description | None]
    rank: int = 50
    slow: bool = False
    loadability: Callable[[Proposal], Loadability | None] | None = None
    map_keys: Callable[[Checkpoint, Checkpoint], Mapping[str, TensorInfo] | None] | None = None
    keeps_f32: Callable[[Checkpoint, str], Collection[str]] | None = None
    completed: Callable[[Checkpoint], Mapping[str, Json] | None] | None = None
    loaded: Callable[[Checkpoint, Checkpoint], Loaded | None] | None = None
    summary: str = ""
