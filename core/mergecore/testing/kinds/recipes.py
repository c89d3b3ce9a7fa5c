"""Checks of recipes; read `check_recipe`, then `RECIPE`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mergecore.errors import MergecoreError
from mergecore.output.verify import verify_folder
from mergecore.pipeline.folders import execute
from mergecore.pipeline.plans import plan
from mergecore.plugins.registry import Registry
from mergecore.testing.findings import NotCheckedError, Property, demand, hold
from mergecore.testing.kinds.writers import digests
from mergecore.testing.registries import registry_with
from mergecore.types import Json, Plan, Recipe
from mergecore.types.execution import RunOptions


def check_recipe(
    recipe: Recipe,
    document: Mapping[str, Any],
    *,
    registry: Registry | None = None,
    without: Collection[str] = (),
) -> None:
    """Check that a recipe takes its documents and no others, and that what it plans is made, and made again.

    document: one that it accepts, of models that are there; `tiny_model` makes some.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    with recipe_case(recipe, document, registry) as case:
        hold(f"recipe '{recipe.name}'", RECIPE, case, without)


@dataclass
class RecipeCase:
    """A recipe, and a document of its kind; none where only what needs no document is checked."""

    recipe: Recipe
    document: Mapping[str, Any] | None
    registry: Registry
    folder: Path

    @property
    def given(self) -> Mapping[str, Any]:
        """The document."""
        if self.document is None:
            raise NotCheckedError("it needs a document")
        return self.document

    def plan(self) -> Plan:
        """The plan of the document."""
        return plan(self.given, registry=self.registry)

    @cached_property
    def written(self) -> Path:
        """What the document makes."""
        return execute(
            self.plan(), self.folder / "out", registry=self.registry, options=RunOptions(threads=1)
        )


@contextmanager
def recipe_case(
    recipe: Recipe, document: Mapping[str, Any] | None, registry: Registry | None = None
) -> Iterator[RecipeCase]:
    """A case for `RECIPE`."""
    with TemporaryDirectory() as folder:
        yield RecipeCase(recipe, document, registry or registry_with(Recipe, recipe), Path(folder))


OTHER_DOCUMENTS: Sequence[Mapping[str, Json]] = (
    {},
    {"merge_method": "linear", "models": [{"model": "a"}, {"model": "b"}]},
    {"slices": [{"sources": [{"model": "a", "layer_range": [0, 1]}]}]},
    {"name": "a", "seed": 1},
    {"something": None, "else": [1, {"x": 2}]},
)


def _accepts_its_own(case: RecipeCase) -> None:
    answer = case.recipe.accepts(dict(case.given))
    demand(answer is True, f"`accepts` returns {answer!r} for the document; return True for what it compiles")


def _leaves_others(case: RecipeCase) -> None:
    for document in OTHER_DOCUMENTS:
        answer = case.recipe.accepts(document)
        demand(
            answer is False,
            f"`accepts` returns {answer!r} for {dict(document)}; return False for what is no document of it",
        )


def _schema_is_one(case: RecipeCase) -> None:
    if case.recipe.schema is None:
        raise NotCheckedError("it has no schema")
    schema: Any = case.recipe.schema
    made: Any = schema if isinstance(schema, type) else schema()
    described = made.model_json_schema()
    lacking = [name for name, one in described.get("properties", {}).items() if not one.get("description")]
    demand(
        not lacking,
        f"the key '{min(lacking, default='')}' of its schema has no description; "
        "say what it means by Field(description=…)",
    )


def _refuses_unknown_keys(case: RecipeCase) -> None:
    document = {**case.given, "no_such_key": 1}
    if not case.recipe.accepts(document):
        return
    try:
        plan(document, registry=case.registry)
    except MergecoreError as error:
        demand(
            "no_such_key" in str(error),
            f"for an unknown key it says something else: {error}; read documents by `planner.read_document`",
        )
    else:
        raise AssertionError(
            "it ignores a key that it does not know; read documents by `planner.read_document`"
        )


def _plans_the_same(case: RecipeCase) -> None:
    first, second = case.plan(), case.plan()
    demand(
        (first.steps, first.layout) == (second.steps, second.layout),
        "planned twice, the steps or their places differ; sort what has no order of its own",
    )


def _planning_writes_nothing(case: RecipeCase) -> None:
    models = [one.folder for one in case.plan().models]
    near = sorted({Path.cwd(), case.folder, *models, *(one.parent for one in models)})
    before = {one: _listing(one) for one in near}
    case.plan()
    for folder, names in before.items():
        new = _listing(folder) - names
        demand(
            not new,
            f"planning writes files, such as {min(new, default='')} in {folder}; make them as `side_files` of the plan",
        )


def _listing(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()} if folder.is_dir() else set()


def _is_made(case: RecipeCase) -> None:
    verify_folder(case.written, case.registry)


def _threads_make_the_same(case: RecipeCase) -> None:
    options = RunOptions(threads=4)
    out = execute(case.plan(), case.folder / "threads", registry=case.registry, options=options)
    first, second = digests(case.written), digests(out)
    differing = sorted(name for name in {**first, **second} if first.get(name) != second.get(name))
    demand(not differing, f"with 4 threads, other bytes are made in {', '.join(differing)}")


RECIPE: Sequence[Property[RecipeCase]] = (
    Property("accepts", "it accepts its document", _accepts_its_own),
    Property("others", "it leaves other documents alone", _leaves_others),
    Property("schema", "its schema describes every key", _schema_is_one),
    Property("keys", "unknown keys are refused", _refuses_unknown_keys),
    Property("same", "planned again, the plan is the same", _plans_the_same),
    Property("quiet", "planning writes nothing", _planning_writes_nothing),
    Property("made", "what it plans is made and verified", _is_made),
    Property("threads", "threads make the same bytes", _threads_make_the_same),
)
"""What every recipe keeps."""
