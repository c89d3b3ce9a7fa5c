"""Compiles a merge config to a plan, from headers alone; read `plan_merge`, which is the whole order of events.

Whatever is wrong is gathered as far as one can go on without it, and said together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from mergecore.config.chosen import WRITER, Choice, read_params
from mergecore.config.grammar import MergeConfig, parts, read_config
from mergecore.config.parameters import parameters_of
from mergecore.errors import Collector, ConfigError, InputError, MergecoreError
from mergecore.files.yaml_document import Document
from mergecore.models.opener import Opener, check_architectures
from mergecore.models.refine import said_in_vain
from mergecore.models.row_names import contradictions
from mergecore.planning.composition import check_composition
from mergecore.planning.formats import Formats
from mergecore.planning.matching import Models, Slice, dropped, match
from mergecore.planning.meaning.config_differences import differences, unconfigured
from mergecore.planning.selection import Selection
from mergecore.planning.side_files.packages import package_notes
from mergecore.planning.side_files.write import output_files
from mergecore.planning.slices import slices_of
from mergecore.planning.steps import Compiler
from mergecore.planning.toolkit import check_shard_size, lay_out, versions
from mergecore.planning.vocabulary import Opened, open_models, output_vocabulary
from mergecore.plugins.registry import Registry
from mergecore.types import (
    Checkpoint,
    Executor,
    Json,
    Layout,
    MergeMethod,
    OpenOptions,
    OutputWriter,
    Plan,
    Step,
    TensorInput,
    TokenizerStrategy,
)
from mergecore.types.params import Params
from mergecore.types.plans import PlanOptions


def plan_merge(document: Document, registry: Registry, options: PlanOptions | None = None) -> Plan:
    """The plan of a merge config.

    Raises:
        MergecoreError: anything that is wrong with the config or the models; several as `Problems`.
    """
    options = options or PlanOptions()
    opener = Opener(registry, OpenOptions(options.offline), document.place)
    doubts: list[ConfigError] = []
    config = _config(document, registry, opener, options, doubts)
    method: MergeMethod[Any] = registry.get(MergeMethod, config.merge_method)
    opener = replace(opener, architectures=config.architecture)
    opened = open_models(config, opener)
    models = Models(opened.checkpoints, opened.descriptions, donor=0, parts=opened.parts)
    slices = _slices(config, method, models, opened, opener, options)
    selection = Selection(config.include, config.exclude)
    found = match(models, slices, selection)
    selection.check(document.place)
    formats = Formats(config, models, opener.keeps_f32)
    compiler = Compiler(config, method, models, options, document.place, registry, formats)
    strategy, vocabulary = compiler.vocabulary(opened, opener)
    steps = compiler.steps(found)

    writer, layout = _layout(config, registry, options, steps, models.checkpoints[models.donor])
    effective = _effective(document.data, config, options)
    title, fit, strict = config.name or "", opener.fit, options.complete
    files, more_warnings = output_files(
        title, config.merge_method, models, found, steps, vocabulary, effective, fit, strict
    )
    used = {read for step in steps for one in _everything(step) for read in one.reads}
    plugins = [(MergeMethod, method.name), (OutputWriter, writer), (TokenizerStrategy, strategy)]
    return Plan(
        models=opened.checkpoints,
        donor=models.donor,
        steps=tuple(steps),
        layout=layout,
        side_files=files,
        seed=config.seed if options.seed is None else options.seed,
        executor=config.executor.name,
        executor_params=_executor(config, registry),
        document=effective,
        descriptions=opened.descriptions,
        layers={prefix: tuple(layers) for prefix, layers in found.layers.items()},
        dropped=tuple(dropped(models, slices, used)),
        warnings=(
            *map(str, doubts),
            *vocabulary.vocabulary.warnings,
            *more_warnings,
            *compiler.warnings(steps),
            *_doubts(config, opened, models.donor, opener, bool(found.layers)),
        ),
        plugins=versions(registry, plugins),
        title=title,
    )


def _config(
    document: Document, registry: Registry, opener: Opener, options: PlanOptions, doubts: list[ConfigError]
) -> MergeConfig:
    """The config in a document; when it is wrong, the models in it are looked at all the same."""

    def params_of(name: str) -> type[Params]:
        return registry.get(MergeMethod, name).params

    @cache
    def elsewhere() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for method in registry.all(MergeMethod):
            for name in parameters_of(method.params):
                found.setdefault(name, []).append(method.name)
        return found

    problems = Collector()
    read: list[MergeConfig] = []
    fits = False
    with problems.collecting():
        unsure = None if options.strict else doubts
        with problems.collecting():
            if (size := options.shard_size) is not None and (writer := _writer(document, registry)):
                check_shard_size(writer, size)
        config = read_config(document, params_of, elsewhere=elsewhere, registry=registry, doubts=unsure)
        method: MergeMethod[Any] = registry.get(MergeMethod, config.merge_method)
        fits = check_composition(config, method, registry, document.place, problems)
        if not problems.errors:
            return config
        read.append(config)
    local = _all_local(document, opener, problems)
    for config in read if local else ():
        _look_at_models(config, fits, replace(opener, architectures=config.architecture), options, problems)
    problems.raise_any()
    raise AssertionError("what keeps a config from being read is an error")


def _writer(document: Document, registry: Registry) -> OutputWriter[Any] | None:
    """The output writer that a config names, whatever else is wrong with it; None when there is no such writer."""
    output = document.data.get("output")
    name = output.get("writer") if isinstance(output, dict) else None
    try:
        return registry.get(OutputWriter, name if isinstance(name, str) else WRITER)
    except MergecoreError:  # it is told with its place
        return None


def _all_local(document: Document, opener: Opener, problems: Collector) -> bool:
    """Whether all models of a config are on this machine and can be opened; what is wrong with them is gathered."""
    local = True
    before = len(problems.errors)
    for path, part in parts(document.data):
        for key in ("base_model", "model"):
            if isinstance(text := part.get(key), str):
                with problems.collecting():
                    local = opener.check_local(text, (*path, key)) and local
    return local and len(problems.errors) == before


def _look_at_models(
    config: MergeConfig, fits: bool, opener: Opener, options: PlanOptions, problems: Collector
) -> None:
    """Gather what is wrong with the models of a config that is wrong itself, as far as it is quickly told."""
    method: MergeMethod[Any] = opener.registry.get(MergeMethod, config.merge_method)
    found = Collector()
    with found.collecting():
        opened = open_models(config, opener, quick=True)
        models = Models(opened.checkpoints, opened.descriptions, donor=0, parts=opened.parts)
        if not config.modules and all(one.main for one in opened.descriptions):
            slices = _slices(config, method, models, opened, opener, options)
            matched = match(models, slices, Selection(config.include, config.exclude)) if fits else None
            if matched is not None:
                formats = Formats(config, models, lambda checkpoint, dtype: frozenset())
                compiler = Compiler(
                    config, method, models, options, opener.place_of, opener.registry, formats
                )
                compiler.vocabulary(opened, opener)
                compiler.steps(matched)
    for error in found.errors:
        if isinstance(error, InputError) or error.code == "E113":
            problems.add(error)  # what is wrong with parameters is told


def _slices(
    config: MergeConfig,
    method: MergeMethod[Any],
    models: Models,
    opened: Opened,
    opener: Opener,
    options: PlanOptions,
) -> tuple[Slice, ...]:
    """The slices of models that belong together; what is wrong with their vocabularies is told along."""
    problems = Collector()
    slices: tuple[Slice, ...] = ()
    if not options.allow_crimes:
        with problems.collecting():
            check_architectures(opened.comparable)
    alike = not problems.errors
    with problems.collecting():
        slices = slices_of(config, method, models, opener.place_of)
    if problems.errors and alike:
        with problems.collecting():
            output_vocabulary(config, opened, models.donor, opener)
    problems.raise_any()
    return slices


def _doubts(config: MergeConfig, opened: Opened, donor: int, opener: Opener, stacked: bool) -> Iterator[str]:
    """Where the models may not be what the config takes them for."""
    for model in opened.checkpoints:
        yield from model.notes
        yield from contradictions(model)
    yield from unconfigured(opened.comparable, opened.checkpoints[donor])
    yield from differences(opened.comparable, opened.checkpoints[donor], opener.completed, stacked=stacked)
    yield from package_notes(opened.comparable, opened.checkpoints[donor])
    for known in config.architecture:
        yield from said_in_vain(known, opened.checkpoints)


def _everything(step: Step) -> list[TensorInput]:
    return [*step.inputs, *([step.base] if step.base else [])]


def _layout(
    config: MergeConfig, registry: Registry, options: PlanOptions, steps: Sequence[Step], donor: Checkpoint
) -> tuple[str, Layout]:
    """The name of the output writer, and how it lays the tensors out."""
    writer, size = config.output.writer, options.shard_size
    return writer, lay_out(
        registry, writer, steps, config.output.params, shard_size=size, config=donor.config
    )


def _executor(config: MergeConfig, registry: Registry) -> Params:
    """The parameters of the executor that a config names."""
    chosen: Executor[Any] = registry.get(Executor, config.executor.name)
    choice = Choice(Executor, chosen.name, config.executor.params, ("executor",))
    params: Params = read_params(chosen.params, choice)
    return params


def _effective(data: Mapping[str, Json], config: MergeConfig, options: PlanOptions) -> dict[str, Json]:
    """The config with what the command line changes of the result, without what changes nothing of it.

    Files that it needs are replaced by what they hold.
    """
    changes: dict[str, Json] = {}
    for key in ("missing", "unexpected"):
        value = getattr(options, key)
        if value != "error":
            changes[key] = value
    for key in ("seed", "shard_size"):
        value = getattr(options, key)
        if value is not None:
            changes[key] = value
    if options.allow_crimes:
        changes["allow_crimes"] = True
    known: list[Json] = [one.as_json() for one in config.architecture]
    return {
        **{key: value for key, value in data.items() if key != "executor"},
        **({"architecture": known} if known else {}),
        **({"command_line": changes} if changes else {}),
    }
