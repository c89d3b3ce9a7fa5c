"""Which recipe compiles a document: the one that it names, or else the one that accepts it; read `recipe_of`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mergecore.config.parameters.declared import shown
from mergecore.errors import ConfigError, PluginError, placed
from mergecore.files.yaml_document import Document
from mergecore.plugins.registry import Registry
from mergecore.types import Recipe

RECIPE = "recipe"
"""The key of a document that names its recipe, where several accept it or have one name."""


def recipe_of(document: Document, registry: Registry) -> Recipe | None:
    """The recipe of a document; None for a merge config.

    Built-in recipes are asked first.  Those of other packages get no document with a `merge_method` unless it names
    them: a package that is installed changes no merge.

    Raises:
        ConfigError: E104, E108 or E606 for a name that is none of a recipe.
        PluginError: E602 where recipes of several packages accept the document, or have one name.
    """
    named = document.data.get(RECIPE)
    if named is not None:
        with placed(document.place((RECIPE,))):
            if not isinstance(named, str):
                raise ConfigError("E104", f"'{RECIPE}' is {shown(named)}; the name of a recipe is expected")
            return registry.get(Recipe, named)
    everyone = registry.all(Recipe)
    own = [one for one in everyone if registry.provider(Recipe, one.name).built_in]
    if accepting := _accepting(own, document, registry):
        return accepting[0]
    if "merge_method" in document.data:
        return None
    accepting = _accepting([one for one in everyone if one not in own], document, registry)
    if len(accepting) > 1:
        who = " and ".join(
            f"'{one.name}' ({registry.provider(Recipe, one.name).origin})" for one in accepting
        )
        hint = f"write '{RECIPE}: {accepting[0].name}' in it, or another of these names"
        what = f"several recipes accept this document: {who}"
        raise PluginError("E602", what, place=document.place(), hint=hint)
    if not accepting:
        contested = dict(registry.contested(Recipe))
        for name in _accept(contested, document, registry):
            registry.get(Recipe, name.partition("@")[0])  # raises E602, which says how to choose one
    return accepting[0] if accepting else None


def without_choice(document: Document) -> Document:
    """The document as its recipe reads it: without the name of the recipe."""
    if RECIPE not in document.data:
        return document
    return replace(document, data={key: one for key, one in document.data.items() if key != RECIPE})


def _accepting(recipes: Sequence[Recipe], document: Document, registry: Registry) -> list[Recipe]:
    by_name = {one.name: one for one in recipes}
    return [by_name[name] for name in _accept(by_name, document, registry)]


def _accept(recipes: Mapping[str, Recipe], document: Document, registry: Registry) -> Iterator[str]:
    """The names of those that accept a document."""
    for name, one in recipes.items():
        with registry.calling(Recipe, name):
            accepted = one.accepts(document.data)
        if accepted:
            yield name
