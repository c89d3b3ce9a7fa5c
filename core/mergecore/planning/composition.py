"""What a config alone shows of how models and method fit together; no model is opened for it.

`check_composition` is the way in.  Layers and tensors are looked at later, by `slices` and `compiling`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mergecore.config.grammar import MergeConfig, SliceConfig
from mergecore.config.parameters.declared import parameters_of
from mergecore.config.parameters.resolver import (
    ModelEntry,
    ParameterSource,
    Resolver,
    TensorPosition,
    missing_parameter,
)
from mergecore.config.parameters.settings import parse_setting
from mergecore.errors import Collector, ConfigError, placed
from mergecore.files.yaml_document import DocPath, PlaceOf
from mergecore.planning.opened import bodies
from mergecore.plugins.registry import Registry
from mergecore.types import MergeMethod, ModelReference
from mergecore.types.params import Params


def check_composition(
    config: MergeConfig, method: MergeMethod[Any], registry: Registry, place_of: PlaceOf, problems: Collector
) -> bool:
    """Gather what no model could fix; whether models and method fit together, parameters aside.

    E105 for a wrong number of models and for parameters, E110 for a missing base, E111 for one that stands twice,
    E113 for sources of different lengths; what the method has against its parameters.
    """
    check = _Check(method, registry, place_of, Collector(), problems)
    if method.base == "required" and not _has_base(config):
        what = f"{method.name} needs a base_model, and the config names none"
        place, hint = place_of(("merge_method",)), "add 'base_model: …' at the top level"
        check.structure.add(ConfigError("E110", what, place=place, hint=hint))
    for group in _groups(config, method):
        check.group(group)
    for error in check.structure.errors:
        problems.add(error)
    return not check.structure.errors


@dataclass(frozen=True)
class _Entry:
    model: ModelReference
    parameters: ParameterSource
    path: DocPath
    length: int | None = None


@dataclass(frozen=True)
class _Group:
    """The models that are merged with each other, as the config lists them."""

    entries: tuple[_Entry, ...]
    base: ModelReference | None
    levels: tuple[ParameterSource, ...]
    path: DocPath


def _has_base(config: MergeConfig) -> bool:
    slices = [one for _, _, found in bodies(config) for one in found]
    whole = any(models for _, models, _ in bodies(config))
    return config.base_model is not None or (not whole and all(one.base_model for one in slices))


def _groups(config: MergeConfig, method: MergeMethod[Any]) -> Iterator[_Group]:
    top = ParameterSource(config.parameters, ("parameters",))
    base = config.base_model
    for prefix, models, slices in bodies(config):
        module = (config.modules or {}).get(str(prefix[-1])) if prefix else None
        own = (ParameterSource(module.parameters, (*prefix, "parameters")),) if module else ()
        levels = (*own, top)
        if models:
            entries = [_entry(one, (*prefix, "models", i)) for i, one in enumerate(models)]
            if base is not None and method.base != "unused" and all(one.model != base for one in entries):
                entries.append(_Entry(base, ParameterSource({}), ("base_model",)))
            yield _Group(tuple(entries), base, levels, (*prefix, "models"))
        for i, one in enumerate(slices):
            yield _of_slice(one, base, levels, (*prefix, "slices", i))


def _of_slice(
    one: SliceConfig, base: ModelReference | None, levels: Sequence[ParameterSource], path: DocPath
) -> _Group:
    entries = tuple(
        _entry(source, (*path, "sources", j), source.layer_range[1] - source.layer_range[0])
        for j, source in enumerate(one.sources)
    )
    own = ParameterSource(one.parameters, (*path, "parameters"))
    return _Group(entries, one.base_model or base, (own, *levels), (*path, "sources"))


def _entry(one: Any, path: DocPath, length: int | None = None) -> _Entry:
    return _Entry(one.model, ParameterSource(one.parameters, (*path, "parameters")), path, length)


@dataclass(frozen=True)
class _Check:
    method: MergeMethod[Any]
    registry: Registry
    place_of: PlaceOf
    structure: Collector
    problems: Collector
    """Those of parameters."""

    def group(self, group: _Group) -> None:
        """Gather what is wrong with models that are merged with each other."""
        used = self.method.base != "unused" and group.base is not None
        bases = [entry for entry in group.entries if used and entry.model == group.base]
        others = [entry for entry in group.entries if entry not in bases]
        if len({entry.length for entry in group.entries}) > 1:
            told = ", ".join(f"{entry.model} {entry.length}" for entry in group.entries)
            self._tell("E113", f"the sources of a slice differ in length: {told} layers", group.path[:-1])
        if used and not bases:
            what = f"{self.method.name} needs base_model '{group.base}' among the sources of each slice"
            hint = f"add '{{model: {group.base}, layer_range: […]}}' to the sources"
            self._tell("E110", what, group.path, hint)
        if len(bases) > 1:
            self._tell("E111", f"base_model '{group.base}' is listed twice", bases[1].path, "remove one")
        lacking = self.method.base == "required" and group.base is None
        number = len(others)
        least, most = self.method.models
        if number == 0 and bases and self.method.base_alone and group.path[:1] != ("modules",):
            least = 0
        if number < least or (most is not None and number - lacking > most):  # one is meant to be the base
            alone = number == 0 and bases and group.path[:1] == ("modules",)
            instead = "leave the module out: what is not named is copied from the base" if alone else None
            self._tell("E105", self._wanted(number), group.path, instead)
        if self.structure.errors:
            return
        self._parameters(others if self.method.base_apart else [*bases[:1], *others], group.levels)

    def _wanted(self, number: int) -> str:
        least, most = self.method.models
        wanted = f"at least {least}" if number < least else f"at most {most}"
        if least == most:
            wanted = f"exactly {least}"
        beside = " beside base_model" if self.method.base != "unused" else ""
        return f"{self.method.name} merges {wanted} model{'s' if wanted[-1] != '1' else ''}{beside}, not {number}"

    def _parameters(self, entries: Sequence[_Entry], shared: Sequence[ParameterSource]) -> None:
        """Report parameters that nothing sets; let the method judge those that are the same for all tensors."""
        if self._missing(entries, shared) or not self._constant(entries, shared):
            return
        rows = [ModelEntry(str(one.model), "", (one.parameters,), one.path) for one in entries]
        resolver: Resolver[Params] = Resolver(self.method.params, self.method.name, self.place_of)
        with self.problems.collecting():
            params = resolver.resolve(TensorPosition(""), rows, shared)
            if self.method.check_params and rows:
                place = self.place_of(rows[0].sources[0].path)
                with placed(place), self.registry.calling(MergeMethod, self.method.name):
                    self.method.check_params(params, len(rows))

    def _missing(self, entries: Sequence[_Entry], shared: Sequence[ParameterSource]) -> bool:
        count = len(self.problems.errors)
        for parameter in parameters_of(self.method.params).values():
            if parameter.required and not any(parameter.name in one.mapping for one in shared):
                lacking = [one for one in entries if parameter.name not in one.parameters.mapping]
                for one in lacking if parameter.per_model else [None]:
                    model = None if one is None else str(one.model)
                    place = self.place_of(one.path if one else ("merge_method",))
                    self.problems.add(missing_parameter(self.method.name, parameter.name, model, place))
        return len(self.problems.errors) > count

    def _constant(self, entries: Sequence[_Entry], shared: Sequence[ParameterSource]) -> bool:
        """Whether no parameter of the method depends on the tensor."""
        names = parameters_of(self.method.params)
        settings = [
            parse_setting(raw, name)
            for source in (*shared, *(one.parameters for one in entries))
            for name, raw in source.mapping.items()
            if name in names
        ]
        return all(len(one.cases) == 1 and not one.cases[0].filter for one in settings) and all(
            len(one.cases[0].knots) == 1 for one in settings
        )

    def _tell(self, code: str, what: str, path: DocPath, hint: str | None = None) -> None:
        self.structure.add(ConfigError(code, what, place=self.place_of(path), hint=hint))
