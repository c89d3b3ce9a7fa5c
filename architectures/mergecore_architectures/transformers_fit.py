"""Whether transformers would load a model made of selected layers, and load it as it is meant; read `loadability`.

A config that counts layers and derives the rest from their positions (every sixth attends to everything, experts
from the third on) says something false of layers that moved.  Where it can say the truth in a list, it is made to;
where it cannot, the fault is reported.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mergecore.models import split_name
from mergecore.types import Json, Layers, Loadability, Proposal, Stack
from mergecore_architectures import names, plain
from mergecore_architectures.transformers_models import CannotBuildError, MetaModel, build

Path = tuple[str, ...]
T = TypeVar("T")

KNOWN = 0.95
"""Of the tensors on disk, those that must have their place and shape in the model, or it is another one."""


def loadability(proposal: Proposal) -> Loadability | None:
    """The config that is true of all layers, and what is wrong; None when transformers knows nothing of it.

    A plain model of layers of plain models loads; transformers is imported only for others.
    """
    return _plain_fit(proposal) or fit_of_models(proposal)


def _plain_fit(proposal: Proposal) -> Loadability | None:
    """The answer where config and names are enough for it; None where they are not."""
    primary = proposal.primary
    before = plain.lists_of(primary.config, {name: one.shape for name, one in primary.tensors.items()})
    after = plain.lists_of(proposal.config, proposal.shapes)
    if before is None or after is None or len(proposal.layers) != 1:
        return None
    (layers,) = proposal.layers
    if layers.count_key is None or len(layers.count_key) != 1 or any(map(_are_indices, before.values())):
        return None
    wanted: dict[str, list[Json]] = {name: [] for name in before}
    for config, index in layers.sources:
        lists = before if config is primary.config else plain.kinds_of(config)
        if lists is None or lists.keys() != before.keys() or any(index >= len(row) for row in lists.values()):
            return None
        for name, values in wanted.items():
            values.append(lists[name][index])
    wrong = {name: values for name, values in wanted.items() if after[name] != values}
    if wrong and not plain.takes_lists(proposal.config):
        return None
    return Loadability({**proposal.config, **wrong}, lists={layers.stack: before})


def fit_of_models(proposal: Proposal) -> Loadability | None:
    """The same, from the models that transformers makes."""
    try:
        before = build(proposal.primary.config)
        counted = without_layers_ahead(proposal.primary.tensors, names.describe(proposal.primary).stacks)
        ground = _compared(before, {name: one.shape for name, one in counted.items()})
    except CannotBuildError:
        return None
    if not ground.is_close(len(counted)):
        return None  # it is not the model on disk, so it is no judge of another one
    config = proposal.config
    try:
        after = build(config)
        for layers in proposal.layers:
            if layers.count_key is not None:
                config, after = _with_lists(config, layers, layers.count_key, before, after)
        stacks = [Stack(layers.stack, len(layers.sources)) for layers in proposal.layers]
        found = _compared(after, without_layers_ahead(proposal.shapes, stacks))
    except CannotBuildError as error:
        return Loadability(config, (str(error),))
    lists: dict[str, dict[str, Json]] = {
        layers.stack: {**before.layer_values(layers.count_key[:-1])}
        for layers in proposal.layers
        if layers.count_key is not None
    }
    return Loadability(config, tuple(found.beyond(ground)), lists)


def without_layers_ahead(tensors: Mapping[str, T], stacks: Iterable[Stack]) -> dict[str, T]:
    """The tensors without those of layers that follow the counted ones of a stack: loaders leave them out."""
    counts = {stack.prefix: stack.count for stack in stacks}

    def ahead(name: str) -> bool:
        parts = split_name(name)
        return parts is not None and parts[1] >= counts.get(parts[0], parts[1] + 1)

    return {name: one for name, one in tensors.items() if not ahead(name)}


# ---- lists -------------------------------------------------------------------------------------------------


def _with_lists(
    config: Mapping[str, Json], layers: Layers, key: Path, before: MetaModel, after: MetaModel
) -> tuple[Mapping[str, Json], MetaModel]:
    """The config with the lists that its class would derive wrongly, and the model it then makes.

    Raises:
        CannotBuildError: the class does not take such a list.
    """
    wanted = _picked(layers, key, before)
    given = after.layer_values(key[:-1])
    wrong = {name: values for name, values in wanted.items() if given.get(name) != values}
    if not wrong:
        return config, after
    changed = copy.deepcopy(dict(config))
    section: dict[str, Json] = changed
    for part in key[:-1]:
        inner = section[part]
        assert isinstance(inner, dict)
        section = inner
    section.update(wrong)
    made = build(changed)
    heard = made.layer_values(key[:-1])
    deaf = [name for name in wrong if heard.get(name) != wrong[name]]
    if deaf:
        raise CannotBuildError(
            f"the config derives '{deaf[0]}' from the positions of the layers, which changed: "
            f"it would be {_told(heard.get(deaf[0]))}, not {_told(wrong[deaf[0]])}"
        )
    return changed, made


def _picked(layers: Layers, key: Path, primary: MetaModel) -> dict[str, list[Json]]:
    """For each list with a value for every layer of the primary model, the values of the layers that were chosen."""
    models = {id(primary.config): primary}
    for config, _ in layers.sources:
        if id(config) not in models:
            models[id(config)] = build(config)
    length = _length(primary, key)
    lists = {
        name: values
        for name, values in primary.layer_values(key[:-1]).items()
        if len(values) == length and _LAYERS.search(name) and not _are_indices(values)
    }
    picked = {}
    for name, own in lists.items():
        rows = [
            (models[id(config)].layer_values(key[:-1]).get(name, own), index)
            for config, index in layers.sources
        ]
        if all(index < len(row) for row, index in rows):
            picked[name] = [row[index] for row, index in rows]
    return picked


_LAYERS = re.compile(r"layer|block")


def _are_indices(values: Sequence[Json]) -> bool:
    """Whether a list has numbers of layers rather than one value for each; those are renumbered elsewhere."""
    numbers = [value for value in values if type(value) is int]
    return len(numbers) == len(values) and all(one < other for one, other in itertools.pairwise(numbers))


def _length(primary: MetaModel, key: Path) -> int:
    """The number of layers of the primary model."""
    section = next((section for where, section in primary.sections() if where == key[:-1]), {})
    value = section.get(key[-1])
    return value if isinstance(value, int) else len(value) if isinstance(value, list) else 0


def _told(values: Sequence[Json] | None) -> str:
    if values is None:
        return "nothing"
    shown = ", ".join(str(value) for value in values[:8])
    return f"[{shown}{', …' if len(values) > 8 else ''}]"


# ---- tensors -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Compared:
    """The tensors of a model against those of a checkpoint."""

    missing: tuple[str, ...]
    strange: tuple[str, ...]
    misshapen: tuple[str, ...]

    def is_close(self, count: int) -> bool:
        """Whether few of `count` tensors differ."""
        return len(self.missing) + len(self.strange) + len(self.misshapen) <= (1 - KNOWN) * count

    def beyond(self, other: _Compared) -> list[str]:
        """A sentence for each kind of difference that `other` does not have, at whichever layer."""
        kinds = (
            (self.missing, other.missing, "would be missing, such as"),
            (self.strange, other.strange, "would not be loaded, such as"),
            (self.misshapen, other.misshapen, "would have another shape, such as"),
        )
        told = []
        for mine, theirs, words in kinds:
            known = {_anywhere(name) for name in theirs}
            if new := [name for name in mine if _anywhere(name) not in known]:
                told.append(f"{len(new)} tensor{'s' if len(new) > 1 else ''} {words} '{new[0]}'")
        return told


def _anywhere(name: str) -> str:
    return re.sub(r"\d+", "N", name)


def _compared(model: MetaModel, shapes: Mapping[str, tuple[int, ...]]) -> _Compared:
    places = model.renamed(shapes)
    strange = [name for name in shapes if name not in places and not model.unexpected_is_fine(name)]
    covered = {made for place in places.values() for made in model.targets(place)}
    ties = [{one, other} for one, other in model.ties.items()]
    missing = [name for name in model.shapes if name not in covered and not _tied(name, covered, ties)]
    misshapen = [
        name
        for name, place in places.items()
        if place.pattern is None and model.shapes.get(place.name, shapes[name]) != shapes[name]
    ]
    return _Compared(tuple(missing), tuple(strange), tuple(misshapen))


def _tied(name: str, covered: Iterable[str], ties: Iterable[set[str]]) -> bool:
    """Whether something that is the same tensor is there."""
    return any(name in pair and not pair.isdisjoint(covered) for pair in ties)
