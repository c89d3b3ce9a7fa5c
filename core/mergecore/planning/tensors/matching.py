"""Which input tensors make which output tensor, by name; and that none is lost on the way.

`match` turns slices into targets: each names an output tensor and, for every part of its slice, the tensor it
takes.  What a part lacks, and what no target takes, is found here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeAlias

from mergecore.config.parameters.filters import Selection
from mergecore.config.parameters.resolver import ParameterSource
from mergecore.files.yaml_document import DocPath
from mergecore.models.module_folders import module_folder
from mergecore.planning.opened import OpenedModels
from mergecore.types import Depth, Description, Dropped, Stack, TensorFacts, TensorInfo

LACKED = "the base, or else the first model, lacks it"
NOT_EVERYWHERE = "not all models have it"


@dataclass(frozen=True)
class SliceInput:
    """One model in a slice: which of its layers (None: all), and the parameters written for it."""

    model: int
    layers: range | None
    parameters: ParameterSource
    path: DocPath = ()
    """Where the config names it."""


@dataclass(frozen=True)
class Slice:
    """Layers that are merged from several models; the base only where the method works on differences to it."""

    parts: tuple[SliceInput, ...]
    base: SliceInput | None
    levels: tuple[ParameterSource, ...]
    """Parameters for all parts, the closest first."""
    base_model: int | None = None
    """The base that the config names, whether or not differences to it are merged."""
    module: str | None = None
    """The module whose tensors are merged so, by its name in the primary model; None for all tensors."""

    @property
    def everyone(self) -> tuple[SliceInput, ...]:
        """The base, if any, and the parts."""
        return (self.base, *self.parts) if self.base else self.parts


@dataclass(frozen=True)
class Target:
    """An output tensor and what each part of its slice has for it."""

    name: str
    facts: TensorFacts
    slice: Slice
    depth: Depth | None
    inputs: tuple[TensorInfo | None, ...]
    base: TensorInfo | None
    selected: bool = True
    """Whether it is merged; else that of the base, or of the first model, is copied."""


@dataclass
class Match:
    """The targets of a merge, and everything that does not fit."""

    targets: list[Target] = field(default_factory=list)
    missing: dict[int, dict[str, None]] = field(default_factory=dict)
    """By model, the output tensors that it lacks, in order."""
    unexpected: dict[int, dict[str, None]] = field(default_factory=dict)
    """By model, the tensors that the leading one (the base, or the first if there is no base) lacks."""
    layers: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By the prefix of a stack whose layers were selected: for each layer the model and layer that stand first."""


Counted: TypeAlias = Callable[[Sequence[int]], int]
"""How many layers the output has, where the primary model and then the others have these numbers of them."""


def match(
    models: OpenedModels,
    slices: Sequence[Slice],
    selection: Selection | None = None,
    counted: Counted = itemgetter(0),
) -> Match:
    """Find the inputs of every output tensor; all of them are merged if there is no `selection`.

    counted: only asked where no model has a config, for else all have the same number.
    """
    found = Match()
    for scope in _scopes(models, slices):
        _Matcher(models, found, selection or Selection((), ()), scope, counted).match()
    return found


@dataclass(frozen=True)
class _Scope:
    """The slices of a module, or of the whole model."""

    slices: tuple[Slice, ...]
    module: str | None = None
    merged: bool = True
    """Whether the config names it; else it is copied from the primary model."""


def _scopes(models: OpenedModels, slices: Sequence[Slice]) -> Iterator[_Scope]:
    if slices[0].module is None:
        yield _Scope(tuple(slices))
        return
    description = models.descriptions[models.primary]
    for name in [one.name for one in description.modules] or ["default"]:
        own = tuple(one for one in slices if one.module == name)
        copy = Slice((SliceInput(models.primary, None, ParameterSource({})),), None, (), module=name)
        yield _Scope(own or (copy,), name if description.modules else None, bool(own))


def dropped(models: OpenedModels, slices: Sequence[Slice], used: Iterable[tuple[int, str]]) -> list[Dropped]:
    """What no output takes, with the reason."""
    taken = set(used)
    names_taken = {name for _, name in taken}
    giving = {model for model, _ in taken}
    merged = {part.model for one in slices for part in one.everyone}
    if slices[0].module is not None:
        merged.add(models.primary)  # it gives the modules that are not named
    leftover: dict[tuple[int, str], list[str]] = {}
    for model, checkpoint in enumerate(models.checkpoints):
        stored = {one.name: name for name, tensor in checkpoint.tensors.items() for one in tensor.stored}
        for own, name in stored.items():
            if (model, own) not in taken:
                reason = "the model gives config and side files only"
                if model not in merged and model in giving:
                    reason = "the model gives the embeddings of single tokens only"
                if model in merged:
                    reason = _reason(models, slices, model, name, name in names_taken)
                leftover.setdefault((model, reason), []).append(own)
    return [Dropped(model, tuple(names), reason) for (model, reason), names in leftover.items()]


def _reason(models: OpenedModels, slices: Sequence[Slice], model: int, name: str, given: bool) -> str:
    """Why a tensor of a merged model reaches no output; `given`: that of another model does."""
    description = models.descriptions[model]
    facts = description.tensors.get(name, TensorFacts())
    modules = {module.name for one in slices if one.module and (module := description.module(one.module))}
    sliced = any(one.everyone[0].layers is not None for one in slices)
    stacks = [module.stack for module in description.modules if module.name in modules] or [description.main]
    if facts.module and modules and facts.module not in modules:
        return "its module is not merged"
    if sliced and facts.stack in [stack.prefix for stack in stacks if stack]:
        return "no slice takes this layer"
    if sliced:
        return f"tensors outside the layers come from the {'last' if facts.after else 'first'} slice"
    if given and is_buffer(models.checkpoints[model].tensors[name]):
        return "it is not a weight, and that of another model is copied"
    if not given and models.find(models.primary, name) is not None:
        return NOT_EVERYWHERE
    return "another model gives it" if given else LACKED


def is_buffer(tensor: TensorInfo) -> bool:
    """Whether a tensor is known as one that loaders make themselves: by its name, its shape and its format.

    Whether such tensors are stored depends on the release that wrote a checkpoint; they are no weights.
    """
    if tensor.name.endswith(".weight"):
        return False  # nearly all of them, and none of the patterns
    if _MASKS.fullmatch(tensor.name):
        return len(tensor.shape) == 4 and tensor.shape[:2] == (1, 1) and tensor.shape[2] == tensor.shape[3]
    if not _BUFFERS.fullmatch(tensor.name):
        return False
    if tensor.name.endswith(_INTEGERS):
        return tensor.dtype in ("I64", "I32", "I16", "U8", "I8") or len(tensor.shape) < 3
    return True


_BUFFERS = re.compile(
    r"(.*\.)?(position_ids|token_type_ids|num_batches_tracked|(\w+_)?inv_freq|masked_bias|_float_tensor"
    r"|(cos|sin)_cached|(cos|sin)_cache|relative_position_index|relative_coords_table|causal_mask|attn_mask)"
)
_MASKS = re.compile(r"(.*\.)?(attn|attention|self_attn|self_attention)\.(bias|mask)")
_INTEGERS = ("position_ids", "token_type_ids", "num_batches_tracked", "relative_position_index")


class _Matcher:
    def __init__(
        self, models: OpenedModels, found: Match, selection: Selection, scope: _Scope, counted: Counted
    ) -> None:
        self.models = models
        self.counted = counted
        self.found = found
        self.selection = selection
        self.scope = scope
        self.layers = [_layers(description) for description in models.descriptions]
        self.chosen: list[tuple[int, int]] = []

    def match(self) -> None:
        """Find the tensors of all slices."""
        if self.scope.slices[0].everyone[0].layers is None:
            self._whole(self.scope.slices[0])
        else:
            self._stacked(self.scope.slices)

    def _whole(self, one: Slice) -> None:
        """Every tensor of every model, layers in order."""
        names = self._names(one, lambda facts: True)
        for name, facts in sorted(names.items(), key=lambda item: self._order(item[1])):
            count = self._count(facts, one)
            inside = facts.layer is not None and facts.layer < count
            depth = Depth(facts.layer, count) if inside and facts.layer is not None else None
            self._add(name, facts, one, depth, [name] * len(one.everyone))

    def _stacked(self, slices: Sequence[Slice]) -> None:
        """The tensors before the layers, the chosen layers one upon another, the tensors after them."""
        last = self._outside(slices[-1], after=True)
        first = self._outside(slices[0], after=False)
        self._add_all({name: facts for name, facts in first.items() if name not in last}, slices[0])
        out = self._stack(self.models.primary).prefix
        self.found.layers[out] = self.chosen
        for one in slices:
            lead = one.everyone[0]
            assert lead.layers is not None
            for k in range(len(lead.layers)):
                layers = [part.layers[k] for part in one.everyone if part.layers is not None]
                self._layer(one, layers, f"{out}{len(self.chosen)}.", Depth(k, len(lead.layers)))
                self.chosen.append((lead.model, lead.layers[k]))
        self._ahead(slices[-1], out)
        self._add_all(last, slices[-1])

    def _outside(self, one: Slice, after: bool) -> dict[str, TensorFacts]:
        """The tensors before the layers, or those `after` them; a slice may have one under the name of another."""
        stacks = {self._stack(part.model).prefix for part in one.everyone}
        names = self._names(one, lambda facts: facts.stack not in stacks and self._is_after(facts) == after)
        return names | {
            name: facts for name, facts in self._stood_for(one, after).items() if name not in names
        }

    def _add_all(self, names: Mapping[str, TensorFacts], one: Slice) -> None:
        for name, facts in names.items():
            self._add(name, facts, one, None, [name] * len(one.everyone))

    def _is_after(self, facts: TensorFacts) -> bool:
        """Whether a tensor comes after the layers that are selected: those that make text, or those of the module."""
        return facts.after or (facts.ends_module and self.scope.module is not None)

    def _stood_for(self, one: Slice, after: bool) -> dict[str, TensorFacts]:
        """What some model has as a tensor of its own, such as a head, and all models of the slice another one for."""
        models = [
            self.models.primary,
            *(part.model for other in self.scope.slices for part in other.everyone),
        ]
        return {
            name: facts
            for model in dict.fromkeys(models)
            for name, facts in self.models.descriptions[model].tensors.items()
            if facts.layer is None
            and self._is_after(facts) == after
            and self._is_inside(model, name, facts)
            and all(self.models.find(part.model, name) for part in one.everyone)
        }

    def _ahead(self, one: Slice, out: str) -> None:
        """The layers after the others, which predict tokens further ahead: they stay after them."""
        stacks = [self._stack(part.model) for part in one.everyone]
        further = 0
        while any(
            (stack.prefix, stack.count + further) in self.layers[part.model]
            for part, stack in zip(one.everyone, stacks, strict=True)
        ):
            layers = [stack.count + further for stack in stacks]
            self._layer(one, layers, f"{out}{len(self.chosen) + further}.", None)
            further += 1

    def _layer(self, one: Slice, layers: Sequence[int], prefix: str, depth: Depth | None) -> None:
        """One layer of each part: tensors are matched by their names within the layer."""
        starts: list[str] = []
        suffixes: dict[str, TensorFacts] = {}
        for part, layer in zip(one.everyone, layers, strict=True):
            stack = self._stack(part.model).prefix
            starts.append(f"{stack}{layer}.")
            for facts in self.layers[part.model].get((stack, layer), ()):
                suffixes.setdefault(facts.suffix, facts)
        for suffix, facts in suffixes.items():
            self._add(prefix + suffix, facts, one, depth, [start + suffix for start in starts])

    def _add(
        self, name: str, facts: TensorFacts, one: Slice, depth: Depth | None, names: Sequence[str]
    ) -> None:
        everyone = one.everyone
        tensors = [self.models.find(part.model, wanted) for part, wanted in zip(everyone, names, strict=True)]
        selected = self.scope.merged and self.selection.takes(name, facts.role)
        if selected:
            self._note_what_is_odd(name, one, tensors)
        base = tensors.pop(0) if one.base else None
        self.found.targets.append(Target(name, facts, one, depth, tuple(tensors), base, selected))

    def _note_what_is_odd(self, name: str, one: Slice, tensors: Sequence[TensorInfo | None]) -> None:
        """Note who lacks a tensor, or who has it while the leading one lacks it."""
        if module_folder(name) or all(tensor is None or is_buffer(tensor) for tensor in tensors):
            return
        everyone = one.everyone
        lead = next((i for i, part in enumerate(everyone) if part.model == self.models.primary), 0)
        for part, tensor in zip(everyone, tensors, strict=True):
            if tensors[lead] is None and tensor is not None:
                self.found.unexpected.setdefault(part.model, {})[tensor.name] = None
            if tensors[lead] is not None and tensor is None and part.model not in self.models.parts:
                self.found.missing.setdefault(part.model, {})[name] = None

    def _names(self, one: Slice, wanted: Callable[[TensorFacts], bool]) -> dict[str, TensorFacts]:
        """The names of all parts that are `wanted`, the primary model's first."""
        parts = sorted(one.everyone, key=lambda part: part.model != self.models.primary)
        names: dict[str, TensorFacts] = {}
        for part in parts:
            for name, facts in self.models.descriptions[part.model].tensors.items():
                if wanted(facts) and self._is_inside(part.model, name, facts):
                    names.setdefault(name, facts)
        return names

    def _is_inside(self, model: int, name: str, facts: TensorFacts) -> bool:
        """Whether a tensor belongs to the module, judged by the primary's description or, failing that, its own."""
        if self.scope.module is None:
            return True
        known = self.models.descriptions[self.models.primary].tensors.get(name)
        if known is not None:
            return known.module == self.scope.module
        module = self.models.descriptions[model].module(self.scope.module)
        return module is not None and facts.module == module.name

    def _order(self, facts: TensorFacts) -> tuple[int, str, int]:
        if facts.layer is None:
            return (2 if facts.after else 0, "", 0)
        return (1, facts.stack or "", facts.layer)

    def _count(self, facts: TensorFacts, one: Slice) -> int:
        """How many layers of the stack of a tensor there are."""
        models = [self.models.primary]
        if not any(self.models.checkpoints[part.model].config for part in one.everyone):
            models += [part.model for part in one.everyone]
        stacks = [stack for model in models for stack in self.models.descriptions[model].stacks]
        counts = [stack.count for stack in stacks if stack.prefix == facts.stack]
        return self.counted(counts) if counts else 1

    def _stack(self, model: int) -> Stack:
        """The layers of the module, or those that make text."""
        description = self.models.descriptions[model]
        module = description.module(self.scope.module) if self.scope.module else None
        stack = module.stack if module else description.main
        assert stack is not None
        return stack


def _layers(description: Description) -> dict[tuple[str, int], list[TensorFacts]]:
    """The tensors of each layer of each stack."""
    layers: dict[tuple[str, int], list[TensorFacts]] = {}
    for facts in description.tensors.values():
        if facts.stack is not None and facts.layer is not None:
            layers.setdefault((facts.stack, facts.layer), []).append(facts)
    return layers
