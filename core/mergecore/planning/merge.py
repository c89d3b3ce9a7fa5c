"""Compiles a merge config to a plan, from headers alone; read `plan_merge`, which is the whole order of events.

Errors are collected as far as planning can go on, and reported together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from operator import itemgetter
from typing import Any

from mergecore.config.chosen import WRITER
from mergecore.config.grammar import MergeConfig, read_config
from mergecore.config.parameters.filters import Selection
from mergecore.config.parts import parts
from mergecore.errors import Collector, ConfigError, InputError, MergecoreError
from mergecore.files.yaml_document import Document
from mergecore.models.opener import Opener, check_architectures
from mergecore.models.refine import unused_rules
from mergecore.models.row_names import contradictions
from mergecore.planning.composition import check_composition
from mergecore.planning.meaning.config_differences import differences, unconfigured
from mergecore.planning.meaning.factors import factors
from mergecore.planning.opened import OpenedModels, open_models
from mergecore.planning.planner import DocumentPlanner
from mergecore.planning.tensors.formats import Formats
from mergecore.planning.tensors.matching import Counted, Slice, dropped, match
from mergecore.planning.tensors.slices import slices_of
from mergecore.planning.tensors.steps import Compiler
from mergecore.planning.toolkit import check_shard_size, methods_by_parameter
from mergecore.planning.vocabulary.output import output_vocabulary
from mergecore.plugins.registry import Registry
from mergecore.types import (
    Json,
    MergeMethod,
    OutputWriter,
    Plan,
    TokenizerStrategy,
)
from mergecore.types.params import Params
from mergecore.types.plans import PlanOptions


def plan_merge(document: Document, planner: DocumentPlanner) -> Plan:
    """The plan of a merge config, which is the document of `planner`.

    Raises:
        MergecoreError: anything that is wrong with the config or the models; several as `Problems`.
    """
    registry, options, opener = planner.registry, planner.options, planner.opener
    config = _config(document, opener, options, planner.notes)
    method: MergeMethod[Any] = registry.get(MergeMethod, config.merge_method)
    opener = replace(opener, architectures=config.architecture)
    models = open_models(config, opener)
    slices = _slices(config, method, models, opener, options)
    selection = Selection(config.include, config.exclude)
    found = match(models, slices, selection, _counted(options))
    selection.check(document.place)
    formats = Formats(config, models, opener.keeps_f32)
    compiler = Compiler(config, method, models, options, document.place, registry, formats)
    strategy, common = compiler.vocabulary(opener)
    steps = compiler.steps(found)

    planner = replace(planner, document=_with_architectures(document, config))
    side_files = planner.side_files(
        models.checkpoints,
        steps,
        primary=models.primary,
        made_by=config.merge_method,
        vocabulary=common.vocabulary,
        pad_to_multiple_of=common.multiple,
        selected=found.layers,
        descriptions=models.descriptions,
        merged=[i for i in range(len(models.merging)) if i not in models.parts],
    )
    used = {read for step in steps for one in step.operands for read in one.reads}
    return planner.plan(
        models.checkpoints,
        steps,
        side_files,
        primary=models.primary,
        selected=found.layers,
        warnings=[
            *compiler.warnings(steps),
            *_doubts(config, models, opener, bool(found.layers)),
            *factors(models.checkpoints, steps),
        ],
        descriptions=models.descriptions,
        dropped=dropped(models, slices, used),
        used=[(MergeMethod, method.name), (TokenizerStrategy, strategy)],
    )


def _with_architectures(document: Document, config: MergeConfig) -> Document:
    """The document with what its files about architectures hold in place of their names."""
    known: list[Json] = [one.as_json() for one in config.architecture]
    return replace(document, data={**document.data, "architecture": known}) if known else document


def _config(
    document: Document, opener: Opener, options: PlanOptions, doubts: list[ConfigError]
) -> MergeConfig:
    """The config in a document; when it is wrong, the models in it are looked at all the same."""
    registry = opener.registry

    def params_of(name: str) -> type[Params]:
        return registry.get(MergeMethod, name).params

    problems = Collector()
    read: list[MergeConfig] = []
    fits = False
    with problems.collecting():
        unsure = None if options.strict else doubts
        with problems.collecting():
            if (size := options.shard_size) is not None and (writer := _writer(document, registry)):
                check_shard_size(writer, size)
        config = read_config(
            document,
            params_of,
            elsewhere=cache(partial(methods_by_parameter, registry)),
            registry=registry,
            doubts=unsure,
        )
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


def _counted(options: PlanOptions) -> Counted:
    """How many layers the output has, where models without a config have different numbers of them."""
    if options.unexpected in ("merge", "copy"):
        return max
    return min if options.missing == "drop" else itemgetter(0)


def _look_at_models(
    config: MergeConfig, fits: bool, opener: Opener, options: PlanOptions, problems: Collector
) -> None:
    """Gather what is wrong with the models of a config that is wrong itself, as far as it is quickly found."""
    method: MergeMethod[Any] = opener.registry.get(MergeMethod, config.merge_method)
    found = Collector()
    with found.collecting():
        models = open_models(config, opener, quick=True)
        if not config.modules and all(one.main for one in models.descriptions):
            slices = _slices(config, method, models, opener, options)
            if fits:
                matched = match(models, slices, Selection(config.include, config.exclude), _counted(options))
                formats = Formats(config, models, lambda checkpoint, dtype: frozenset())
                compiler = Compiler(
                    config, method, models, options, opener.place_of, opener.registry, formats
                )
                compiler.vocabulary(opener)
                compiler.steps(matched)
    for error in found.errors:
        if isinstance(error, InputError) or error.code == "E113":
            problems.add(error)  # what is wrong with parameters is told


def _slices(
    config: MergeConfig,
    method: MergeMethod[Any],
    models: OpenedModels,
    opener: Opener,
    options: PlanOptions,
) -> tuple[Slice, ...]:
    """The slices of models that belong together; what is wrong with their vocabularies is reported as well."""
    problems = Collector()
    slices: tuple[Slice, ...] = ()
    if not options.allow_crimes:
        with problems.collecting():
            check_architectures(models.comparable)
    alike = not problems.errors
    with problems.collecting():
        slices = slices_of(config, method, models, opener.place_of)
    if problems.errors and alike:
        with problems.collecting():
            output_vocabulary(config, models, opener)
    problems.raise_any()
    return slices


def _doubts(config: MergeConfig, models: OpenedModels, opener: Opener, stacked: bool) -> Iterator[str]:
    """Where the models may not be what the config takes them for."""
    for model in models.checkpoints:
        yield from model.notes
        yield from contradictions(model)
    yield from unconfigured(models.comparable, models.first)
    yield from differences(models.comparable, models.first, opener.completed, stacked=stacked)
    for known in config.architecture:
        yield from unused_rules(known, models.checkpoints)
