"""The merge config: its grammar as classes, and `read_config`, which makes them from a document.

`config_errors` puts the complaints of the classes into our words; what concerns several keys, and the
parameters of the method, are checked here.  Everything found is said at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from mergecore.config.chosen import (
    ALL_TOKENS,
    EXECUTOR,
    OF_MODEL,
    WRITER,
    Sections,
    check_plugins,
)
from mergecore.config.leftovers import OBSOLETE, OPTIONS, other_document
from mergecore.config.messages import complaints, explained
from mergecore.config.parameters.resolver import Methods, ParameterCheck, ParameterSource, nobody
from mergecore.config.parameters.settings import parse_setting
from mergecore.config.parts import choices, duplicates, parts
from mergecore.config.reference import exists_below
from mergecore.config.values import (
    AnyTokenSource,
    Architectures,
    ChosenFiles,
    Dtypes,
    LayerRange,
    RawParameters,
    Reference,
    Selectors,
    TokenText,
    Vocabulary,
    Whole,
    named,
    not_empty,
)
from mergecore.errors import Collector, ConfigError, MergecoreError, Place, placed
from mergecore.files.yaml_document import DocPath, Document
from mergecore.plugins.registry import Registry
from mergecore.types import Json
from mergecore.types.params import Params

ParamsOf: TypeAlias = Callable[[str], "type[Params] | None"]
"""The parameters of a merge method, by its name; it raises for an unknown one."""


# ---- the grammar -------------------------------------------------------------------------------------------


class Section(BaseModel):
    """A mapping of the config; keys that are not in it are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    title: ClassVar[str]


class PluginSection(Section):
    """A mapping that chooses a plugin; the keys beside its own are parameters of that."""

    model_config = ConfigDict(extra="allow")

    @property
    def params(self) -> dict[str, Json]:
        """The parameters as they are written."""
        return dict(self.model_extra or {})


class ModelConfig(Section):
    """A model that takes part as a whole."""

    title = "a model entry"
    model: Reference
    from_: str = Field(
        default="", alias="from", description="a prefix of its tensor names that is replaced by 'into'"
    )
    into: str = Field(default="", description="the prefix that its tensors have in the base")
    parameters: RawParameters = Field(default={}, description="parameters for this model")

    @property
    def prefixes(self) -> tuple[str, str] | None:
        """The prefix that its tensor names have and the one that they get, if it differs."""
        return (self.from_, self.into) if self.from_ != self.into else None


class SourceConfig(Section):
    """Layers of a model."""

    title = "a source of a slice"
    model: Reference
    layer_range: LayerRange
    parameters: RawParameters = Field(default={}, description="parameters for this model in this slice")


class SliceConfig(Section):
    """Consecutive layers of the output."""

    title = "a slice"
    sources: Annotated[tuple[SourceConfig, ...], BeforeValidator(not_empty)] = Field(
        description="the models and their layers that are made into these"
    )
    base_model: Reference | None = Field(
        default=None, description="the base of this slice, in place of the one for all"
    )
    parameters: RawParameters = Field(default={}, description="parameters for this slice")


class ModuleConfig(Section):
    """One module of the output, such as the text model of a model that also sees: either models or slices."""

    title = "a module"
    models: tuple[ModelConfig, ...] | None = Field(default=None, description="whole models")
    slices: tuple[SliceConfig, ...] | None = Field(default=None, description="layers put together")
    parameters: RawParameters = Field(default={}, description="parameters for this module")


class TokenConfig(Section):
    """Where the embedding of one token comes from."""

    title = "a token"
    source: AnyTokenSource = Field(
        default=None,
        description="the model that gives it, {kind: zero}, or {kind: model_token, model, token or token_id}",
    )
    force: bool = Field(default=False, description="give every model this embedding")


class TokenizerConfig(PluginSection):
    """The vocabulary of the output: a strategy by its name, or the model that it is taken from."""

    title = "the tokenizer"
    strategy: str | None = Field(default=None, description="how the vocabulary is chosen")
    source: Vocabulary | None = Field(default=None, description="a model, or short for 'strategy'")
    tokens: dict[TokenText, TokenConfig] | None = Field(
        default=None, description="by the text of a token, where its embedding comes from"
    )
    pad_to_multiple_of: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="add rows until their number is a multiple of this"
    )

    @property
    def chosen(self) -> str:
        """The name of the strategy."""
        if self.strategy is not None or isinstance(self.source, str):
            return self.strategy or str(self.source)
        return ALL_TOKENS if self.source is None else OF_MODEL


class OutputConfig(PluginSection):
    """How the output is written."""

    title = "the output"
    writer: str = Field(default=WRITER, description="the output writer; its parameters stand beside it")


class ExecutorConfig(PluginSection):
    """Where the steps run."""

    title = "the executor"
    name: str = Field(default=EXECUTOR, description="the executor; its parameters stand beside it")


_RUNS = "where the steps run: a name, or {name, parameters}"

Title: TypeAlias = Annotated[
    str | None, Field(description="the name of the result, and title of its model card")
]
Seed: TypeAlias = Annotated[Whole, Field(ge=0, lt=2**64, description="what random numbers depend on")]
Output: TypeAlias = Annotated[OutputConfig, Field(description="how the weights are written")]
WhereRun: TypeAlias = Annotated[
    ExecutorConfig,
    BeforeValidator(named, json_schema_input_type=ExecutorConfig | str),
    Field(description=_RUNS),
]

SECTIONS: Sections = {
    "tokenizer": TokenizerConfig.model_fields,
    "output": OutputConfig.model_fields,
    "executor": ExecutorConfig.model_fields,
    "side_files": (),
    "chat_template": (),
}
"""Where a config chooses plugins."""


class MergeConfig(Section):
    """A whole config; dtypes are the names of headers, such as "BF16"."""

    title = "a merge config"
    merge_method: str
    models: tuple[ModelConfig, ...] | None = Field(default=None, description="whole models")
    slices: tuple[SliceConfig, ...] | None = Field(default=None, description="layers put together")
    modules: dict[str, ModuleConfig] | None = Field(default=None, description="models or slices by module")
    base_model: Reference | None = Field(
        default=None, description="the model that differences are taken from; gives config and tokenizer, too"
    )
    include: Selectors = Field(
        default=(), description="which tensors are merged; the base's others are copied"
    )
    exclude: Selectors = Field(default=(), description="which tensors are copied from the base")
    architecture: Architectures = Field(default=(), description="what a YAML file says of the tensors")
    parameters: RawParameters = Field(default={}, description="parameters for everything")
    dtype: Dtypes | None = Field(default=None, description="precision of the output, or that by filter")
    out_dtype: Dtypes | None = Field(default=None, description="precision of the output, before 'dtype'")
    keep_f32: bool = Field(
        default=True, description="leave what is float32 on purpose among 16-bit tensors as it is"
    )
    tokenizer_source: Vocabulary | None = Field(
        default=None, description="short for 'tokenizer: {source: …}'"
    )
    tokenizer: TokenizerConfig | None = Field(default=None, description="the vocabulary of the output")
    chat_template: str | None = Field(
        default=None, description="auto, the name of a chat template, or its text"
    )
    seed: Seed = 0
    name: Title = None
    output: Output = OutputConfig()
    executor: WhereRun = ExecutorConfig()
    side_files: ChosenFiles = {}

    @property
    def vocabulary(self) -> TokenizerConfig | None:
        """What is asked of the tokenizer, in whichever form it was written."""
        if self.tokenizer_source is None:
            return self.tokenizer
        return TokenizerConfig.model_construct(source=self.tokenizer_source)


# ---- reading -----------------------------------------------------------------------------------------------


def read_config(
    document: Document,
    params_of: ParamsOf = lambda name: None,
    *,
    folder: Path = Path(),
    elsewhere: Methods = nobody,
    registry: Registry | None = None,
    doubts: list[ConfigError] | None = None,
) -> MergeConfig:
    """The config in a document.

    params_of: the parameters of a method by its name, None to leave them unchecked; what it raises is said
        along with the rest.  folder: where relative paths start.  elsewhere: which methods have a parameter.
    registry: what tokenizer strategy, output writer and executor can be; None to leave them unchecked.
    doubts: takes what has no effect, or is another thing than it looks like; None makes errors of it.

    Raises:
        ConfigError: E103 to E105, E109, E111 to E113, with places; several as `Problems`, by line.
    """
    problems = Collector()
    if other := other_document(document.data):
        raise ConfigError("E104", other[0], place=document.place(), hint=other[1])
    document, unsure = without_leftovers(document)
    params = None
    method = document.data.get("merge_method")
    if isinstance(method, str):
        with problems.collecting(), placed(document.place(("merge_method",))):
            params = params_of(method)
    config = None
    context: dict[str, Any] = {"exists": exists_below(folder), "folder": folder, "known": {}}
    if registry is not None:
        context |= check_plugins(document, registry, SECTIONS, context["exists"], problems, unsure)
    try:
        config = MergeConfig.model_validate(dict(document.data), context=context)
    except ValidationError as error:
        for detail in complaints(error):
            problems.add(explained(detail, document, MergeConfig, str(method), params))
    for found in (*choices(document), *duplicates(document)):
        problems.add(found)
    unsure += _check_settings(document, str(method), params, elsewhere, problems)
    for doubt in sorted(unsure, key=_line):
        (problems.add if doubts is None else doubts.append)(doubt)
    problems.errors.sort(key=_line)
    problems.raise_any()
    assert config is not None
    return config


def parameter_sources(data: Mapping[str, Json]) -> tuple[list[ParameterSource], list[ParameterSource]]:
    """Every `parameters:` of a config that is a mapping: those for all models, and those for a single one."""
    shared: list[ParameterSource] = []
    single: list[ParameterSource] = []
    for path, part in parts(data):
        settings = part.get("parameters")
        if isinstance(settings, dict):
            alone = len(path) > 1 and path[-2] in ("sources", "models") and isinstance(path[-1], int)
            (single if alone else shared).append(ParameterSource(settings, (*path, "parameters")))
    return shared, single


def _line(error: MergecoreError) -> tuple[int, int]:
    return (error.place.line, error.place.column) if isinstance(error.place, Place) else (0, 0)


def _check_settings(
    document: Document, method: str, params: type[Params] | None, elsewhere: Methods, problems: Collector
) -> list[ConfigError]:
    """What is doubtful about the parameters; what is wrong goes to `problems`."""
    shared, single = parameter_sources(document.data)
    if params is not None:
        check = ParameterCheck(params, method, document, elsewhere, problems=problems)
        check.check(shared, single)
        return check.doubts
    for source in (*shared, *single):
        for name, raw in source.mapping.items():
            with problems.collecting():
                parse_setting(raw, name, (*source.path, name), document.place)
    return []


def without_leftovers(document: Document) -> tuple[Document, list[ConfigError]]:
    """The document without keys that mean nothing here, and what to say about them; places stay as they are.

    Keys of the top level that begin with `x-` or a dot are the user's own, to hang anchors on.
    """
    unsure = []
    dropped: set[DocPath] = set()
    for path, part in parts(document.data):
        for key in part:
            harmless = OBSOLETE.get(key) or (OPTIONS.get(key) if path == () else None)
            if path == () and key.startswith(("x-", ".")):
                dropped.add((key,))
            elif harmless:
                dropped.add((*path, key))
                place = document.key_place((*path, key))
                what = f"'{key}' is obsolete" if key in OBSOLETE else f"'{key}' has no effect in a config"
                unsure.append(ConfigError("E103", what, place=place, hint=harmless))
    data = _without(dict(document.data), dropped, ())
    assert isinstance(data, dict)
    return replace(document, data=data), unsure


def _without(value: Json, dropped: Collection[DocPath], path: DocPath) -> Json:
    if isinstance(value, dict):
        return {
            key: _without(one, dropped, (*path, key))
            for key, one in value.items()
            if (*path, key) not in dropped
        }
    if isinstance(value, list):
        return [_without(one, dropped, (*path, i)) for i, one in enumerate(value)]
    return value
