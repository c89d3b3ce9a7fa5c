"""What is wrong with the text of a config, found without opening a model: for editors, at each keystroke."""

from __future__ import annotations

from functools import partial

from mergecore.config.documents import read_document
from mergecore.config.grammar import read_config
from mergecore.errors import Collector, MergecoreError
from mergecore.files.yaml_document import Document, parse_documents
from mergecore.planning.several.arranging import arranged
from mergecore.planning.several.recipes import recipe_of, without_choice
from mergecore.planning.toolkit import methods_by_parameter
from mergecore.plugins.registry import Registry
from mergecore.types import MergeMethod
from mergecore.types.params import Params


def check_text(
    text: str, name: str = "config", *, registry: Registry | None = None
) -> tuple[MergecoreError, ...]:
    """What is wrong with a config, as far as its text alone says it; `plan` finds this too, and the rest.

    name: what messages call it.
    """
    registry = registry or Registry.discover()
    problems = Collector()
    with problems.collecting():
        documents = parse_documents(text, name)
        with problems.collecting():
            arranged(documents)
        for document in documents:
            with problems.collecting():
                _check(document, registry)
    return tuple(problems.errors)


def _check(document: Document, registry: Registry) -> None:
    """Raise what is wrong with one document."""
    recipe = recipe_of(document, registry)
    if recipe is None:
        read_config(
            document,
            lambda method: _params_of(method, registry),
            elsewhere=partial(methods_by_parameter, registry),
            registry=registry,
            doubts=[],
        )
    elif recipe.schema is not None:
        schema = recipe.schema if isinstance(recipe.schema, type) else recipe.schema()
        read_document(without_choice(document), schema, recipe.name, registry, [])


def _params_of(method: str, registry: Registry) -> type[Params]:
    params: type[Params] = registry.get(MergeMethod, method).params
    return params
