"""Describes a checkpoint from the names and shapes of its tensors and from config.json alone.

Read `describe`.  It knows no model family, so it works for all of them, remote code included; a describer
that knows more has a lower rank and is asked first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from mergecore import hookimpl
from mergecore.models import (
    find_stacks,
    is_text,
    layer_counts,
    nested_configs,
    split_name,
    vocabulary_sizes,
    without_layers_ahead,
)
from mergecore.types import (
    Architecture,
    Checkpoint,
    Description,
    Json,
    Module,
    Stack,
    TensorFacts,
    TensorInfo,
)
from mergecore_architectures.modules import modules_of
from mergecore_architectures.names_loaded import loaded
from mergecore_architectures.roles import (
    is_after,
    is_list_of_heads,
    is_token_embedding,
    is_vocabulary_head,
    layer_role,
    modality,
    outer_role,
    tied_head,
)


@hookimpl
def mergecore_architectures() -> Iterator[Architecture]:
    yield Architecture(
        name="names",
        describe=describe,
        rank=90,
        map_keys=map_keys,
        loaded=loaded,
        summary="names and shapes of tensors, and config.json",
    )


def describe(checkpoint: Checkpoint) -> Description:
    """What the names say; there is always something."""
    tensors, config = checkpoint.tensors, checkpoint.config
    stacks = tuple(without_layers_ahead(stack, tensors, config) for stack in find_stacks(tensors))
    main = main_stack(stacks, tensors, config)
    facts = _facts(tensors, stacks, main, config)
    modules, owners = modules_with(tensors, stacks, main, config)
    return Description(
        by="names",
        family=_family(config),
        stacks=stacks,
        main=main,
        tensors={
            name: replace(one, module=owners[name]) if owners.get(name) else one
            for name, one in facts.items()
        },
        tied=_tied(config, facts, tensors),
        layer_count_key=_layer_count_key(main, config),
        modules=modules,
    )


def modules_with(
    names: Collection[str], stacks: Sequence[Stack], main: Stack | None, config: Mapping[str, Json]
) -> tuple[tuple[Module, ...], dict[str, str]]:
    """The modules of a model with that main stack, and the module of each tensor."""
    parts, owners = modules_of(names, thick_stacks(stacks, names), main)
    modules = [Module(one.name, one.stack, _layer_count_key(one.stack, config), one.aliases) for one in parts]
    return tuple(modules), owners


def map_keys(checkpoint: Checkpoint, wanted: Checkpoint) -> Mapping[str, TensorInfo] | None:
    """The tensors of `checkpoint` under the names of `wanted`, where they differ by one prefix throughout.

    A model without its head is saved without the prefix that it has within one with a head.
    """
    extra = [name for name in checkpoint.tensors if name not in wanted.tensors]
    missing = [name for name in wanted.tensors if name not in checkpoint.tensors]
    for prefix in _prefixes(extra, missing):
        renamed = {prefix + name: name for name in extra if prefix + name in wanted.tensors}
        if len(renamed) == len(extra):
            return _renamed(checkpoint.tensors, renamed)
    for prefix in _prefixes(missing, extra):
        renamed = {name: prefix + name for name in missing if prefix + name in checkpoint.tensors}
        if len(renamed) == len(missing):
            return _renamed(checkpoint.tensors, renamed)
    return None


def _prefixes(short: Sequence[str], long: Sequence[str]) -> Iterator[str]:
    """What could stand before all of the `short` names in the `long` ones."""
    if short:
        telling = max(short, key=len)
        yield from (name.removesuffix(telling) for name in long if name.endswith(f".{telling}"))


def _renamed(tensors: Mapping[str, TensorInfo], renamed: Mapping[str, str]) -> dict[str, TensorInfo]:
    """The tensors, those that `renamed` has by their new names."""
    gone = set(renamed.values())
    made = {new: replace(tensors[old], name=new) for new, old in renamed.items()}
    return {**made, **{name: one for name, one in tensors.items() if name not in gone}}


def main_stack(stacks: Sequence[Stack], names: Iterable[str], config: Mapping[str, Json]) -> Stack | None:
    """The stack that layer ranges mean: a decoder or language model before others, encoders and towers last.

    Of several such, the only one with as many layers as `config` states; None when that leaves a choice.
    """
    thick = thick_stacks(stacks, names)
    best = min((_distance(stack.prefix) for stack in thick), default=0)
    chosen = [stack for stack in thick if _distance(stack.prefix) == best]
    if len(chosen) > 1:
        stated = {count for _, count in layer_counts(config)}
        chosen = [stack for stack in chosen if stack.count in stated]
    return chosen[0] if len(chosen) == 1 else None


def thick_stacks(stacks: Sequence[Stack], names: Iterable[str]) -> Sequence[Stack]:
    """The stacks of layers rather than of single modules; all of them where there is no such difference."""
    if len(stacks) < 2:
        return stacks
    sizes = Counter(parts[0] for name in names if (parts := split_name(name)))
    return [stack for stack in stacks if sizes[stack.prefix] >= _THICK * stack.count] or stacks


_THICK = 3
"""Tensors that a layer has at least; what has fewer is a short sequence of modules, such as a projector."""


def _distance(name: str) -> int:
    """How far a part of the model with this name is from being the text decoder."""
    words = set(re.split(r"[._]", name.lower()))
    if modality(name):
        return 4
    if "encoder" in words and "decoder" not in words:
        return 3
    if not words.isdisjoint({"decoder", "language", "llm", "lm"}):
        return 0
    return 1 if "text" in words else 2


def _family(config: Mapping[str, Json]) -> str:
    architectures = config.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else ""
    return str(config.get("model_type") or first)


# ---- tensors -----------------------------------------------------------------------------------------------


def _facts(
    tensors: Mapping[str, TensorInfo], stacks: Sequence[Stack], main: Stack | None, config: Mapping[str, Json]
) -> dict[str, TensorFacts]:
    counts = {stack.prefix: stack.count for stack in stacks}
    sparse = any("expert" in name for name in tensors)
    rows = vocabulary_sizes(config) | {
        tensor.shape[0] for tensor in tensors.values() if _is_token_matrix(tensor)
    }
    facts = {}
    known: dict[tuple[str, str], tuple[str | None, str]] = {}  # what does not depend on the layer
    for name, tensor in tensors.items():
        parts = split_name(name)
        if parts and parts[0] in counts:
            place = (parts[0], parts[2])
            if place not in known:
                kind = modality(name)
                known[place] = kind, _role(kind, layer_role(parts[2], sparse))
            kind, role = known[place]
            after = kind == "extra" or parts[1] >= counts[parts[0]]
            after = after or (main is not None and parts[0] != main.prefix and is_list_of_heads(parts[0]))
            facts[name] = TensorFacts(parts[0], parts[1], parts[2], after, role)
        else:
            facts[name] = _outside(tensor, main, stacks, rows)
    return facts


def _outside(
    tensor: TensorInfo, main: Stack | None, stacks: Sequence[Stack], rows: Collection[int]
) -> TensorFacts:
    """What is known about a tensor outside the layers."""
    name = tensor.name
    kind = modality(name)
    last = is_after(name) or is_after(_beside_layers(name, stacks))
    after = kind == "extra" or (kind is None and not _before(name, main) and last)
    axis = _vocabulary_axis(tensor, rows) if kind is None else None
    role = _role(kind, outer_role(name))
    return TensorFacts(None, None, name, after, role, axis, ends_module=last and not after)


def _beside_layers(name: str, stacks: Sequence[Stack]) -> str:
    """The name below the part of the model that also has the closest layers."""
    words = name.split(".")
    shared = 0
    for stack in stacks:
        same = takewhile(lambda pair: pair[0] == pair[1], zip(words, stack.prefix.split("."), strict=False))
        shared = max(shared, len(list(same)))
    return ".".join(words[shared:])


def _role(kind: str | None, role: str) -> str:
    """The role within its part of the model; parts beside the text model come first in it."""
    if kind in (None, "extra"):
        return role
    return f"{kind}.{role}" if role else str(kind)


def _before(name: str, main: Stack | None) -> bool:
    """Whether a tensor belongs to an encoder that feeds the main stack."""
    return main is not None and _distance(name) == 3 and _distance(main.prefix) < 3


def _is_token_matrix(tensor: TensorInfo) -> bool:
    name = tensor.name
    return len(tensor.shape) == 2 and not split_name(name) and is_token_embedding(name) and not modality(name)


def _vocabulary_axis(tensor: TensorInfo, rows: Collection[int]) -> int | None:
    if _is_token_matrix(tensor):
        return 0
    if is_vocabulary_head(tensor.name) or (outer_role(tensor.name) == "embed" and len(tensor.shape) == 2):
        return next((axis for axis, size in enumerate(tensor.shape) if size in rows), None)
    return None


# ---- config ------------------------------------------------------------------------------------------------


def _tied(
    config: Mapping[str, Json], facts: Mapping[str, TensorFacts], tensors: Mapping[str, TensorInfo]
) -> dict[str, str]:
    """The missing head and the embedding that stands for it, where the config ties them or must mean to."""
    embeddings = [name for name, fact in facts.items() if fact.role == "embed" and fact.vocabulary_axis == 0]
    heads = [name for name, fact in facts.items() if fact.role == "head"]
    classifies = not heads and any(fact.role == "head.classifier" for fact in facts.values())
    complete = any(facts[name].vocabulary_axis == 0 and len(tensors[name].shape) == 2 for name in heads)
    if not embeddings or classifies or complete:
        return {}
    parts = [part for path, part in nested_configs(config) if not path or is_text(path)]
    flags = [part["tie_word_embeddings"] for part in parts if "tie_word_embeddings" in part]
    tie = flags[0] if flags else _family_has_head(config)
    return {tied_head(tensors): embeddings[0]} if tie is True else {}


def _family_has_head(config: Mapping[str, Json]) -> bool:
    """A language model without a head on disk and without a word on it in its config ties by default."""
    architectures = config.get("architectures")
    named = architectures if isinstance(architectures, list) else []
    return any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in named)


def _layer_count_key(stack: Stack | None, config: Mapping[str, Json]) -> tuple[str, ...] | None:
    """The key that holds the number of layers of a stack: by value, by what both deal with, by words of its name."""
    if stack is None:
        return None
    kind = modality(stack.prefix)
    paths = [path for path, count in layer_counts(config) if count == stack.count]
    same = [path for path in paths if modality(".".join(path)) == kind]
    paths = same or (paths if kind else [])
    words = re.findall(r"decoder|encoder", stack.prefix)
    telling = [path for path in paths if words and any(words[-1] in part for part in path)]
    return next(iter([*telling, *paths, *_layer_lists(stack, config)]), None)


def _layer_lists(stack: Stack, config: Mapping[str, Json]) -> Iterator[tuple[str, ...]]:
    """Where the config has a list or a pattern with an entry for each layer of a stack, and no number."""
    for path, section in nested_configs(config):
        for key in ("layers_block_type", "layer_types", "hybrid_override_pattern"):
            value = section.get(key)
            if isinstance(value, (list, str)) and len(value) == stack.count:
                yield (*path, key)
