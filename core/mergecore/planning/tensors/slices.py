"""From the three ways to write a merge (`models`, `slices`, `modules`) to one: slices of layers with their parts.

Read `slices_of`; everything after it works on `Slice` only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergecore.config.grammar import MergeConfig, SliceConfig
from mergecore.config.parameters.resolver import ParameterSource
from mergecore.errors import Collector, ConfigError, InputError, MergecoreError, Place, counted, did_you_mean
from mergecore.files.yaml_document import DocPath, PlaceOf
from mergecore.planning.opened import OpenedModels, bodies, references
from mergecore.planning.tensors.matching import Slice, SliceInput
from mergecore.types import MergeMethod, ModelReference, Module, Stack


def slices_of(
    config: MergeConfig, method: MergeMethod[Any], models: OpenedModels, place_of: PlaceOf
) -> tuple[Slice, ...]:
    """The slices of a config, their layers within the models and their parts as the method wants them.

    Raises:
        ConfigError: E105 for modules that there are not, E113 for layer ranges; all of them together.  What the
            config alone shows is reported by `check_composition` before.
    """
    index = {reference: number for number, (reference, _) in enumerate(references(config))}
    builder = _Builder(config, method, models, index, place_of)
    builder.check_modules()
    problems = Collector()
    made = []
    for build in builder.slices():
        with problems.collecting():
            made.append(build())
    problems.raise_any()
    return tuple(made)


@dataclass(frozen=True)
class _Entry:
    model: int
    layers: range | None
    parameters: ParameterSource
    path: DocPath


@dataclass(frozen=True)
class _Builder:
    config: MergeConfig
    method: MergeMethod[Any]
    models: OpenedModels
    index: Mapping[ModelReference, int]
    place_of: PlaceOf

    def slices(self) -> Iterator[Any]:
        """A function for each slice that builds it, or raises what is wrong with it."""
        top = self._source(self.config.parameters, ("parameters",))
        for prefix, models, slices in bodies(self.config):
            written = (self.config.modules or {}).get(str(prefix[-1])) if prefix else None
            levels = (self._source(written.parameters, (*prefix, "parameters")), top) if written else (top,)
            if models:
                yield lambda prefix=prefix, models=models, levels=levels: self._whole(prefix, models, levels)
            for i, one in enumerate(slices):
                path = (*prefix, "slices", i)
                yield lambda one=one, path=path, levels=levels: self._stacked(one, path, levels)

    def check_modules(self) -> None:
        """Raise E105 for every module that does not exist, or is there under another name."""
        problems = Collector()
        seen: set[str] = set()
        for name in self.config.modules or {}:
            with problems.collecting():
                module = self._module(("modules", name))
                assert module is not None
                if module.name in seen:
                    what = f"'{name}' is another name of the module '{module.name}', which is there already"
                    raise self._error("E105", what, ("modules", name), None)
                seen.add(module.name)
        problems.raise_any()

    def _module(self, path: DocPath) -> Module | None:
        """The module that the body of the config at `path` is for; None for the whole model."""
        if path[:1] != ("modules",):
            return None
        name, primary = str(path[1]), self.models.descriptions[self.models.primary]
        if module := primary.module(name):
            return module
        known = {one.name: one.aliases for one in primary.modules} or {"default": ()}
        near = did_you_mean(name, [*known, *(alias for aliases in known.values() for alias in aliases)])
        what = f"{self._name(self.models.primary)} has no module '{name}'{near}"
        told = (f"{one} (also {', '.join(aliases)})" if aliases else one for one, aliases in known.items())
        raise self._error("E105", what, path, f"its modules: {', '.join(told)}")

    def _whole(self, prefix: DocPath, models: Sequence[Any], levels: tuple[ParameterSource, ...]) -> Slice:
        entries = []
        for i, entry in enumerate(models):
            path = (*prefix, "models", i)
            source = self._source(entry.parameters, (*path, "parameters"))
            entries.append(_Entry(self.index[entry.model], None, source, path))
        base = self.index[self.config.base_model] if self.config.base_model else None
        if base is not None and self.method.base != "unused" and all(one.model != base for one in entries):
            entries.append(_Entry(base, None, ParameterSource({}), ("base_model",)))
        if any(self.models.checkpoints[one.model].config for one in entries):
            self._same_depth(entries, self._module(prefix))
        return self._slice(entries, base, levels, (*prefix, "models"))

    def _stacked(self, one: SliceConfig, path: DocPath, levels: tuple[ParameterSource, ...]) -> Slice:
        problems = Collector()
        entries = []
        module = self._module(path)
        for j, source in enumerate(one.sources):
            where = (*path, "sources", j)
            with problems.collecting():
                model = self.index[source.model]
                layers = self._layers(model, module, source.layer_range, (*where, "layer_range"))
                own = self._source(source.parameters, (*where, "parameters"))
                entries.append(_Entry(model, layers, own, where))
        problems.raise_any()
        reference = one.base_model or self.config.base_model
        base = self.index[reference] if reference else None
        own = self._source(one.parameters, (*path, "parameters"))
        return self._slice(entries, base, (own, *levels), (*path, "sources"))

    def _slice(
        self, entries: Sequence[_Entry], base: int | None, levels: tuple[ParameterSource, ...], path: DocPath
    ) -> Slice:
        method = self.method
        bases = [entry for entry in entries if method.base != "unused" and entry.model == base]
        others = [entry for entry in entries if entry not in bases]
        parts = tuple(self._part(entry) for entry in others)
        module = self._module(path)
        name = module.name if module else None
        if not bases:
            return Slice(parts, None, levels, base, name)
        part = self._part(bases[0])
        if method.base_apart:
            return Slice(parts, part, levels, base, name)
        return Slice((part, *parts), None, levels, base, name)

    def _layers(
        self, model: int, module: Module | None, layer_range: tuple[int, int], path: DocPath
    ) -> range:
        stack, name = self._stack(model, module), self._name(model)
        if stack is None:
            raise self._no_stack(model, module, path)
        first, stop = layer_range
        if stop > stack.count:
            what = (
                f"layer_range [{first}, {stop}] is beyond {name}, which has {counted(stack.count, 'layer')}"
            )
            hint = f"the end is not included: all its layers are [0, {stack.count}]"
            raise self._error("E113", what, path, hint)
        return range(first, stop)

    def _stack(self, model: int, module: Module | None) -> Stack | None:
        """The layers of a module in a model, or those that layer ranges mean without a module."""
        description = self.models.descriptions[model]
        if module is None:
            return description.main
        own = description.module(module.name)
        return own.stack if own else None

    def _no_stack(self, model: int, module: Module | None, path: DocPath) -> MergecoreError:
        name, stacks = self._name(model), self.models.descriptions[model].stacks
        if module is not None:
            what = f"the module '{module.name}' of {name} has no layers to choose from"
            return self._error("E113", what, path, "merge it with 'models:'")
        told = ", ".join(f"{stack.prefix}N ({stack.count})" for stack in stacks) or "none"
        what = f"layer_range is ambiguous: {name} has the layer stacks {told}"
        return self._error("E113", what, path, "merge whole models with 'models:'")

    def _same_depth(self, entries: Sequence[_Entry], module: Module | None) -> None:
        depths: dict[int, list[str]] = {}
        for entry in entries:
            if stack := self._stack(entry.model, module):
                depths.setdefault(stack.count, []).append(self._name(entry.model))
        if len(depths) > 1:
            told = ", ".join(
                f"{' and '.join(dict.fromkeys(names))} {count}" for count, names in depths.items()
            )
            raise InputError(
                "E231",
                f"the models have different numbers of layers: {told}",
                place=self.place_of(("models",)),
                hint="choose layers with 'slices:', the same number from each model",
            )

    def _part(self, entry: _Entry) -> SliceInput:
        return SliceInput(entry.model, entry.layers, entry.parameters, entry.path)

    def _source(self, mapping: Mapping[str, Any] | None, path: DocPath) -> ParameterSource:
        return ParameterSource(mapping or {}, path)

    def _name(self, model: int) -> str:
        return self.models.checkpoints[model].name

    def _error(self, code: str, what: str, path: DocPath, hint: str | None) -> MergecoreError:
        place: Place | None = self.place_of(path)
        return ConfigError(code, what, place=place, hint=hint)
