"""Describes a checkpoint by the model that transformers would load it into; plugin `transformers`.

Read `describe`.  What names and shapes say is the ground (`names`); the model adds which stack makes text, which
tensors are one another, where tokens are, and which key of the config counts the layers.  Where transformers does
not know the model, or knows too few of its tensors, it says nothing.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from mergecore import hookimpl
from mergecore.models import LAYER_COUNT_KEYS, split_name
from mergecore.types import Architecture, Checkpoint, Description, Json, Stack, TensorFacts, TensorInfo
from mergecore_architectures import names, plain
from mergecore_architectures.roles import outer_role
from mergecore_architectures.transformers_code import with_undeclared
from mergecore_architectures.transformers_fit import KNOWN, loadability, without_layers_ahead
from mergecore_architectures.transformers_keys import map_keys
from mergecore_architectures.transformers_loaded import loaded
from mergecore_architectures.transformers_models import (
    CannotBuildError,
    Converted,
    MetaModel,
    build,
    complete_config,
    may_keep_f32,
)

Path = tuple[str, ...]


@hookimpl
def mergecore_architectures() -> Iterator[Architecture]:
    yield Architecture(
        name="transformers",
        summary="the class that transformers would load a model into",
        describe=describe,
        rank=40,
        slow=True,
        loadability=loadability,
        map_keys=map_keys,
        loaded=loaded,
        keeps_f32=keeps_f32,
        completed=completed,
    )


def describe(checkpoint: Checkpoint) -> Description | None:
    """What the model adds to the names; None when it cannot be made, or is not the one on disk.

    It adds nothing to a plain model, for which transformers is not imported.
    """
    if (
        plain.lists_of(checkpoint.config, {name: one.shape for name, one in checkpoint.tensors.items()})
        is not None
    ):
        return names.describe(checkpoint)
    return describe_with_model(checkpoint)


def describe_with_model(checkpoint: Checkpoint) -> Description | None:
    """The same, from the model that transformers makes."""
    try:
        model = build(checkpoint.config)
        places = model.renamed(checkpoint.tensors)
    except CannotBuildError:
        return None
    known = names.describe(checkpoint)
    if not _is_the_model(without_layers_ahead(checkpoint.tensors, known.stacks), model, places):
        return None
    counted = _Counted(known, model, places)
    main = counted.main_stack()
    modules, owners = names.modules_with(known.tensors, known.stacks, main, checkpoint.config)
    tied = _tied(known, checkpoint, model, places)
    facts = _facts(known, checkpoint, model, places)
    for name in {name for missing, name in tied.items() if outer_role(missing) == "embed"}:
        facts[name] = replace(facts[name], role="embed", after=False)  # stored under the name of the head
    return replace(
        known,
        by="transformers",
        main=main,
        tensors={name: replace(one, module=owners.get(name, "")) for name, one in facts.items()},
        tied=tied,
        layer_count_key=counted.key_of(main, known.layer_count_key),
        modules=tuple(
            replace(one, layer_count_key=counted.key_of(one.stack, one.layer_count_key)) for one in modules
        ),
    )


def keeps_f32(checkpoint: Checkpoint, dtype: str) -> frozenset[str]:
    """The tensors that the class wants in float32: always, or beside float16 only."""
    if not may_keep_f32(checkpoint.config):
        return frozenset()
    try:
        model = build(checkpoint.config)
        places = model.renamed(checkpoint.tensors)
    except CannotBuildError:
        return frozenset()
    return frozenset(name for name, place in places.items() if model.is_kept_in_f32(place.name, dtype))


def completed(checkpoint: Checkpoint) -> dict[str, Json] | None:
    """The config with the defaults of its class, and of the code that reads it."""
    made = complete_config(checkpoint.config)
    return None if made is None else with_undeclared(made)


def _is_the_model(
    tensors: Mapping[str, TensorInfo], model: MetaModel, places: Mapping[str, Converted]
) -> bool:
    expected = [name for name in tensors if not model.unexpected_is_fine(name)]
    right = sum(
        places[name].pattern is not None or model.shapes.get(places[name].name) == tensors[name].shape
        for name in expected
        if name in places
    )
    return right >= KNOWN * len(expected)


# ---- layers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Counted:
    """The stacks on disk against the lists of modules in the model."""

    known: Description
    model: MetaModel
    places: Mapping[str, Converted]

    def main_stack(self) -> Stack | None:
        """The stack within the module that makes text; where there are several, what the names say about them."""
        known, model = self.known, self.model
        if model.decoder is None:
            return known.main
        inside = [stack for stack in known.stacks if _is_within(self._lists.get(stack.prefix), model.decoder)]
        if known.main in inside or not inside:
            return known.main
        thick = names.thick_stacks(inside, known.tensors)
        return thick[0] if len(thick) == 1 else None

    def key_of(self, stack: Stack | None, guess: Path | None) -> Path | None:
        """The key that makes a stack longer when it grows; where nothing is sure, the guess of the names."""
        wanted = self._lists.get(stack.prefix) if stack else None
        if stack is None or wanted is None:
            return guess
        before = self.model.stacks
        tried = [guess] if guess else []
        tried += [path for path in _candidates(self.model, stack.count) if path not in tried]
        for path in tried[:_MOST_TRIED]:
            after = _stacks_with(self.model, path, stack.count)
            if after and after.get(wanted) == before[wanted] + 1:
                return path
        return guess

    @cached_property
    def _lists(self) -> dict[str, str]:
        """For each stack on disk the list of modules that most of its tensors go to."""
        votes: dict[str, Counter[str]] = {}
        for name, place in self.places.items():
            facts = self.known.tensors[name]
            parts = split_name(place.name)
            if facts.stack is not None and parts and parts[0].rstrip(".") in self.model.stacks:
                votes.setdefault(facts.stack, Counter())[parts[0].rstrip(".")] += 1
        return {prefix: count.most_common(1)[0][0] for prefix, count in votes.items()}


def _is_within(name: str | None, outer: str) -> bool:
    return name is not None and (not outer or name.startswith(f"{outer}."))


_MOST_TRIED = 12


def _candidates(model: MetaModel, count: int) -> list[Path]:
    """Where the config holds that number, or a list of that length: the likely keys first."""
    found = []
    for path, section in model.sections():
        for key, value in section.items():
            number = value == count and type(value) is int and not key.endswith(_NO_COUNTS)
            if number or (isinstance(value, list) and len(value) == count and "layer" in key):
                found.append((*path, key))
    ranks = {key: rank for rank, key in enumerate(LAYER_COUNT_KEYS)}
    return sorted(found, key=lambda path: ranks.get(path[-1], len(ranks)))


_NO_COUNTS = ("_id", "_size", "_dim", "_heads")


def _stacks_with(model: MetaModel, path: Path, count: int) -> dict[str, int] | None:
    """The lists of modules when the config has one layer more at `path`; None when it cannot."""
    config = copy.deepcopy(dict(model.config))
    section: dict[str, Json] = config
    for key in path[:-1]:
        inner = section.setdefault(key, {})
        if not isinstance(inner, dict):
            return None
        section = inner
    for key, value in section.items():
        if isinstance(value, list) and len(value) == count:
            section[key] = [*value, value[-1]]
    if not isinstance(section.get(path[-1]), list):
        section[path[-1]] = count + 1
    try:
        return build(config).stacks
    except CannotBuildError:
        return None


# ---- tensors -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tokens:
    """The tensors of the modules that know the vocabulary, by their names in the model."""

    embeddings: str | None
    head: str | None

    def role(self, name: str) -> str | None:
        """`embed` or `head` for what belongs to one of them."""
        module = name.rpartition(".")[0]
        if module and module == self.embeddings:
            return "embed"
        return "head" if module and module == self.head else None


def _facts(
    known: Description, checkpoint: Checkpoint, model: MetaModel, places: Mapping[str, Converted]
) -> dict[str, TensorFacts]:
    """What the names say, put right where the model knows better: the tensors along the vocabulary."""
    tokens = _Tokens(model.embeddings, model.head)
    facts = dict(known.tensors)
    for name, place in places.items():
        role = tokens.role(place.name) if place.pattern is None else None
        if role and len(checkpoint.tensors[name].shape) in (1, 2) and facts[name].stack is None:
            facts[name] = replace(facts[name], role=role, vocabulary_axis=0, after=role == "head")
    return facts


def _tied(
    known: Description, checkpoint: Checkpoint, model: MetaModel, places: Mapping[str, Converted]
) -> dict[str, str]:
    """Names that are not on disk and the tensors that stand for them; ties hold both ways."""
    on_disk = {place.name: name for name, place in places.items() if place.pattern is None}
    guesses = [*known.tied, *model.ties, *model.ties.values()]
    absent: dict[str, list[str]] = {}
    for name, place in model.renamed(guesses).items():
        if name not in checkpoint.tensors:
            absent.setdefault(place.name, []).append(name)
    tied: dict[str, str] = {}
    for target, source in model.ties.items():
        for missing, present in ((target, source), (source, target)):
            if missing in absent and missing not in on_disk and present in on_disk:
                tied |= dict.fromkeys(absent[missing], on_disk[present])
    return tied
