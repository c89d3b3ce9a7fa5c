"""How a model can be run layer by layer, found out from headers and config.json alone; read `runnable`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mergecore import Params
from mergecore.errors import InputError, some
from mergecore.models import nested_configs
from mergecore.types import Checkpoint, TensorInfo, TensorInput
from mergecore_architectures import CannotBuildError, MetaModel, build, describe

if TYPE_CHECKING:
    from torch.nn import Embedding

    from mergecore import Planner
    from mergecore.types import Json

WIDE = 4
"""Bytes of a number while a model is run."""


class RunLayout(Params):
    """The decoder of a model of transformers, and the names of its weights there; plain values."""

    model: str
    """What messages call it."""
    config: str
    """Its config.json."""
    decoder: str
    """The name of the module that is run: everything but the head."""
    layers: tuple[str, ...]
    """The names of its layers, in order."""
    mlps: tuple[str | None, ...]
    """Of each layer the module that its MLP or router begins with, whose input is what a router sees."""
    width: int
    """The numbers in the hidden state of one token."""
    longest: int | None
    """The tokens that it takes at once; None where its config does not say."""
    vocabulary: int
    """The rows of its embeddings: ids of tokens are below."""
    embeddings: str
    """The weight that has them, of which only the rows in use are read."""
    names: tuple[str, ...]
    """All weights of the decoder."""
    memory: int
    """Bytes of weights in memory at once: the largest layer, and what is outside of layers but the embeddings."""

    def inside(self, layer: str) -> list[str]:
        """The weights of a layer."""
        return [name for name in self.names if name.startswith(f"{layer}.")]

    def layer_of(self, name: str) -> str | None:
        """The layer that a weight belongs to."""
        return _layer_of(name, self.layers)


@dataclass(frozen=True)
class Runnable:
    """How a model can be run, and which of its tensors its weights are."""

    layout: RunLayout
    tensors: Mapping[str, TensorInfo]
    """By the names in the model: one for each of `layout.names`."""

    def inputs(self, model: int = 0) -> dict[str, TensorInput]:
        """The same as inputs of a plan in which it is the model of that number."""
        return {name: TensorInput(model, one) for name, one in self.tensors.items()}


def runnable(planner: Planner, checkpoint: Checkpoint) -> Runnable:
    """How the text model of a checkpoint can be run.

    Raises:
        InputError: E224 when transformers has no class for it, or one that is not made of layers alone; E231 when it
            lacks tensors that the class needs.
    """
    try:
        made = build(checkpoint.config)
    except CannotBuildError as error:
        raise _cannot_run(checkpoint, str(error)) from error
    loaded = planner.loaded(checkpoint)
    known = {**{name: loaded.tensors[other] for name, other in loaded.ties.items()}, **loaded.tensors}
    decoder = made.decoder
    if decoder is None or not loaded.modules or getattr(made.model.config, "is_encoder_decoder", False):
        raise _cannot_run(checkpoint, f"{type(made.model).__name__} has no decoder of text")
    needed = list(_state(made, decoder))
    tensors = {name: known[name] for name in needed if name in known}
    if lacking := [name for name in needed if name not in known]:
        what = f"it lacks tensors that {type(made.model).__name__} needs to be run: {some(lacking, 3)}"
        raise InputError("E231", what, place=checkpoint.name, tensor=lacking[0])
    described = describe(replace(checkpoint, tensors=tensors))
    if described.main is None:
        raise _cannot_run(checkpoint, f"{type(made.model).__name__} has no stack of layers")
    layers = tuple(f"{described.main.prefix}{index}" for index in range(described.main.count))
    roles = {name: facts.role for name, facts in described.tensors.items()}
    embeddings = _embeddings(made, checkpoint)
    name = next(name for name, one in made.model.named_modules() if one is embeddings)
    layout = RunLayout(
        model=checkpoint.name,
        config=json.dumps(dict(checkpoint.config), sort_keys=True),
        decoder=decoder,
        layers=layers,
        mlps=tuple(_mlp(layer, roles) for layer in layers),
        width=embeddings.embedding_dim,
        longest=_longest(checkpoint.config),
        vocabulary=embeddings.num_embeddings,
        embeddings=f"{name}.weight",
        names=tuple(tensors),
        memory=_memory(tensors, layers, f"{name}.weight"),
    )
    return Runnable(layout, tensors)


def _layer_of(name: str, layers: Sequence[str]) -> str | None:
    stem = ".".join(name.split(".")[:-1])
    return next((layer for layer in layers if f"{stem}.".startswith(f"{layer}.")), None)


def _memory(tensors: Mapping[str, TensorInfo], layers: Sequence[str], embeddings: str) -> int:
    """Bytes of the largest layer, and of what is outside of layers but the embeddings."""
    sizes: dict[str | None, int] = {}
    for name, one in tensors.items():
        layer = _layer_of(name, layers)
        sizes[layer] = sizes.get(layer, 0) + WIDE * one.count * (name != embeddings)
    return sizes.pop(None, 0) + max(sizes.values(), default=0)


def _cannot_run(checkpoint: Checkpoint, why: str) -> InputError:
    hint = (
        "hidden states come from the model itself; use a model that transformers runs without code of its own"
    )
    return InputError("E224", f"the model cannot be run: {why}", place=checkpoint.name, hint=hint)


def _state(made: MetaModel, decoder: str) -> Iterator[str]:
    """The names of the weights of the decoder, those that are tied included."""
    prefix = f"{decoder}." if decoder else ""
    yield from (name for name in made.model.state_dict() if name.startswith(prefix))


def _embeddings(made: MetaModel, checkpoint: Checkpoint) -> Embedding:
    """The embeddings of tokens."""
    from torch import nn

    module = made.model.get_input_embeddings()
    if not isinstance(module, nn.Embedding):
        raise _cannot_run(checkpoint, f"{type(made.model).__name__} has no embeddings of tokens")
    return module


def _mlp(layer: str, roles: Mapping[str, str]) -> str | None:
    """The router of a layer, or else the first module of its MLP."""
    own = {name.rpartition(".")[0]: role for name, role in roles.items() if name.startswith(f"{layer}.")}
    first = [name for name, role in own.items() if role.startswith("mlp.") and role != "mlp.down"]
    return next(iter([*(name for name, role in own.items() if role == "router"), *first]), None)


def _longest(config: Mapping[str, Json]) -> int | None:
    """The positions that a config counts, in the section of the text model where it has several."""
    counts = [
        value
        for _, section in nested_configs(config)
        for key in _POSITIONS
        if isinstance(value := section.get(key), int) and not isinstance(value, bool) and value > 0
    ]
    return counts[0] if counts else None


_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
