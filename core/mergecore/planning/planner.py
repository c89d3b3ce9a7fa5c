"""What recipes and merges make their plans with; read `DocumentPlanner`, the one of a document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel

from mergecore.config.chosen import Choice, read_params
from mergecore.config.documents import CommonSection, common_of, document_of, places_of, read_document
from mergecore.config.reference import exists_below, parse_reference
from mergecore.errors import Collector, ConfigError, PluginError, placed
from mergecore.files.strict_json import parse_mapping
from mergecore.files.yaml_document import DocPath, Document
from mergecore.models.opener import NOT_THERE, Opener, WithOpened
from mergecore.planning.before import Before, names_in
from mergecore.planning.opened import OpenedModels
from mergecore.planning.side_files.cleaning import cleaned
from mergecore.planning.side_files.collect import CONFIG, collected, named_template
from mergecore.planning.side_files.loadable import Origins
from mergecore.planning.side_files.write import output_files
from mergecore.planning.tensors.faults import faults, unread
from mergecore.planning.toolkit import checked_side_files, lay_out, versions
from mergecore.planning.vocabulary.embedding_rows import OutputTokens
from mergecore.planning.vocabulary.output import templated
from mergecore.plugins.registry import Registry
from mergecore.tokenizers.chat_template import chosen_template
from mergecore.tokenizers.checks import checked
from mergecore.tokenizers.files import is_tokenizer_file
from mergecore.tokenizers.read import VocabularyReader
from mergecore.types import (
    Checkpoint,
    Description,
    Dropped,
    Executor,
    Json,
    LayoutRequest,
    Loaded,
    MergeMethod,
    ModelReference,
    OpenOptions,
    OutputWriter,
    Plan,
    Recipe,
    SideFile,
    SideFileRequest,
    SideFiles,
    Step,
    TokenTable,
    Vocabulary,
)
from mergecore.types.params import Params
from mergecore.types.plans import ConfigEdit, PlanOptions, PluginChoice

S = TypeVar("S", bound=BaseModel)
V = TypeVar("V")

Compile: TypeAlias = "Callable[[Document, DocumentPlanner], Plan]"
"""The plan of a document of any kind."""

_NO_OPTIONS = PlanOptions()
_OF_MERGES = ("missing", "unexpected", "allow_crimes")
NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True)
class DocumentPlanner:
    """The `mergecore.types.Planner` of one document."""

    document: Document
    registry: Registry
    options: PlanOptions
    compile_any: Compile
    recipe: str = ""
    """The recipe that compiles the document; empty for a merge."""
    order: Before = field(kw_only=True)
    """What is carried out before."""
    known: Mapping[str, Checkpoint] = field(default_factory=dict)
    """Opened models by names that the document may call them by."""
    notes: list[ConfigError] = field(default_factory=list)
    """What of the document may be another thing than it looks like."""
    reader: VocabularyReader = field(default_factory=VocabularyReader)
    taken: list[Mapping[str, str]] = field(default_factory=list)
    """The plugins of plans that a recipe has had compiled, with their versions."""
    _described: dict[tuple[int, bool], tuple[Checkpoint, Description]] = field(default_factory=dict)

    @property
    def opener(self) -> Opener:
        """What opens and describes models."""
        options, known = OpenOptions(self.options.offline), WithOpened(self.known, self.order)
        return Opener(self.registry, options, self.document.place, known=known)

    @property
    def doubts(self) -> list[ConfigError] | None:
        """Where to put what may be another thing than it looks like; None where that is an error."""
        return None if self.options.strict else self.notes

    @property
    def seed(self) -> int:
        """What random numbers of the plan depend on."""
        return self._common.seed if self.options.seed is None else self.options.seed

    def offered(self, kind: type[V]) -> list[V]:
        """All values of a kind that plugins yield and that can be used."""
        return self.registry.all(kind)

    def named(self, kind: type[V], name: str, path: DocPath = ()) -> V:
        """The one called `name`, or `NAME@DISTRIBUTION`."""
        with placed(self.document.place(path)):
            return self.registry.get(kind, name)

    # ---- reading ----

    def read_document(self, schema: type[S]) -> S:
        """The document as `schema` declares it; when it is wrong, the models in it are looked for all the same."""
        problems, named = Collector(), list[Json]()
        with problems.collecting():
            return read_document(self.document, schema, self.recipe, self.registry, self.doubts, named)
        for path, text in places_of(self.document, named):
            with problems.collecting(only=NOT_THERE):  # a recipe may open it otherwise, and says the rest
                self.opener.check_local(text, path)
        problems.raise_any()
        raise AssertionError("what keeps a document from being read is an error")

    def open(
        self,
        model: ModelReference | str,
        path: DocPath = (),
        *,
        weights: bool = True,
        adapter: bool = False,
    ) -> Checkpoint:
        """A model, named as in a config."""
        if isinstance(model, str):
            with placed(self.document.place(path)):
                model = parse_reference(model, exists_below(Path()))
        options = OpenOptions(self.options.offline, weights, adapter)
        return replace(self.opener, options=options).open(model, path)

    def describe(self, model: Checkpoint, *, thorough: bool = False) -> Description:
        """What is known about the tensors of a model."""
        key = (id(model), thorough)
        if key not in self._described:  # the model is kept, so that its number stays its own
            self._described[key] = (model, self.opener.describe(model, thorough))
        return self._described[key][1]

    def loaded(self, model: Checkpoint, like: Checkpoint | None = None) -> Loaded:
        """The modules that a loader makes of a model, by the class that its own config names, or that of `like`."""
        return self.opener.loaded(model, like or model)

    def completed(self, model: Checkpoint) -> Mapping[str, Json] | None:
        """The config of a model with what its loader takes for what is not said; None when no one knows the loader."""
        return self.opener.completed(model)

    def vocabulary(self, model: Checkpoint) -> TokenTable | None:
        """The vocabulary of a model; None when it has no tokenizer."""
        return self.reader.read(model)

    def tokenizer(
        self, model: Checkpoint, *, chat_template: str | None = None, templates_of: Sequence[Checkpoint] = ()
    ) -> Vocabulary:
        """The tokenizer files of a model as they are, with the chat template that a document asks for."""
        own = {name: path for name, path in model.side_files.items() if is_tokenizer_file(name)}
        vocabulary = Vocabulary(own)
        if chat_template:
            named = partial(named_template, registry=self.registry)
            template = chosen_template(chat_template, templates_of or (model,), named)
            vocabulary = templated(vocabulary, template)
        return checked(vocabulary, model.name)

    def compile(
        self, document: Document | Mapping[str, object], models: Mapping[str, Checkpoint] = NOTHING
    ) -> Plan:
        """The plan of another document, which may call `models` by their names."""
        inner = document if isinstance(document, Document) else document_of(document)
        known = {**self.known, **models}
        made = self.compile_any(inner, replace(self, document=inner, recipe="", known=known))
        self.taken.append(made.plugins)
        return made

    def before(self, name: str, plan: Plan) -> Checkpoint:
        """Have another plan carried out before: the model that it will make."""
        return self.order.add(name, plan)

    # ---- making ----

    def side_files(
        self,
        models: Sequence[Checkpoint],
        steps: Sequence[Step],
        *,
        primary: int = 0,
        made_by: str = "",
        config: ConfigEdit | None = NOTHING,
        vocabulary: Vocabulary | None = None,
        pad_to_multiple_of: int = 1,
        selected: Origins = NOTHING,
        keep: Callable[[str], bool] = lambda name: True,
        more: Mapping[str, Path | bytes] = NOTHING,
        card: Mapping[str, Json] = NOTHING,
        title: str = "",
        summary: str = "",
        descriptions: Sequence[Description] = (),
        merged: Sequence[int] | None = None,
    ) -> SideFiles:
        """The files beside the weights; `descriptions`: those that are known, `merged`: which are merged as a whole."""
        self._check(models, steps)
        opened = OpenedModels(tuple(models), self._descriptions(models, descriptions), primary)
        vocabulary = vocabulary or self.tokenizer(opened.first)
        files, edited, told = output_files(
            opened,
            steps,
            OutputTokens(vocabulary, multiple=pad_to_multiple_of),
            self.opener.loadability,
            selected=selected,
            strict=bool(self.recipe) or self.options.complete,
            edit=config,
            keep=keep,
        )
        request = SideFileRequest(
            models=opened.checkpoints,
            primary=primary,
            merged=tuple(range(len(models)) if merged is None else merged),
            steps=tuple(steps),
            config=edited,
            files={**files, **more},
            document=self.effective(models),
            title=self.title or title,
            made_by=made_by or self.recipe,
            summary=summary,
            card=card,
        )
        further = collected(request, self.registry, self._common.side_files)
        every, left_out = cleaned({**request.files, **further.files}, edited)
        return SideFiles(every, (*vocabulary.warnings, *told, *left_out, *further.warnings))

    def plan(
        self,
        models: Sequence[Checkpoint],
        steps: Sequence[Step],
        side_files: SideFiles,
        *,
        primary: int = 0,
        selected: Origins = NOTHING,
        unused: Mapping[int, str] = NOTHING,
        warnings: Sequence[str] = (),
        output: PluginChoice | None = None,
        used: Iterable[tuple[type, str]] = (),
        doing: str = "",
        descriptions: Sequence[Description] = (),
        dropped: Sequence[Dropped] | None = None,
    ) -> Plan:
        """The plan of `steps`.

        dropped: what no step reads, where that is known.
        """
        self._check(models, steps)
        writer = output or PluginChoice(self._common.output.writer, self._common.output.params)
        methods = {step.method: (MergeMethod, step.method) for step in steps if step.method}
        own = [(Recipe, self.recipe)] if self.recipe else []
        taken = [*own, *(one for name, one in methods.items() if name not in self._own_methods)]
        asked = [(SideFile, name) for name, said in self._common.side_files.items() if said is not False]
        described = self._descriptions(models, descriptions)
        request = self._layout_request(steps, side_files.files, models[primary], described[primary])
        layout = lay_out(self.registry, writer.name, request, writer.params, self.options.shard_size)
        checked_side_files(layout, side_files.files)
        return Plan(
            models=tuple(models),
            primary=primary,
            steps=tuple(steps),
            layout=layout,
            side_files=side_files.files,
            seed=self.seed,
            executor=self._common.executor.name,
            executor_params=self._executor(),
            document=self.effective(models),
            descriptions=described,
            layers={prefix: tuple(layers) for prefix, layers in selected.items()},
            dropped=tuple(unread(models, steps, unused) if dropped is None else dropped),
            warnings=(*map(str, self.notes), *self._idle(), *side_files.warnings, *warnings),
            plugins=versions(self.registry, [*taken, (OutputWriter, writer.name), *asked, *used]),
            title=self.title,
            recipe=self.recipe,
            writer=writer.name,
            doing=doing,
        )

    @property
    def title(self) -> str:
        """The name that the document gives the model."""
        return self._common.name or ""

    def effective(self, models: Sequence[Checkpoint]) -> dict[str, Json]:
        """The document with what the command line changes of the result, without what changes nothing of it.

        It also holds those of the plans that make any of the `models`.
        """
        changes: dict[str, Json] = {
            name: getattr(self.options, name)
            for name in ("missing", "unexpected", "seed", "shard_size", "allow_crimes")
            if self._says(name) and not (self.recipe and name in _OF_MERGES)
        }
        kept = {key: value for key, value in self.document.data.items() if key != "executor"}
        named = [name for one in models for name in names_in(one.reference)]
        before: dict[str, Json] = {
            name: {**self.order.plans[key].document}
            for name in named
            if (key := self.order.key_of(name)) in self.order.plans
        }
        more = {"made_before": before, "command_line": changes}
        return {**kept, **{key: value for key, value in more.items() if value}}

    def _says(self, option: str) -> bool:
        """Whether the command line says something of an option."""
        return bool(getattr(self.options, option) != getattr(_NO_OPTIONS, option))

    def _idle(self) -> Iterator[str]:
        """What to say about options that only merges know."""
        for name in _OF_MERGES if self.recipe else ():
            if self._says(name):
                option = f"--{name.replace('_', '-')}"
                yield f"{option} has no effect on a document of the recipe '{self.recipe}'"

    @cached_property
    def _common(self) -> CommonSection:
        return common_of(self.document)

    @property
    def _own_methods(self) -> Mapping[str, MergeMethod[Any]]:
        recipe = self.registry.get(Recipe, self.recipe) if self.recipe else None
        return {one.name: one for one in recipe.methods} if recipe else {}

    def _descriptions(
        self, models: Sequence[Checkpoint], known: Sequence[Description]
    ) -> tuple[Description, ...]:
        return tuple(known) or tuple(self.describe(model) for model in models)

    def _layout_request(
        self,
        steps: Sequence[Step],
        files: Mapping[str, Path | bytes],
        primary: Checkpoint,
        description: Description,
    ) -> LayoutRequest:
        return LayoutRequest(
            tensors=tuple(one for step in steps for one in step.outputs),
            config=_config_in(files),
            side_files=files,
            vocabulary=lambda: self.reader.read_files(primary, files),
            primary=primary,
            description=description,
            title=self.title,
        )

    def _executor(self) -> Params:
        """The parameters of the executor that the document names."""
        named = self._common.executor
        chosen: Executor[Any] = self.registry.get(Executor, named.name)
        params: Params = read_params(
            chosen.params, Choice(Executor, chosen.name, named.params, ("executor",))
        )
        return params

    def _check(self, models: Sequence[Checkpoint], steps: Sequence[Step]) -> None:
        """Raise E605 for steps of a recipe that contradict each other or the models."""
        for fault in faults(models, steps) if self.recipe else ():
            raise PluginError("E605", f"recipe '{self.recipe}': {fault}", hint="report it to its authors")


def _config_in(files: Mapping[str, Path | bytes]) -> Mapping[str, Json]:
    """The config.json of the output; empty where it has none."""
    content = files.get(CONFIG)
    return parse_mapping(content, code="E240", place=CONFIG) if isinstance(content, bytes) else {}
