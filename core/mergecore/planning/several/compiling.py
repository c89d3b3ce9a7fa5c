"""The plan of all documents of a file: each is planned when another one reads it; read `planned`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from mergecore.config.reference import exists_below
from mergecore.errors import Collector, ConfigError, Place, PluginError, some
from mergecore.files.yaml_document import Document
from mergecore.planning.before import Actual, Before, names_in, settled, unreadable
from mergecore.planning.merge import plan_merge
from mergecore.planning.planner import DocumentPlanner
from mergecore.planning.several.arranging import Arranged, arranged, check_name, name_of, place_of
from mergecore.planning.several.fusing import Verdict, chosen
from mergecore.planning.several.recipes import RECIPE, recipe_of, without_choice
from mergecore.planning.toolkit import versions
from mergecore.plugins.registry import Registry
from mergecore.tokenizers.read import VocabularyReader
from mergecore.types import Checkpoint, Earlier, ModelReference, Plan, Recipe
from mergecore.types.plans import DocumentFacts, PlanOptions, PlanPart


@dataclass(frozen=True)
class Making:
    """How documents become plans.

    pin: ends a plan: notes what its side files are.  is_made: whether a folder is what a document has made for others.
    fuse: the model that a plan would make, computed while it is read.
    """

    registry: Registry
    options: PlanOptions
    pin: Callable[[Plan], Plan]
    fuse: Callable[[Plan, Checkpoint], Checkpoint]
    is_made: Callable[[Path], bool]


def planned(
    documents: Sequence[Document],
    making: Making,
    actual: Mapping[str, Actual],
    scratch: Callable[[], Path],
    verdicts: Mapping[str, Verdict] | None = None,
) -> Plan:
    """The plan of the document that is the result, and of those that it reads; `actual`: what is made already.

    verdicts: which of them are computed while they are read; found here where that is not known yet.

    Raises:
        MergecoreError: everything that is wrong with any of them, several as `Problems`.
    """
    with _without_collections():
        file = _File(arranged(documents, making.options.result), making, scratch, actual, verdicts or {})
        made, result = file.plan()
        if verdicts is None and file.order.plans:
            order = file.order
            verdicts = chosen(order.plans, order.models, made, making.registry, making.options.fuse)
            if any(one.fused for one in verdicts.values()):
                return planned(documents, making, actual, scratch, verdicts)
            file.verdicts = verdicts
        made = file.in_order(made, result)
        again = partial(planned, documents, making, verdicts=verdicts or {})
        return replace(made, again=again if made.earlier else None)


def compiled(document: Document, planner: DocumentPlanner) -> Plan:
    """The plan of a document by its recipe; one without is a merge config."""
    recipe = recipe_of(document, planner.registry)
    if recipe is None:
        return plan_merge(document, replace(planner, document=document))
    bare = without_choice(document)
    with planner.registry.calling(Recipe, recipe.name):
        taken: list[Mapping[str, str]] = [versions(planner.registry, [(Recipe, recipe.name)])]
        made = recipe.compile(bare, replace(planner, document=bare, recipe=recipe.name, taken=taken))
        if not isinstance(made, Plan):
            what = f"recipe '{recipe.name}' returns {type(made).__name__} in place of a Plan"
            raise PluginError("E605", what)
    made = replace(made, plugins={name: said for one in (*taken, made.plugins) for name, said in one.items()})
    if RECIPE in document.data and made.recipe:  # a recipe may have another document planned
        return replace(made, document={RECIPE: document.data[RECIPE], **made.document})
    return made


@contextmanager
def _without_collections() -> Iterator[None]:
    """Let Python not look for cycles: plans are many small values without any, and a third of the time went there."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@dataclass
class _File:
    """The documents of a file while they are planned; the `Others` of each of them."""

    documents: Arranged
    making: Making
    scratch: Callable[[], Path]
    actual: Mapping[str, Actual]
    verdicts: Mapping[str, Verdict]
    problems: Collector = field(default_factory=Collector)
    _begun: list[str] = field(default_factory=list)
    """The documents that are being planned, of which each reads the next."""
    _failed: set[str] = field(default_factory=set)
    _consequences: list[ConfigError] = field(default_factory=list)
    """Errors of documents that read one that has failed, which is told itself."""
    _made: dict[str, Plan] = field(default_factory=dict)
    _reader: VocabularyReader = field(default_factory=VocabularyReader)

    def __contains__(self, name: object) -> bool:
        return name in self.documents.readable

    def __iter__(self) -> Iterator[str]:
        return iter(self.documents.readable)

    @cached_property
    def order(self) -> Before:
        """What is planned so far."""
        fused = [name for name, one in self.verdicts.items() if one.fused]
        return Before(self.scratch, self.actual, self, fused=fused, fuse=self.making.fuse)

    def plan(self) -> tuple[Plan, Document]:
        """The plan of the result, and the document that it is of."""
        result = self.documents.result
        if result:
            self._compile(result, "")
        if (
            not result or self.problems.errors
        ):  # then a document may be read by nobody for a name that is misspelt
            for one in self.documents.everyone:
                self._once(one)
        self.problems.raise_any()
        result = result or self._last()
        return self._made[name_of(result) or ""], result

    def need(self, name: str, reader: str, reference: ModelReference, place: Place | None) -> None:
        """Have a document planned, unless it is."""
        document = self.documents.readable[name]
        check_name(name, document)
        if reference.revision:
            what = f"'{name}' is a document of this file, which has no revision '{reference.revision}'"
            raise ConfigError(
                "E118", what, place=place, hint=f"write 'hf:{reference}' for the model of the hub"
            )
        if exists_below(Path())(name) and not self.making.is_made(Path(name)):
            what = f"'{name}' is a document of this file, and a folder or file here"
            hint = f"write './{name}' for that, or give the document another name"
            raise ConfigError("E118", what, place=place, hint=hint)
        if name in self._begun:
            raise self._circle(name, place)
        self._once(document)
        if name in self._failed:
            self._consequences.append(
                ConfigError("E118", f"the document '{name}' cannot be planned", place=place)
            )
            raise self._consequences[-1]
        if fault := unreadable(self._made[name], "other documents"):
            raise ConfigError("E118", f"the document '{name}' {fault}", place=place_of(document))
        self.order.put(name, self._made[name], ModelReference(name))

    def _once(self, document: Document) -> None:
        name = name_of(document) or ""
        if name not in self._made and name not in self._failed:
            self._compile(document, name)

    def _compile(self, document: Document, scope: str) -> None:
        """Plan a document, or note what is wrong with it."""
        name = name_of(document) or ""
        self._begun.append(name)
        order = replace(self.order, scope=scope)
        planner = DocumentPlanner(
            document, self.making.registry, self.making.options, compiled, order=order, reader=self._reader
        )
        found = Collector()
        with found.collecting():
            self._made[name] = compiled(document, planner)
        self._begun.pop()
        if found.errors:
            self._failed.add(name)
            for one in found.errors:
                if not any(one is another for another in self._consequences):
                    self.problems.add(one)

    def _circle(self, name: str, place: Place | None) -> ConfigError:
        way = [*self._begun[self._begun.index(name) :], name]
        what = f"the document '{name}' reads itself"
        if len(way) > 2:
            what = f"documents read each other in a circle: {' → '.join(way)}"
        return ConfigError("E118", what, place=place, hint="name another model in one of them")

    def _last(self) -> Document:
        """The only document that no other reads."""
        read = {name for names in self.order.read.values() for name in names}
        last = [one for one in self.documents.everyone if name_of(one) not in read]
        if len(last) > 1:
            named = some([f"'{name_of(one)}' ({place_of(one)})" for one in last], mark="")
            what = f"{len(last)} documents are read by no other, and one can be the result: {named}"
            hint = "take the name of the result away, or choose one by --result NAME"
            raise ConfigError("E118", what, place=place_of(last[0]), hint=hint)
        return last[0]

    def in_order(self, made: Plan, result: Document) -> Plan:
        """The plan of the result with those before it, each with its place among those that are carried out."""
        plans = self.order.plans
        facts = tuple(self.facts(made, result)) if plans else ()
        written = [name for name in plans if name not in self.order.fused]
        ended = {name: self._ended(name, plans[name]) for name in written}
        ended[""] = self._ended(self._scope(result), made)
        if written:
            parts = [PlanPart(name, number, len(ended)) for number, name in enumerate(ended, 1)]
            ended = {part.name: replace(ended[part.name], part=part) for part in parts}
        made = ended.pop("")
        earlier = tuple(Earlier(name, one) for name, one in ended.items())
        warnings = (*self.unused(result), *made.warnings)
        return replace(made, earlier=earlier, documents=facts, warnings=warnings)

    def _scope(self, result: Document) -> str:
        return "" if result is self.documents.result else name_of(result) or ""

    def _ended(self, key: str, plan: Plan) -> Plan:
        """A plan with what it says of plans that it computes while it reads them, which keeps nothing of our folder."""
        plan = self.making.pin(plan)
        if not self.order.plans:
            return plan
        inside = {name: self.order.plans[name] for name in self._fused_in(key, plan)}
        plugins = {plugin: version for one in inside.values() for plugin, version in one.plugins.items()}
        told = [f"{name}: {text}" for name, one in inside.items() for text in one.warnings]
        plan = replace(plan, plugins={**plugins, **plan.plugins}, warnings=(*told, *plan.warnings))
        return settled(plan, self.scratch())

    def _fused_in(self, key: str, plan: Plan) -> Iterator[str]:
        """The names of what a plan computes while it reads it, and of what these compute."""
        for name in self._read_by(key, plan):
            if name in self.order.fused:
                yield name
                yield from self._fused_in(name, self.order.plans[name])

    def _read_by(self, key: str, plan: Plan) -> list[str]:
        """The names of the plans whose models a plan, called `key`, reads."""
        named = {name for model in plan.models for name in names_in(model.reference)}
        keys = {self.order.key_in(key, name) for name in named}
        return [name for name in self.order.plans if name in keys]

    def unused(self, result: Document) -> Iterator[str]:
        """What to say of documents that the result does not need."""
        for one in self.documents.everyone:
            name = name_of(one) or ""
            if one is not result and name not in self.order.plans:
                called = f"the document '{name}'" if name else "the document without a name"
                what = f"{called} is not read by the result, so it is not made"
                error = ConfigError("E118", what, place=place_of(one))
                if self.making.options.strict:
                    raise error
                yield str(error)

    def facts(self, plan: Plan, result: Document) -> Iterator[DocumentFacts]:
        """What there is to show of each document, the result last."""
        scope = self._scope(result)
        every = [*self.order.plans.items(), (scope, plan)]
        inside = {key: self._read_by(key, one) for key, one in every}
        for key, one in every:
            parts = [part for part, own in self.order.scopes.items() if own == key]
            of_parts = {name for part in parts for name in inside[part]}
            opened = {name for name in self.order.read.get(key, {}) if name in self and name not in of_parts}
            reads = tuple(name for name in self.order.plans if name in {*opened, *inside[key]})
            verdict = self.verdicts.get(key, Verdict(False, ""))
            name = "" if one is plan else key
            yield DocumentFacts(
                name, one.title, made_by(one), reads, one.layout.size, verdict.fused, verdict.why
            )


def made_by(plan: Plan) -> str:
    """The recipe or the merge method that makes a plan."""
    return plan.recipe or str(plan.document.get("merge_method") or "")
