"""Makes the steps of a plan, one for each output tensor; errors of all steps are reported together.

Read `Compiler.steps`, then `Compiler._step`: whether a tensor is copied or merged, and from what.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mergecore.config.grammar import MergeConfig
from mergecore.config.parameters.resolver import ModelEntry, Resolver, TensorPosition
from mergecore.errors import Collector, InputError, MergecoreError, of_tensor, placed, some
from mergecore.files.dtypes import DTYPES, MERGEABLE
from mergecore.files.yaml_document import PlaceOf
from mergecore.models.module_folders import module_folder
from mergecore.models.opener import Opener
from mergecore.planning.meaning.row_meaning import RowMeanings
from mergecore.planning.opened import OpenedModels
from mergecore.planning.tensors.formats import Formats
from mergecore.planning.tensors.matching import LACKED, Match, Slice, SliceInput, Target, is_buffer
from mergecore.planning.vocabulary.embedding_rows import Aligner, OutputTokens
from mergecore.planning.vocabulary.output import output_vocabulary
from mergecore.plugins.registry import Registry
from mergecore.types import MergeMethod, MovedRows, OutputTensor, Step, TensorInfo, TensorInput
from mergecore.types import Vocabulary as VocabularyOfOutput
from mergecore.types.params import Params
from mergecore.types.plans import PlanOptions

BUFFER = "not a weight: loaders make it themselves"
NOT_ALL = "not all models have this module"
ONLY_BASE = "no model beside the base has it"
_INSTEAD = {
    "base": "the base's is taken",
    "skip": "the others are merged",
    "copy": "taken over",
    "drop": "left out",
    "merge": "merged from the models that have it",
}
"""What the options --missing and --unexpected do."""


class Compiler:
    """Makes a step of each target, and gathers what is wrong on the way."""

    def __init__(
        self,
        config: MergeConfig,
        method: MergeMethod[Any],
        models: OpenedModels,
        options: PlanOptions,
        place_of: PlaceOf,
        registry: Registry,
        formats: Formats,
    ) -> None:
        self.config = config
        self.method = method
        self.models = models
        self.options = options
        self.place_of = place_of
        self.formats = formats
        self.notes: list[str] = []
        self.registry = registry
        self.problems = Collector()
        self.resolver: Resolver[Params] = Resolver(method.params, method.name, place_of)
        self.aligner: Aligner | None = None
        self.meanings = RowMeanings(models, options.allow_crimes)
        # by identity, which tensors of equal parameters share, and the number of models
        self._sound: dict[tuple[int, int], Params] = {}
        self._names = [checkpoint.name for checkpoint in models.checkpoints]

    def vocabulary(self, opener: Opener) -> tuple[str, OutputTokens]:
        """The tokenizer strategy and what it decides; nothing yet when it finds something wrong."""
        with self.problems.collecting():
            name, common = output_vocabulary(self.config, self.models, opener)
            self.aligner = Aligner(common, self.models.find, self._name)
            return name, common
        return "", OutputTokens(VocabularyOfOutput({}))

    def steps(self, found: Match) -> list[Step]:
        """The steps, in the order of the targets.

        Raises:
            MergecoreError: E230 to E233 and whatever the parameters cause, all together.
        """
        self._tell_missing(found)
        self._tell_unexpected(found)
        steps = []
        for target in found.targets:
            with self.problems.collecting():
                steps.append(self._step(target))
        if self.aligner:
            with self.problems.collecting():
                self.aligner.check_used()
        self._tell_lone_base([step for step in steps if step and step.note == ONLY_BASE])
        self._check_all([step for step in steps if step and step.method])
        self.problems.errors = _shortened(self.problems.errors)
        self.problems.raise_any()
        return [step for step in steps if step is not None]

    def _check_all(self, steps: Sequence[Step]) -> None:
        if self.method.check_plan:
            names = [checkpoint.name for checkpoint in self.models.checkpoints]
            with self.problems.collecting(), self.registry.calling(MergeMethod, self.method.name):
                self.method.check_plan(steps, names)

    def warnings(self, steps: Sequence[Step]) -> list[str]:
        """What was found that does not stop the merge."""
        aligned = self.aligner.warnings() if self.aligner else ()
        return [
            *self.notes,
            *aligned,
            *self.formats.notes(steps),
            *self.meanings.warnings(),
            *self.resolver.idle_filters(),
        ]

    def _step(self, target: Target) -> Step | None:
        found = [
            (part, TensorInput(part.model, tensor) if tensor else None)
            for part, tensor in zip(target.slice.everyone, self._row(target), strict=True)
        ]
        present = [(part, one) for part, one in found if one is not None]
        leader = self._lead(target.slice)
        lead = next((one for part, one in found if part.model == leader), None)
        if note := self._not_merged(target, found):
            chosen = lead or (present[0][1] if note == BUFFER else None)
            return self._copy(target, [chosen], note, as_stored=note == BUFFER) if chosen else None
        if lead is None:
            return self._lacked(target, present)
        if reason := self._carried(target, found):
            inputs = self._aligned(target, [pair for pair in present if pair[1] is lead])
            return self._copy(target, inputs, reason, as_stored=True)
        lacking = any(one is None and part.model not in self.models.parts for part, one in found)
        if lacking and self.options.missing in ("error", "drop"):
            return None  # who lacks it is told, once for all tensors
        if self.options.missing == "base":
            present = [
                (part, one or lead) for part, one in found if one or part.model not in self.models.parts
            ]
        return self._made(target, present, lead)

    def _lacked(self, target: Target, present: list[tuple[SliceInput, TensorInput]]) -> Step | None:
        """The step of a tensor that the leading model lacks."""
        if self.options.unexpected == "drop" or not target.selected:
            return None
        if self.options.unexpected == "merge":
            return self._made(target, present, present[0][1])
        return self._copy(target, self._aligned(target, [present[0]]), LACKED)

    def _made(
        self, target: Target, present: Sequence[tuple[SliceInput, TensorInput]], lead: TensorInput
    ) -> Step | None:
        """The step that merges what is there, or copies what has no numbers to merge."""
        inputs = self._aligned(target, present)
        present = [(part, one) for (part, _), one in zip(present, inputs, strict=True)]
        if not DTYPES[lead.tensor.dtype].floating or lead.tensor.count == 0:
            if not all(DTYPES[one.tensor.dtype].floating for one in inputs):
                self._check_formats(target.name, inputs)
            return self._copy(target, inputs, "no numbers to merge; equal in all models")
        for one in inputs:
            self._check_mergeable(one)
        return self._merge(target, present)

    def _not_merged(self, target: Target, found: Sequence[tuple[SliceInput, TensorInput | None]]) -> str:
        """Why a tensor is not a weight to merge, or cannot be; or nothing."""
        if target.selected and all(is_buffer(one.tensor) for _, one in found if one):
            return BUFFER
        lacking = module_folder(target.name) and any(one is None for _, one in found)
        return NOT_ALL if lacking else ""

    def _carried(self, target: Target, found: Sequence[tuple[SliceInput, TensorInput | None]]) -> str:
        """Why the leading tensor is copied as it is stored, or nothing."""
        if not target.selected:
            return "not selected"
        absent = {part.model for part, one in found if one is None}
        if absent and len(absent) == len(found) - 1 and absent <= self.models.parts:
            return "no other model has this part"
        return ""

    def _aligned(
        self, target: Target, present: Sequence[tuple[SliceInput, TensorInput]]
    ) -> list[TensorInput]:
        """The inputs of an output tensor, all of one shape: with the rows that the vocabulary wants."""
        inputs, axis = [one for _, one in present], target.facts.vocabulary_axis
        if axis is not None and self.aligner is None:
            return inputs  # what is wrong with the vocabularies is told; the shapes would be told twice
        if axis is not None and self.aligner is not None:
            models = [part.model for part, _ in present]
            base = models.index(target.slice.base_model) if target.slice.base_model in models else None
            leader = self._lead(target.slice)
            lead = models.index(leader) if leader in models else 0
            inputs = self.aligner.align(target.name, inputs, axis, lead, base)
        if axis is None:
            inputs = self.meanings.align(target.name, inputs)
        self._check_shapes(target.name, inputs)
        return inputs

    def _merge(self, target: Target, present: list[tuple[SliceInput, TensorInput]]) -> Step:
        if target.slice.base and present[0][0] is not target.slice.base:
            what = f"'{target.name}': {self._name(target.slice.base.model)} is the base here, and lacks it"
            first = target.slice.base.model == self._lead(target.slice)
            hint = "use --unexpected copy" if first else "use --missing base"
            raise InputError("E231", what, tensor=target.name, hint=hint)
        base = present.pop(0)[1] if target.slice.base else None
        if base and not present and self.method.base_alone:
            return self._copy(target, [base], ONLY_BASE)
        least = self.method.models[0] + (1 if self.method.base == "required" and base is None else 0)
        if len(present) < least:
            what = f"'{target.name}': {self.method.name} needs {least} tensors, and only {len(present)} are there"
            raise InputError("E231", what, tensor=target.name, hint="use --missing base")
        inputs = tuple(one for _, one in present)
        dtype = self.formats.of(target.name, target.facts.role, [*inputs, *([base] if base else [])])
        return Step(
            outputs=(OutputTensor(target.name, dtype, inputs[0].shape),),
            inputs=inputs,
            method=self.method.name,
            params=self._params(target, present),
            base=base,
            depth=target.depth,
            role=target.facts.role,
        )

    def _params(self, target: Target, present: Sequence[tuple[SliceInput, TensorInput]]) -> Params:
        position = TensorPosition(target.name, target.depth.t if target.depth else 0.0, target.facts.role)
        rows = [
            ModelEntry(self._name(part.model), one.tensor.name, (part.parameters,), part.path)
            for part, one in present
        ]
        params = self.resolver.resolve(position, rows, target.slice.levels)
        if self.method.check_params and (id(params), len(rows)) not in self._sound:
            place = self.place_of((*present[0][0].parameters.path,))
            calling = self.registry.calling(MergeMethod, self.method.name)
            with of_tensor(target.name), placed(place), calling:
                self.method.check_params(params, len(rows))
            self._sound[id(params), len(rows)] = params
        return params

    def _copy(
        self, target: Target, inputs: Sequence[TensorInput], note: str, as_stored: bool = False
    ) -> Step:
        dtype = inputs[0].tensor.dtype
        moved = any(isinstance(one.tensor.data, MovedRows) for one in inputs)
        floating = DTYPES[dtype].floating
        if floating and (moved or not as_stored):
            dtype = self.formats.of(target.name, target.facts.role, inputs)
        if moved and not floating:
            what = f"'{target.name}' is {dtype}, and its rows, one for each token, would have to be moved"
            raise InputError("E233", what, tensor=target.name, hint="leave out 'tokenizer'")
        made = OutputTensor(target.name, dtype, inputs[0].shape)
        return Step((made,), tuple(inputs), role=target.facts.role, note=note)

    def _row(self, target: Target) -> list[TensorInfo | None]:
        return [target.base, *target.inputs] if target.slice.base else list(target.inputs)

    def _lead(self, one: Slice) -> int:
        models = [part.model for part in one.everyone]
        return self.models.primary if self.models.primary in models else models[0]

    def _check_shapes(self, name: str, inputs: Sequence[TensorInput]) -> None:
        if len({one.shape for one in inputs}) == 1:
            return
        told = ", ".join(f"{self._name(one.model)} {list(one.shape)}" for one in inputs)
        facts = self.models.descriptions[self.models.primary].tensors.get(name)
        axis = None if facts is None else facts.vocabulary_axis
        vocabulary = (
            axis is not None and len({(*one.shape[:axis], *one.shape[axis + 1 :]) for one in inputs}) == 1
        )
        raise InputError(
            "E230",
            f"shapes differ for '{name}': {told}",
            tensor=name,
            hint="the vocabularies differ: choose 'tokenizer: {source: base}', union or a model"
            if vocabulary
            else "merge models of one size, or leave out the one that differs",
        )

    def _check_formats(self, name: str, inputs: Sequence[TensorInput]) -> None:
        formats = {self._name(one.model): one.tensor.dtype for one in inputs}
        if len(set(formats.values())) > 1:
            told = ", ".join(f"{model} {dtype}" for model, dtype in formats.items())
            what = f"'{name}' holds no numbers to merge, and its formats differ: {told}"
            raise InputError("E233", what, tensor=name, hint="make it equal in all models, or leave one out")

    def _check_mergeable(self, one: TensorInput) -> None:
        if one.tensor.dtype not in MERGEABLE:
            what = f"{self._name(one.model)}: tensor '{one.tensor.name}' is {one.tensor.dtype}, which cannot be merged"
            hint = f"convert it to one of {', '.join(MERGEABLE)}"
            raise InputError("E233", what, tensor=one.tensor.name, hint=hint)

    def _tell_lone_base(self, steps: Sequence[Step]) -> None:
        if steps:
            which = some([step.name for step in steps], 3)
            self.notes.append(
                f"{self.method.name} has only the base for {_tensors(steps)}, and copies it: {which}"
            )

    def _tell_missing(self, found: Match) -> None:
        for model, names in _listed(found.missing):
            if self.options.missing != "error":
                self.notes.append(
                    f"{_tensors(names)} missing in {self._name(model)}, {_INSTEAD[self.options.missing]}: "
                    f"{some(names, 3)}"
                )
                continue
            self.problems.add(
                InputError(
                    "E231",
                    f"{_tensors(names)} missing in {self._name(model)}: {some(names, 3)}",
                    tensor=names[0],
                    hint="is it a fine-tune of the same model? --missing base takes the base's tensor, "
                    "--missing skip merges the others, --missing drop leaves it out",
                )
            )

    def _tell_unexpected(self, found: Match) -> None:
        for model, names in _listed(found.unexpected):
            if self.options.unexpected != "error":
                self.notes.append(
                    f"{_tensors(names)} only in {self._name(model)}, {_INSTEAD[self.options.unexpected]}: "
                    f"{some(names, 3)}"
                )
                continue
            self.problems.add(
                InputError(
                    "E232",
                    f"{_tensors(names)} unexpected in {self._name(model)}: {some(names, 3)}",
                    tensor=names[0],
                    hint=f"{LACKED}; --unexpected copy takes it over, --unexpected drop leaves it out, "
                    "--unexpected merge merges the models that have it",
                )
            )

    def _name(self, model: int) -> str:
        return self._names[model]


def _listed(by_model: Mapping[int, Mapping[str, None]]) -> list[tuple[int, list[str]]]:
    return [(model, list(names)) for model, names in by_model.items()]


def _shortened(errors: Sequence[MergecoreError]) -> list[MergecoreError]:
    """The errors with those of one cause taken together: the first, and how many more tensors it concerns."""
    groups: dict[object, list[MergecoreError]] = {}
    for error in errors:
        groups.setdefault(_cause(error), []).append(error)
    for first, *others in groups.values():
        if others:
            names = [error.tensor or "" for error in others]
            more = f"{len(names)} more {'tensor' if len(names) == 1 else 'tensors'}: {some(names, 3)}"
            # a place means a setting, whose errors are told once for each value
            first.what += f"; so it is for {f'others, such as {names[0]}' if first.place else more}"
    return [group[0] for group in groups.values()]


def _cause(error: MergecoreError) -> object:
    """What errors have in common that are about different tensors only."""
    if error.tensor is None:
        return error
    if error.code == "E230":
        return (error.code, error.hint)
    what = error.what.replace(f"'{error.tensor}'", "")
    return (error.code, str(error.place), _NUMBER.sub("", what) if error.place else what)


_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


def _tensors(names: Sequence[object]) -> str:
    return "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
