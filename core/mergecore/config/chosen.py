"""Plugins that a document chooses by name, and their parameters: tokenizer strategy, writer, executor, side files.

`check_chosen` looks at all that a document chooses, before a model is opened.  `read_params` makes the parameters
of one, by the declarations that methods have, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mergecore.config.parameters.declared import counts_as, parameters_of, shown
from mergecore.config.reference import HUB, Exists, real_path
from mergecore.errors import Collector, ConfigError, PluginError, did_you_mean, placed
from mergecore.files.yaml_document import DocPath, Document
from mergecore.plugins.registry import WORD_OF, Registry
from mergecore.tokenizers.chat_template import is_template_text
from mergecore.types import Evaluator, Executor, Json, OutputWriter, Policy, SideFile, TokenizerStrategy
from mergecore.types.params import P

UNCHANGED, ALL_TOKENS, OF_MODEL = "copy", "union", "model"
"""The strategies of a config without tokenizer, of a tokenizer without source, and of a source that is a model."""
WRITER, EXECUTOR = "safetensors", "threads"
"""The output writer and the executor of a config that names none."""


NOT_WRITTEN = Document("", {})


@dataclass(frozen=True)
class Choice:
    """A plugin that a document chooses, and the parameters that it writes for it.

    path: the section of the document.  name_path: where it is named.  keys: what else the section may hold.
    """

    kind: type
    name: str
    values: Mapping[str, Json]
    path: DocPath = ()
    name_path: DocPath = ()
    keys: Collection[str] = ()
    document: Document = NOT_WRITTEN

    @property
    def owner(self) -> str:
        """The plugin in words."""
        return f"the {WORD_OF[self.kind]} '{self.name}'"


Sections = Mapping[str, Collection[str]]
"""The sections of a document that choose a plugin, and the keys that each has beside parameters."""


def check_plugins(
    document: Document,
    registry: Registry,
    sections: Sections,
    exists: Exists,
    problems: Collector,
    doubts: list[ConfigError],
) -> dict[str, object]:
    """Gather what is wrong with the plugins of a merge config; what its grammar needs to know about them."""
    found: list[str | None] = []
    with problems.collecting():
        found.append(strategy_named(document, registry, exists, doubts))
    strategy = found[0] if found else None
    known = {name: keys for name, keys in sections.items() if found or name != "tokenizer"}
    check_chosen(document, registry, known, problems, doubts, strategy)
    return {"strategy": strategy} if found else {}


def check_chosen(
    document: Document,
    registry: Registry,
    sections: Sections,
    problems: Collector,
    doubts: list[ConfigError],
    strategy: str | None = None,
) -> None:
    """Gather what is wrong with the plugins that a document chooses, and with their parameters.

    strategy: what the source of the tokenizer names, if it is not a model.
    """
    template = document.data.get("chat_template")
    if "chat_template" in sections and isinstance(template, str):
        with problems.collecting(), placed(document.place(("chat_template",))):
            check_template(template, registry)
    for error in _no_choices(document):
        problems.add(error)
    for one in _choices(document, sections, strategy):
        with problems.collecting(), placed(document.place(one.name_path)):
            value: Any = registry.get(one.kind, one.name)
            if isinstance(value, TokenizerStrategy):
                _check_source(value, document, strategy)
            if isinstance(value, SideFile):
                _check_side_file(value)
            with registry.calling(one.kind, one.name):
                read_params(value.params, one, doubts)


def read_params(params: type[P], choice: Choice, doubts: list[ConfigError] | None = None) -> P:
    """The parameters of a plugin as a document writes them; an empty value counts as not written.

    doubts: takes values that count as something else than they look like.

    Raises:
        ConfigError: E109 for a name that the plugin does not have, E104 and E105 for a value, E105 for a required
            one that is not set; several as `Problems`.
    """
    known = parameters_of(params)
    if taken := sorted(known.keys() & choice.keys):
        what = f"{choice.owner} has a parameter '{taken[0]}', which is a key of the {_section_of(choice)}"
        raise PluginError("E605", what, hint="report it to the authors of the plugin")
    values: dict[str, object] = {}
    problems = Collector()
    for name, raw in choice.values.items():
        path = (*choice.path, name)
        if name not in known:
            problems.add(unknown_parameter(name, choice, list(known)))
        elif raw is not None:
            with problems.collecting(), placed(choice.document.place(path)):
                values[known[name].field] = value = known[name].convert_all(raw)
                if doubts is not None and (doubt := counts_as(known[name], raw, value)):
                    doubt.place = choice.document.place(path)
                    doubts.append(doubt)
    for name, parameter in known.items():
        if parameter.required and choice.values.get(name) is None:
            problems.add(_missing(name, choice))
    problems.raise_any()
    try:
        return params.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(detail["msg"] for detail in error.errors())
        what = f"parameters of {choice.owner}: {faults}"
        raise ConfigError("E105", what, place=choice.document.place(choice.path)) from None


def unknown_parameter(name: str, choice: Choice, known: Collection[str]) -> ConfigError:
    """The error of a parameter that the plugin does not have, or of a key that its section does not have."""
    place = choice.document.key_place((*choice.path, name))
    if not did_you_mean(name, list(known)) and (near := did_you_mean(name, list(choice.keys))):
        return ConfigError("E103", f"unknown key '{name}' in the {_section_of(choice)}{near}", place=place)
    near = did_you_mean(name, list(known))
    hint = None if near else f"its parameters: {', '.join(known) or 'none'}"
    return ConfigError("E109", f"{choice.owner} has no parameter '{name}'{near}", place=place, hint=hint)


def _section_of(choice: Choice) -> str:
    """What the section of a plugin is called."""
    return "evaluation" if choice.kind is Evaluator else str(choice.path[-1])


def _missing(name: str, choice: Choice) -> ConfigError:
    section = choice.path[-1] if choice.path else "parameters"
    what = f"missing required parameter '{name}' of {choice.owner}"
    named = {"output": "writer", "tokenizer": "strategy"}.get(str(section), "name")
    chosen = f"{section}: {{{named}: {choice.name}, {name}: …}}"
    if choice.kind is Policy:
        return ConfigError("E105", what, hint=f"give it, such as -p {name}=…")
    if choice.kind is SideFile:
        chosen = f"side_files: {{{choice.name}: {{{name}: …}}}}"
    if choice.kind is Evaluator:
        chosen = f"{name}: …"
    return ConfigError("E105", what, place=choice.document.place(choice.name_path), hint=f"write '{chosen}'")


# ---- which plugins are chosen ------------------------------------------------------------------------------


def strategy_named(
    document: Document, registry: Registry, exists: Exists, doubts: list[ConfigError]
) -> str | None:
    """The tokenizer strategy that the source of the tokenizer names; None when it names a model, or nothing.

    doubts: takes that there is also a folder of that name.

    Raises:
        MergecoreError: E112 when the name could mean either, E601 to E607 when the strategy cannot be used.
    """
    path, text = _source(document.data)
    if not isinstance(text, str) or not may_name_plugin(text) or path is None:
        return None
    with placed(document.place(path)):
        try:
            strategy: TokenizerStrategy[Any] = registry.get(TokenizerStrategy, text)
        except ConfigError:
            return None
        if strategy.source == "required":
            return None
        if exists(text) and not _is_primary(text, document.data):
            what = f"'{text}' is a tokenizer strategy, and a folder here"
            hint = f"write './{text}' for the folder, or 'tokenizer: {{strategy: {text}}}'"
            ambiguous = ConfigError("E112", what, place=document.place(path), hint=hint)
            if not registry.provider(TokenizerStrategy, text).built_in:
                raise ambiguous  # a package that is installed must not change what a config means
            doubts.append(ambiguous)
    return text


def may_name_plugin(text: str) -> bool:
    """Whether a source can be the name of a tokenizer strategy; a path with a slash, for example, cannot."""
    return 0 < len(text) <= 100 and text[0] not in ".~" and not set(text) & set("/\\@+") and HUB not in text


def _source(data: Mapping[str, Json]) -> tuple[DocPath | None, Json]:
    """Where the source of the tokenizer is written, and what; nothing where a strategy is named."""
    if data.get("tokenizer_source") is not None:
        return ("tokenizer_source",), data["tokenizer_source"]
    section = data.get("tokenizer")
    if not isinstance(section, dict) or section.get("strategy") is not None:
        return None, None
    return ("tokenizer", "source"), section.get("source")


def _is_primary(text: str, data: Mapping[str, Json]) -> bool:
    """Whether a folder is that of the base, or of the first model: then it does not matter which is meant."""
    models = data.get("models")
    first = (
        models[0].get("model")
        if isinstance(models, list) and models and isinstance(models[0], dict)
        else None
    )
    primary = data.get("base_model") or first
    return isinstance(primary, str) and real_path(primary) == real_path(text)


def _check_source(strategy: TokenizerStrategy[Any], document: Document, named: str | None) -> None:
    """Raise E104 when a strategy needs a model and the config has none, or the other way round."""
    section = document.data.get("tokenizer")
    if not isinstance(section, dict) or section.get("strategy") is None:
        return
    source = section.get("source")
    if source is None and strategy.source == "required":
        what = f"the tokenizer strategy '{strategy.name}' needs a model"
        raise ConfigError("E104", what, hint=f"write {{strategy: {strategy.name}, source: MODEL}}")
    if source is not None and strategy.source == "unused":
        what = f"the tokenizer strategy '{strategy.name}' takes no source"
        place = document.place(("tokenizer", "source"))
        raise ConfigError("E104", what, place=place, hint="remove 'source', or 'strategy'")


def _choices(document: Document, sections: Sections, strategy: str | None) -> Iterator[Choice]:
    """What is chosen, as far as it is written in a form that can be read."""
    for section, keys in sections.items():
        raw = document.data.get(section)
        whole = raw if isinstance(raw, dict) else {}
        values = {name: one for name, one in whole.items() if name not in keys}
        at: DocPath = (section,)
        if section in ("side_files", "chat_template"):
            yield from _side_files(whole, document) if section == "side_files" else ()
            continue
        kind: type
        name: Json
        if section == "tokenizer":
            kind, (name, at) = TokenizerStrategy, _strategy(document.data, whole, strategy)
        elif section == "output":
            kind, name, at = OutputWriter, whole.get("writer", WRITER), (section, "writer")
        else:
            kind, name = Executor, whole.get("name") if whole else raw
        if isinstance(name, str):
            yield Choice(kind, name, values, (section,), at, keys, document)


def _side_files(section: Mapping[str, Json], document: Document) -> Iterator[Choice]:
    for name, said in section.items():
        values = said if isinstance(said, dict) else {}
        path = ("side_files", name)
        yield Choice(SideFile, name, values, path, path, (), document)


def _no_choices(document: Document) -> Iterator[ConfigError]:
    """What is said about side files and is neither yes, nor no, nor parameters."""
    section = document.data.get("side_files")
    for name, said in section.items() if isinstance(section, dict) else ():
        if not isinstance(said, bool | dict | None):
            what = f"'side_files.{name}' is {shown(said)}; true, false or a mapping is expected"
            yield ConfigError("E104", what, place=document.place(("side_files", name)))


def _check_side_file(value: SideFile[Any]) -> None:
    """Raise E105 for one that another key chooses."""
    if value.chosen_by != "side_files":
        what = f"'{value.name}' is chosen by '{value.chosen_by}: {value.name}'"
        raise ConfigError("E105", what, hint="write that in place of it")


def check_template(text: str, registry: Registry) -> None:
    """Raise E105 for what is neither `auto`, nor the name of a chat template, nor the text of one."""
    if is_template_text(text) or text == "auto":
        return
    named = [one.name for one in registry.all(SideFile) if one.chosen_by == "chat_template"]
    if text in named or "@" in text:
        side_file: SideFile[Any] = registry.get(SideFile, text)
        if side_file.chosen_by == "chat_template":
            return
    shown = text if len(text) < 60 else f"{text[:57]}…"
    near = did_you_mean(shown, ["auto", *named])
    hint = f"write auto, one of {', '.join(named)}, or the text of a Jinja template"
    raise ConfigError("E105", f"'{shown}' is not a known chat template{near}", hint=hint)


def _strategy(
    data: Mapping[str, Json], section: Mapping[str, Json], named: str | None
) -> tuple[Json, DocPath]:
    """The strategy that is chosen, and where; None when nothing is said about the tokenizer."""
    if data.get("tokenizer_source") is not None:
        return named or OF_MODEL, ("tokenizer_source",)
    if data.get("tokenizer") is None:
        return None, ()
    if section.get("strategy") is not None:
        return section["strategy"], ("tokenizer", "strategy")
    path = ("tokenizer", "source")
    return named or (ALL_TOKENS if section.get("source") is None else OF_MODEL), path
