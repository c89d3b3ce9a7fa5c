"""From the `parameters:` of a config to the typed parameters of one tensor.

`check_parameters` looks at what is written, once for a config; a `Resolver` then gives the `Params` of each
tensor.  Levels are plain mappings, the most particular one first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeAlias, TypeVar

from pydantic import ValidationError

from mergecore.config.leftovers import OBSOLETE
from mergecore.config.parameters.declared import Parameter, counts_as, parameters_of
from mergecore.config.parameters.filters import Filter
from mergecore.config.parameters.settings import Case, Setting, parse_setting, value_at
from mergecore.errors import Collector, ConfigError, MergecoreError, Place, did_you_mean
from mergecore.files.patterns import searcher
from mergecore.files.yaml_document import DocPath, Document, PlaceOf, nowhere
from mergecore.types import Json
from mergecore.types.params import Params

P = TypeVar("P", bound=Params)


@dataclass(frozen=True)
class ParameterSource:
    """One `parameters:` mapping of a config, and its path there."""

    mapping: Mapping[str, Json]
    path: DocPath = ()


@dataclass(frozen=True)
class TensorPosition:
    """The output tensor that parameters are wanted for: its name, its position `t` in the slice, its role."""

    name: str
    t: float = 0.0
    role: str = ""


@dataclass(frozen=True)
class ModelEntry:
    """One input of that tensor: the model, its name for the tensor, the `parameters:` of the model alone."""

    model: str
    tensor: str
    sources: tuple[ParameterSource, ...] = ()
    path: DocPath = ()
    """Where the config names the model."""


Methods: TypeAlias = Callable[[], Mapping[str, Sequence[str]]]
"""By the name of a parameter, the methods that have it; asked only when one method does not know a name."""


def nobody() -> Mapping[str, Sequence[str]]:
    """The `Methods` where only one is known."""
    return {}


@dataclass
class ParameterCheck:
    """Looks at everything that a config writes for the parameters of a method, and gathers what is wrong.

    problems: E109 for a name that the method does not have, or has for all models only; E103, E104 and E105 for a
    value.  doubts: what has no effect, or is another thing than it looks like, but keeps nobody from merging.
    """

    params: type[Params]
    method: str
    document: Document
    elsewhere: Methods = nobody
    problems: Collector = field(default_factory=Collector)
    doubts: list[ConfigError] = field(default_factory=list)

    def check(self, shared: Sequence[ParameterSource], per_model: Sequence[ParameterSource]) -> None:
        """Look at mappings that apply to all models (top level, modules, slices), and at those of single models."""
        known = parameters_of(self.params)
        unused: dict[str, list[DocPath]] = {}
        for alone, sources in ((False, shared), (True, per_model)):
            for source in sources:
                for name, raw in source.mapping.items():
                    path = (*source.path, name)
                    if name not in known and (name in OBSOLETE or name in self.elsewhere()):
                        unused.setdefault(name, []).append(path)
                        continue
                    with self.problems.collecting():
                        self._check(name, raw, known, path, alone)
        self.doubts += [self._unused(name, paths) for name, paths in unused.items()]

    def _check(
        self, name: str, raw: Json, known: Mapping[str, Parameter], path: DocPath, alone: bool
    ) -> None:
        words = () if name in known else list(self.elsewhere())
        if fault := _unread(name, known, self.method, alone, words):
            fault.place = self.document.key_place(path)
            raise fault
        setting = parse_setting(raw, name, path, self.document.place)
        converted = _converted(known[name], setting, self.document.place)
        for before, after in zip(setting.cases, converted.cases, strict=True):
            for i, (knot, value) in enumerate(zip(before.knots, after.knots, strict=True)):
                if doubt := counts_as(known[name], knot, value):
                    doubt.place = self.document.place((*before.path, i))
                    self.doubts.append(doubt)

    def _unused(self, name: str, paths: Sequence[DocPath]) -> ConfigError:
        """That a parameter is not read, wherever it is written."""
        places = [place for path in paths if (place := self.document.key_place(path))]
        lines = ", ".join(str(line) for line in dict.fromkeys(place.line for place in places[1:]))
        also = f" (also at line {lines})" if lines else ""
        place = places[0] if places else None
        if name in OBSOLETE:
            return ConfigError("E109", f"'{name}' is obsolete{also}", place=place, hint=OBSOLETE[name])
        methods = self.elsewhere()[name]
        have = "has" if len(methods) == 1 else "have"
        what = f"{self.method} has no parameter '{name}' and merges without it{also}; {_some(methods)} {have} one"
        hint = "remove it, or correct 'merge_method'"
        return ConfigError("E109", what, place=place, hint=hint)


def _some(names: Sequence[str]) -> str:
    if len(names) <= 3:
        return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return f"{', '.join(names[:2])} and {len(names) - 2} other methods"


def check_parameters(
    params: type[Params],
    method: str,
    shared: Sequence[ParameterSource],
    per_model: Sequence[ParameterSource],
    document: Document,
) -> None:
    """Refuse what `document` writes that `method` would not read; see `ParameterCheck`.

    Raises:
        ConfigError: several as `Problems`.
    """
    check = ParameterCheck(params, method, document)
    check.check(shared, per_model)
    for doubt in check.doubts:
        check.problems.add(doubt)
    check.problems.raise_any()


_Key: TypeAlias = tuple[tuple[int, ...], ...]
"""The mappings that parameters come from, by identity: those of each input, and those of all."""


class Resolver(Generic[P]):
    """Gives the parameters of one tensor after another; what is equal is parsed and validated once."""

    def __init__(self, params: type[P], method: str, place_of: PlaceOf = nowhere) -> None:
        self._params = params
        self._parameters = list(parameters_of(params).values())
        self._method = method
        self._place_of = place_of
        # by the identity of a mapping, which is kept so that no other can take its id
        self._settings: dict[tuple[int, str], tuple[Mapping[str, Json], Setting | None]] = {}
        self._made: dict[str, P] = {}
        self._same: dict[tuple[_Key, float | None], tuple[list[ParameterSource], P]] = {}
        """What is the same for all tensors at a position, or at any."""
        self._filtered: dict[_Key, list[ParameterSource]] = {}
        """Mappings with filters, so that each tensor has to be looked at."""
        self._between: dict[tuple[int, float], object] = {}
        """The values of gradients, by case and position."""
        self._said: dict[tuple[str, ...], ConfigError] = {}
        self._filters: dict[DocPath, tuple[Filter, bool]] = {}
        self._words: set[str] = set()

    def resolve(
        self, tensor: TensorPosition, inputs: Sequence[ModelEntry], shared: Sequence[ParameterSource] = ()
    ) -> P:
        """The parameters for `tensor`.

        A per-model parameter is looked for in the `sources` of its input, then in `shared`; its filters see
        the input's tensor name.  Another is looked for in `shared` alone; its filters see the output's name.

        Raises:
            ConfigError: E104 or E105 for a value, E105 for a required parameter that is not set; several as
                `Problems`.  What fails alike at many tensors is the same error each time.
        """
        levels = (*(one.sources for one in inputs), shared)
        key = tuple(tuple(id(one.mapping) for one in level) for level in levels)
        if same := self._same.get((key, None)) or self._same.get((key, tensor.t)):
            return same[1]
        self._words.update(tensor.name.split("."))
        problems = Collector()
        values: dict[str, object] = {}
        for parameter in self._parameters:
            if parameter.per_model:
                values[parameter.field] = tuple(
                    self._tried(problems, parameter, (*one.sources, *shared), one.tensor, tensor, one)
                    for one in inputs
                )
            else:
                values[parameter.field] = self._tried(problems, parameter, shared, tensor.name, tensor, None)
        problems.raise_any()
        made = self._checked(values, tensor)
        if key not in self._filtered:
            self._keep(key, [one for level in levels for one in level], tensor.t, made)
        return made

    def _keep(self, key: _Key, sources: list[ParameterSource], t: float, made: P) -> None:
        """Keep the parameters for the tensors that surely have the same."""
        cases = [case for source in sources for case in self._cases(source)]
        if any(case.filter for case in cases):
            self._filtered[key] = sources
        else:
            constant = all(len(case.knots) <= 1 for case in cases)
            self._same[key, None if constant else t] = (sources, made)

    def _cases(self, source: ParameterSource) -> list[Case]:
        """Everything that was read of a mapping; it lives as long as its settings."""
        read = [self._settings.get((id(source.mapping), one.name)) for one in self._parameters]
        return [case for found in read if found and found[1] for case in found[1].cases]

    def _tried(
        self,
        problems: Collector,
        parameter: Parameter,
        levels: Sequence[ParameterSource],
        name: str,
        tensor: TensorPosition,
        model: ModelEntry | None,
    ) -> object:
        """The value of a parameter; what is wrong is gathered."""
        try:
            return self._value(parameter, levels, name, tensor, model)
        except MergecoreError as error:
            problems.add(error)
            return None

    def idle_filters(self) -> list[str]:
        """A sentence for each filter that was tried and matched no tensor, in order of the document."""
        return [
            f"{place}: {what}" if (place := self._place_of((*path[:-1], "filter"))) else what
            for path, (tried, matched) in self._filters.items()
            if not matched
            for what in [f"the filter '{tried.text}' matches no tensor{self._hint(tried.text)}"]
        ]

    def _hint(self, text: str) -> str:
        kind, colon, pattern = text.partition(":")
        if colon and kind == "glob" and _looks_regular(pattern):
            return f"; the dots are meant literally: write 're:{pattern}' for a regular expression"
        if not colon and _looks_regular(text):
            return f"; it is looked for literally: write 're:{text}' for a regular expression"
        if not colon and "*" in text:
            return f"; it is looked for literally: write 'glob:{text}' for a pattern"
        return did_you_mean(text, sorted(self._words))

    def _value(
        self,
        parameter: Parameter,
        levels: Sequence[ParameterSource],
        name: str,
        tensor: TensorPosition,
        model: ModelEntry | None,
    ) -> object:
        for source in levels:
            setting = self._setting(source, parameter)
            case = self._case(setting, name, tensor.role) if setting else None
            if case:
                return self._reading(parameter, case, tensor)
        written = next((source for source in levels if parameter.name in source.mapping), None)
        if parameter.required and written:
            raise self._uncovered(parameter, written, name)
        if parameter.required:
            raise self._missing(parameter, tensor, model)
        return parameter.default

    def _setting(self, source: ParameterSource, parameter: Parameter) -> Setting | None:
        """The converted setting, parsed when it is first wanted."""
        key = (id(source.mapping), parameter.name)
        if key not in self._settings:
            setting = None
            if parameter.name in source.mapping:
                path = (*source.path, parameter.name)
                raw = parse_setting(source.mapping[parameter.name], parameter.name, path, self._place_of)
                setting = _converted(parameter, raw, self._place_of)
            self._settings[key] = (source.mapping, setting)
        return self._settings[key][1]

    def _case(self, setting: Setting, name: str, role: str) -> Case | None:
        chosen = setting.case_for(name, role)
        for case in setting.cases:
            if case.filter:
                _, matched = self._filters.get(case.path, (case.filter, False))
                self._filters[case.path] = (case.filter, matched or case is chosen or not case.knots)
            if case is chosen:
                break
        return chosen

    def _reading(self, parameter: Parameter, case: Case, tensor: TensorPosition) -> object:
        if len(case.knots) == 1:
            return case.knots[0]
        key = (id(case), tensor.t)  # a case lives as long as its setting
        if key in self._between:
            return self._between[key]
        value = value_at(case.knots, tensor.t)
        try:
            self._between[key] = parameter.convert(value)
            return self._between[key]
        except ConfigError as error:
            what = f"{error.what} (between two knots, at t = {tensor.t:.4g} for '{tensor.name}')"
            between = ConfigError(error.code, what, place=self._place_of(case.path), tensor=tensor.name)
            raise self._said.setdefault(("between", parameter.name, repr(case.path)), between) from None

    def _uncovered(self, parameter: Parameter, source: ParameterSource, name: str) -> ConfigError:
        """The error of a required parameter that is written, but not for this tensor."""
        unset = not source.mapping[parameter.name]
        what = "is an empty list" if unset else f"has no case for tensor '{name}'"
        uncovered = ConfigError(
            "E105",
            f"parameter '{parameter.name}' {what}",
            place=self._place_of((*source.path, parameter.name)),
            tensor=name,
            hint="write a value" if unset else "add a last case without a filter, such as '- value: 0'",
        )
        return self._said.setdefault(("uncovered", parameter.name, repr(source.path)), uncovered)

    def _missing(self, parameter: Parameter, tensor: TensorPosition, model: ModelEntry | None) -> ConfigError:
        place = self._place_of(model.path if model else ("merge_method",))
        name = model.model if model else None
        missing = missing_parameter(self._method, parameter.name, name, place, tensor.name)
        return self._said.setdefault(("missing", parameter.name, name or ""), missing)

    def _checked(self, values: Mapping[str, object], tensor: TensorPosition) -> P:
        key = repr(values)  # unlike ==, it tells 1, 1.0 and True apart
        if key not in self._made:
            try:
                self._made[key] = self._params.model_validate(values)
            except ValidationError as error:
                faults = "; ".join(detail["msg"] for detail in error.errors())
                what = f"parameters of {self._method}: {faults}"
                said = ConfigError("E105", what, place=self._place_of(("merge_method",)), tensor=tensor.name)
                raise self._said.setdefault(("all", faults), said) from None
        return self._made[key]


def _looks_regular(text: str) -> bool:
    """Whether a filter reads like a regular expression."""
    try:
        searcher(text)
    except ConfigError:
        return False
    return any(mark in text for mark in (".*", ".+", "\\", "^", "$", "|", "(", "[^"))


def missing_parameter(
    method: str, name: str, model: str | None, place: Place | None, tensor: str | None = None
) -> ConfigError:
    """The error of a parameter that a method needs and nothing sets, for a model or for all of them."""
    whose = f" for model {model}" if model else ""
    where = "under the model, or at the top level for all models" if model else "at the top level"
    which = f" (tensor '{tensor}')" if tensor else ""
    what = f"missing required parameter '{name}' of {method}{whose}{which}"
    hint = f"write 'parameters: {{{name}: …}}' {where}"
    return ConfigError("E105", what, place=place, tensor=tensor, hint=hint)


def _unread(
    name: str, known: Mapping[str, Parameter], method: str, alone: bool, words: Sequence[str]
) -> ConfigError | None:
    """Why `method` does not read `name`, if so; `alone`: it stands under a single model.

    words: parameters of any method.
    """
    if name not in known:
        near = did_you_mean(name, list(known)) or did_you_mean(name, words)
        hint = None if near else f"its parameters: {', '.join(known) or 'none'}"
        return ConfigError("E109", f"{method} has no parameter '{name}'{near}", hint=hint)
    if alone and not known[name].per_model:
        what = f"'{name}' is a parameter of {method} as a whole, not of one model"
        return ConfigError("E109", what, hint="move it to the top-level parameters")
    return None


def _converted(parameter: Parameter, setting: Setting, place_of: PlaceOf) -> Setting:
    return Setting(tuple(_converted_case(parameter, case, place_of) for case in setting.cases))


def _converted_case(parameter: Parameter, case: Case, place_of: PlaceOf) -> Case:
    knots = []
    for i, knot in enumerate(case.knots):
        try:
            knots.append(parameter.convert(knot))
        except ConfigError as error:
            place = place_of((*case.path, i))
            raise ConfigError(error.code, error.what, place=place, hint=error.hint) from None
    return replace(case, knots=tuple(knots))
