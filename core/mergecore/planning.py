"""Compiles a merge config to a plan, from headers alone; read `plan_merge`, which is the whole order of events.

Whatever is wrong is gathered as far as one can go on without it, and said together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mergecore.config import MergeConfig, read_config
from mergecore.dtypes import DTYPES, MERGEABLE, promoted
from mergecore.errors import Collector, InputError, PluginError
from mergecore.matching import LACKED, Match, Models, Part, Slice, Target, dropped, match
from mergecore.output_files import output_files
from mergecore.params import Params
from mergecore.plugins import Registry
from mergecore.resolve import ModelInput, Resolver, TensorPosition
from mergecore.settings import PlaceOf
from mergecore.slices import references, slices_of
from mergecore.types import (
    Architecture,
    Checkpoint,
    Description,
    Json,
    Layout,
    MergeMethod,
    ModelReference,
    ModelSource,
    OpenOptions,
    OutputTensor,
    OutputWriter,
    Plan,
    Step,
    TensorInfo,
    TensorInput,
    TokenizerRequest,
    TokenizerStrategy,
)
from mergecore.yaml_document import DocPath, Document


@dataclass(frozen=True)
class PlanOptions:
    """What the command line adds to a config."""

    offline: bool = False
    missing: Literal["error", "base", "skip"] = "error"
    unexpected: Literal["error", "copy", "drop"] = "error"
    allow_crimes: bool = False
    """Merge models of different architectures as long as the tensors fit."""
    seed: int | None = None
    shard_size: int | None = None


def plan_merge(document: Document, registry: Registry, options: PlanOptions | None = None) -> Plan:
    """The plan of a merge config.

    Raises:
        MergecoreError: anything that is wrong with the config or the models; several as `Problems`.
    """
    options = options or PlanOptions()
    config = read_config(document, lambda name: registry.get(MergeMethod, name).params)
    method: MergeMethod[Any] = registry.get(MergeMethod, config.merge_method)
    mentioned = references(config)
    checkpoints = _opened(mentioned, registry, OpenOptions(options.offline), document.place)
    descriptions = tuple(_described(checkpoint, registry) for checkpoint in checkpoints)
    models = Models(checkpoints, descriptions, donor=0)
    if not options.allow_crimes:
        _check_architectures(checkpoints)

    slices = slices_of(config, method, models, document.place)
    found = match(models, slices)
    compiler = _Compiler(config, method, models, options, document.place, registry)
    steps = compiler.steps(found)

    writer, layout = _layout(config, registry, options, steps)
    strategy, vocabulary = _vocabulary(config, models, registry)
    effective = _effective(document.data, options)
    files, more_warnings = output_files(config, models, found, steps, vocabulary.files, effective)
    used = {(one.model, one.tensor.name) for step in steps for one in _everything(step)}
    return Plan(
        models=checkpoints,
        donor=models.donor,
        steps=tuple(steps),
        layout=layout,
        side_files=files,
        seed=config.seed if options.seed is None else options.seed,
        executor="threads",
        document=effective,
        descriptions=descriptions,
        layers=tuple(found.layers),
        dropped=tuple(dropped(models, slices, used)),
        warnings=(*vocabulary.warnings, *more_warnings, *compiler.warnings()),
        plugins=_versions(
            registry, [(MergeMethod, method.name), (OutputWriter, writer), (TokenizerStrategy, strategy)]
        ),
        title=config.name or "",
    )


# ---- models ------------------------------------------------------------------------------------------------


def _opened(
    mentioned: Sequence[tuple[ModelReference, DocPath]],
    registry: Registry,
    options: OpenOptions,
    place_of: PlaceOf,
) -> tuple[Checkpoint, ...]:
    sources = sorted(registry.all(ModelSource), key=lambda source: (source.rank, source.name))
    problems = Collector()
    opened = []
    for reference, path in mentioned:
        with problems.collecting():
            checkpoint = _open(reference, registry, sources, options)
            if checkpoint is None:
                what = f"'{reference}': no installed plugin opens it; a folder or a hub id is expected"
                raise InputError("E701", what, place=place_of(path), hint=_unusable(registry))
            opened.append(checkpoint)
    problems.raise_any()
    return tuple(opened)


def _open(
    reference: ModelReference, registry: Registry, sources: Sequence[ModelSource], options: OpenOptions
) -> Checkpoint | None:
    """The model, opened by the first source that accepts it."""
    for source in sources:
        with registry.calling(ModelSource, source.name):
            if source.accepts(reference, options):
                return source.open(reference, options)
    return None


def _unusable(registry: Registry) -> str | None:
    """What the user may want to know when a plugin is wanted that is not there."""
    names = ", ".join(f"{plugin.name} ({plugin.status})" for plugin in registry.plugins() if plugin.reason)
    return f"these plugins cannot be used: {names}; see `mergecore plugins list`" if names else None


def _described(checkpoint: Checkpoint, registry: Registry) -> Description:
    for architecture in sorted(registry.all(Architecture), key=lambda one: (one.rank, one.name)):
        with registry.calling(Architecture, architecture.name):
            description = architecture.describe(checkpoint)
        if description is not None:
            return description
    raise PluginError("E605", "no installed plugin describes checkpoints", hint="enable the plugin 'names'")


def _check_architectures(checkpoints: Sequence[Checkpoint]) -> None:
    """Raise E222 when the configs are of different model families."""
    families = {one.name: _family(one) for one in checkpoints if _family(one)}
    if len(set(families.values())) > 1:
        told = ", ".join(f"{name} is {family}" for name, family in families.items())
        raise InputError(
            "E222",
            f"the models are of different architectures: {told}",
            hint="remove the odd one; --allow-crimes merges them as long as names and shapes agree",
        )


def _family(checkpoint: Checkpoint) -> str:
    return str(checkpoint.config.get("model_type") or "")


# ---- steps -------------------------------------------------------------------------------------------------


class _Compiler:
    """Makes a step of each target, and gathers what is wrong on the way."""

    def __init__(
        self,
        config: MergeConfig,
        method: MergeMethod[Any],
        models: Models,
        options: PlanOptions,
        place_of: PlaceOf,
        registry: Registry,
    ) -> None:
        self.config = config
        self.method = method
        self.models = models
        self.options = options
        self.registry = registry
        self.problems = Collector()
        self.resolver: Resolver[Params] = Resolver(method.params, method.name, place_of)

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
        self.problems.raise_any()
        return [step for step in steps if step is not None]

    def warnings(self) -> list[str]:
        """What was found that does not stop the merge."""
        return self.resolver.idle_filters()

    def _step(self, target: Target) -> Step | None:
        found = [
            (part, TensorInput(part.model, tensor) if tensor else None)
            for part, tensor in zip(target.slice.everyone, self._row(target), strict=True)
        ]
        present = [(part, one) for part, one in found if one is not None]
        lead = next((one for part, one in found if part.model == self._lead(target.slice)), None)
        if lead is None:
            if self.options.unexpected == "drop":
                return None
            return self._copy(target, [present[0][1]], LACKED)
        if self.options.missing == "base":
            present = [(part, one or lead) for part, one in found]
        inputs = [one for _, one in present]
        self._check_shapes(target.name, inputs)
        if not DTYPES[lead.tensor.dtype].floating or lead.tensor.count == 0:
            self._check_formats(target.name, inputs)
            return self._copy(target, inputs, "no numbers to merge; equal in all models")
        for one in inputs:
            self._check_mergeable(one)
        return self._merge(target, present)

    def _merge(self, target: Target, present: list[tuple[Part, TensorInput]]) -> Step:
        if target.slice.base and target.base is None and self.options.missing == "skip":
            what = f"'{target.name}': {self._name(target.slice.base.model)} is the base here, and lacks it"
            raise InputError("E231", what, tensor=target.name, hint="use --missing base")
        base = present.pop(0)[1] if target.slice.base else None
        least = self.method.models[0] + (1 if self.method.base == "required" and base is None else 0)
        if len(present) < least:
            what = f"'{target.name}': {self.method.name} needs {least} tensors, and only {len(present)} are there"
            raise InputError("E231", what, tensor=target.name, hint="use --missing base")
        inputs = tuple(one for _, one in present)
        everyone = [*inputs, *([base] if base else [])]
        stored = promoted([one.tensor.dtype for one in everyone])
        return Step(
            name=target.name,
            dtype=self.config.out_dtype or self.config.dtype or stored,
            shape=inputs[0].tensor.shape,
            inputs=inputs,
            method=self.method.name,
            params=self._params(target, present),
            base=base,
            depth=target.depth,
            role=target.facts.role,
        )

    def _params(self, target: Target, present: Sequence[tuple[Part, TensorInput]]) -> Params:
        position = TensorPosition(target.name, target.depth.t if target.depth else 0.0, target.facts.role)
        rows = [
            ModelInput(self._name(part.model), one.tensor.name, (part.parameters,), part.path)
            for part, one in present
        ]
        params = self.resolver.resolve(position, rows, target.slice.levels)
        if self.method.check:
            with self.registry.calling(MergeMethod, self.method.name):
                self.method.check(params, len(rows))
        return params

    def _copy(self, target: Target, inputs: Sequence[TensorInput], note: str) -> Step:
        tensor = inputs[0].tensor
        dtype = tensor.dtype
        if DTYPES[dtype].floating:
            dtype = self.config.out_dtype or self.config.dtype or dtype
        return Step(target.name, dtype, tensor.shape, tuple(inputs), role=target.facts.role, note=note)

    def _row(self, target: Target) -> list[TensorInfo | None]:
        return [target.base, *target.inputs] if target.slice.base else list(target.inputs)

    def _lead(self, one: Slice) -> int:
        models = [part.model for part in one.everyone]
        return self.models.donor if self.models.donor in models else models[0]

    def _check_shapes(self, name: str, inputs: Sequence[TensorInput]) -> None:
        if len({one.tensor.shape for one in inputs}) == 1:
            return
        told = ", ".join(f"{self._name(one.model)} {list(one.tensor.shape)}" for one in inputs)
        facts = self.models.descriptions[self.models.donor].tensors.get(name)
        vocabulary = facts is not None and facts.vocabulary_axis is not None
        raise InputError(
            "E230",
            f"shapes differ for '{name}': {told}",
            tensor=name,
            hint="the vocabularies differ: choose 'tokenizer: {source: base}', union or a model"
            if vocabulary
            else "merge models of one size, or leave the odd one out",
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

    def _tell_missing(self, found: Match) -> None:
        if self.options.missing != "error":
            return
        for model, names in found.missing.items():
            self.problems.add(
                InputError(
                    "E231",
                    f"{_tensors(names)} missing in {self._name(model)}: {_some(names)}",
                    tensor=names[0],
                    hint="is it a fine-tune of the same model? --missing base takes the base's tensor, "
                    "--missing skip merges the others",
                )
            )

    def _tell_unexpected(self, found: Match) -> None:
        if self.options.unexpected != "error":
            return
        for model, names in found.unexpected.items():
            self.problems.add(
                InputError(
                    "E232",
                    f"{_tensors(names)} unexpected in {self._name(model)}: {_some(names)}",
                    tensor=names[0],
                    hint=f"{LACKED}; --unexpected copy takes it over, --unexpected drop leaves it out",
                )
            )

    def _name(self, model: int) -> str:
        return self.models.checkpoints[model].name


def _tensors(names: Sequence[str]) -> str:
    return "1 tensor" if len(names) == 1 else f"{len(names)} tensors"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _everything(step: Step) -> list[TensorInput]:
    return [*step.inputs, *([step.base] if step.base else [])]


# ---- the other plugins -------------------------------------------------------------------------------------


def _layout(
    config: MergeConfig, registry: Registry, options: PlanOptions, steps: Sequence[Step]
) -> tuple[str, Layout]:
    """The name of the output writer, and how it lays the tensors out."""
    writer: OutputWriter[Any] = registry.get(OutputWriter, config.output.writer)
    size = options.shard_size or config.output.shard_size
    outputs = [OutputTensor(step.name, step.dtype, step.shape) for step in steps]
    with registry.calling(OutputWriter, writer.name):
        params = writer.params() if size is None else writer.params(shard_size=size)
        return writer.name, writer.layout(outputs, params)


def _vocabulary(config: MergeConfig, models: Models, registry: Registry) -> tuple[str, Any]:
    wanted = config.vocabulary
    name = "copy" if wanted is None else wanted.source if isinstance(wanted.source, str) else "model"
    strategy: TokenizerStrategy[Any] = registry.get(TokenizerStrategy, name)
    request = TokenizerRequest(models.checkpoints, models.donor, models.descriptions)
    with registry.calling(TokenizerStrategy, name):
        return name, strategy.build(request, strategy.params())


def _versions(registry: Registry, used: Sequence[tuple[type, str]]) -> dict[str, str]:
    providers = [registry.provider(kind, name) for kind, name in used]
    return {plugin.name: f"{plugin.distribution} {plugin.version}" for plugin in providers}


def _effective(data: Mapping[str, Json], options: PlanOptions) -> dict[str, Json]:
    """The config with what the command line changes of the result."""
    changes: dict[str, Json] = {}
    for key in ("missing", "unexpected"):
        value = getattr(options, key)
        if value != "error":
            changes[key] = value
    for key in ("seed", "shard_size"):
        value = getattr(options, key)
        if value is not None:
            changes[key] = value
    return {**data, **({"command_line": changes} if changes else {})}
