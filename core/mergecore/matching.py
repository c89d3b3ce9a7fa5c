"""Which input tensors make which output tensor, by name; and that none is lost on the way.

`match` turns slices into targets: each names an output tensor and, for every part of its slice, the tensor it
takes.  What a part lacks, and what no target takes, is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mergecore.resolve import ParameterSource
from mergecore.selectors import Selection
from mergecore.types import Checkpoint, Depth, Description, Dropped, TensorFacts, TensorInfo
from mergecore.yaml_document import DocPath

LACKED = "the base, or else the first model, lacks it"


@dataclass(frozen=True)
class Part:
    """One model in a slice: which of its layers (None: all), and the parameters written for it."""

    model: int
    layers: range | None
    parameters: ParameterSource
    path: DocPath = ()
    """Where the config names it."""


@dataclass(frozen=True)
class Slice:
    """Layers that are merged from several models; the base only where the method works on differences to it."""

    parts: tuple[Part, ...]
    base: Part | None
    levels: tuple[ParameterSource, ...]
    """Parameters for all parts, the closest first."""
    base_model: int | None = None
    """The base that the config names, whether or not differences to it are merged."""

    @property
    def everyone(self) -> tuple[Part, ...]:
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
    """By model, the tensors that the leading one (the base, or else the first) lacks."""
    layers: list[tuple[int, int]] = field(default_factory=list)
    """For each output layer the model and layer that stand first; empty when no layers were selected."""


@dataclass(frozen=True)
class Models:
    """The opened models with their descriptions, and which of them names the output."""

    checkpoints: tuple[Checkpoint, ...]
    descriptions: tuple[Description, ...]
    donor: int
    parts: frozenset[int] = frozenset()
    """Models that are a part of the others, so that they lack what is not in it."""

    def find(self, model: int, name: str) -> TensorInfo | None:
        """The tensor of that name, or the one that is tied to it."""
        tensors = self.checkpoints[model].tensors
        return tensors.get(name) or tensors.get(self.descriptions[model].tied.get(name, ""))


def match(models: Models, slices: Sequence[Slice], selection: Selection | None = None) -> Match:
    """Find the inputs of every output tensor; all of them are merged if there is no `selection`."""
    found = Match()
    matcher = _Matcher(models, found, selection or Selection((), ()))
    if slices[0].parts[0].layers is None:
        matcher.whole(slices[0])
    else:
        matcher.stacked(slices)
    return found


def dropped(models: Models, slices: Sequence[Slice], used: Iterable[tuple[int, str]]) -> list[Dropped]:
    """What no output takes, with the reason."""
    taken = set(used)
    names_taken = {name for _, name in taken}
    giving = {model for model, _ in taken}
    merged = {part.model for one in slices for part in one.everyone}
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


def _reason(models: Models, slices: Sequence[Slice], model: int, name: str, given: bool) -> str:
    """Why a tensor of a merged model reaches no output; `given`: that of another model does."""
    facts = models.descriptions[model].tensors.get(name, TensorFacts())
    sliced = slices[0].parts[0].layers is not None
    main = models.descriptions[model].main
    if sliced and main and facts.stack == main.prefix:
        return "no slice takes this layer"
    if sliced:
        return f"tensors outside the layers come from the {'last' if facts.after else 'first'} slice"
    return "another model gives it" if given else LACKED


class _Matcher:
    def __init__(self, models: Models, found: Match, selection: Selection) -> None:
        self.models = models
        self.found = found
        self.selection = selection
        self.layers = [_layers(description) for description in models.descriptions]

    def whole(self, one: Slice) -> None:
        """Every tensor of every model, layers in order."""
        names = self._names(one, lambda facts: True)
        for name, facts in sorted(names.items(), key=lambda item: self._order(item[1])):
            depth = Depth(facts.layer, self._count(facts)) if facts.layer is not None else None
            self._add(name, facts, one, depth, [name] * len(one.everyone))

    def stacked(self, slices: Sequence[Slice]) -> None:
        """The tensors before the layers, the chosen layers one upon another, the tensors after them."""
        self._outside(slices[0], after=False)
        out = self._main(self.models.donor)
        for one in slices:
            lead = one.parts[0]
            assert lead.layers is not None
            for k in range(len(lead.layers)):
                self._layer(one, k, f"{out}{len(self.found.layers)}.", Depth(k, len(lead.layers)))
                self.found.layers.append((lead.model, lead.layers[k]))
        self._outside(slices[-1], after=True)

    def _outside(self, one: Slice, after: bool) -> None:
        mains = {self._main(part.model) for part in one.everyone}
        names = self._names(one, lambda facts: facts.stack not in mains and facts.after == after)
        for name, facts in names.items():
            self._add(name, facts, one, None, [name] * len(one.everyone))

    def _layer(self, one: Slice, k: int, prefix: str, depth: Depth) -> None:
        """Layer `k` of a slice: tensors are matched by their names within the layer."""
        starts: list[str] = []
        suffixes: dict[str, TensorFacts] = {}
        for part in one.everyone:
            assert part.layers is not None
            main, layer = self._main(part.model), part.layers[k]
            starts.append(f"{main}{layer}.")
            for facts in self.layers[part.model].get((main, layer), ()):
                suffixes.setdefault(facts.suffix, facts)
        for suffix, facts in suffixes.items():
            self._add(prefix + suffix, facts, one, depth, [start + suffix for start in starts])

    def _add(
        self, name: str, facts: TensorFacts, one: Slice, depth: Depth | None, names: Sequence[str]
    ) -> None:
        everyone = one.everyone
        tensors = [self.models.find(part.model, wanted) for part, wanted in zip(everyone, names, strict=True)]
        selected = self.selection.takes(name, facts.role)
        if selected:
            self._note_what_is_odd(name, one, tensors)
        base = tensors.pop(0) if one.base else None
        self.found.targets.append(Target(name, facts, one, depth, tuple(tensors), base, selected))

    def _note_what_is_odd(self, name: str, one: Slice, tensors: Sequence[TensorInfo | None]) -> None:
        """Note who lacks a tensor, or who has it while the leading one lacks it."""
        everyone = one.everyone
        lead = next((i for i, part in enumerate(everyone) if part.model == self.models.donor), 0)
        for part, tensor in zip(everyone, tensors, strict=True):
            if tensors[lead] is None and tensor is not None:
                self.found.unexpected.setdefault(part.model, {})[tensor.name] = None
            if tensors[lead] is not None and tensor is None and part.model not in self.models.parts:
                self.found.missing.setdefault(part.model, {})[name] = None

    def _names(self, one: Slice, wanted: Callable[[TensorFacts], bool]) -> dict[str, TensorFacts]:
        """The names of all parts that are `wanted`, the donor's first."""
        parts = sorted(one.everyone, key=lambda part: part.model != self.models.donor)
        names: dict[str, TensorFacts] = {}
        for part in parts:
            for name, facts in self.models.descriptions[part.model].tensors.items():
                if wanted(facts):
                    names.setdefault(name, facts)
        return names

    def _order(self, facts: TensorFacts) -> tuple[int, str, int]:
        if facts.layer is None:
            return (2 if facts.after else 0, "", 0)
        return (1, facts.stack or "", facts.layer)

    def _count(self, facts: TensorFacts) -> int:
        stacks = self.models.descriptions[self.models.donor].stacks
        return next((stack.count for stack in stacks if stack.prefix == facts.stack), 1)

    def _main(self, model: int) -> str:
        main = self.models.descriptions[model].main
        assert main is not None
        return main.prefix


def _layers(description: Description) -> dict[tuple[str, int], list[TensorFacts]]:
    """The tensors of each layer of each stack."""
    layers: dict[tuple[str, int], list[TensorFacts]] = {}
    for facts in description.tensors.values():
        if facts.stack is not None and facts.layer is not None:
            layers.setdefault((facts.stack, facts.layer), []).append(facts)
    return layers
