"""What every plan needs, whichever document it was compiled from; for merges and recipes alike.

`methods_of` says what makes its steps, `lay_out` where their bytes go, `versions` which plugins take part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mergecore.plugins.registry import Plugin, Registry
from mergecore.types import Layout, MergeMethod, OutputTensor, OutputWriter, Plan, Recipe, Step


def methods_of(plan: Plan, registry: Registry) -> tuple[dict[str, MergeMethod[Any]], Mapping[str, Plugin]]:
    """The methods of the steps, and the plugins that provide them, by name.

    Raises:
        MergecoreError: E108 or E606 for a method that nobody provides.
    """
    names = sorted({step.method for step in plan.steps if step.method})
    own = {one.name: one for one in registry.get(Recipe, plan.recipe).methods} if plan.recipe else {}
    methods = {name: own[name] if name in own else registry.get(MergeMethod, name) for name in names}
    providers = {
        name: registry.provider(*((Recipe, plan.recipe) if name in own else (MergeMethod, name)))
        for name in names
    }
    return methods, providers


def lay_out(registry: Registry, writer: str, steps: Sequence[Step], **options: int | str | None) -> Layout:
    """The files and places of the tensors that `steps` make, by the output writer of that name.

    options: parameters of the writer, None for its own default; a writer may do without `stem`.
    """
    chosen: OutputWriter[Any] = registry.get(OutputWriter, writer)
    outputs = [OutputTensor(step.name, step.dtype, step.shape) for step in steps]
    known = chosen.params.model_fields
    given = {
        key: value for key, value in options.items() if value is not None and (key in known or key != "stem")
    }
    with registry.calling(OutputWriter, chosen.name):
        return chosen.layout(outputs, chosen.params(**given))


def versions(registry: Registry, used: Iterable[tuple[type, str]]) -> dict[str, str]:
    """Distribution and version of each plugin that provides one of `used`, a kind and a name."""
    providers = [registry.provider(kind, name) for kind, name in used]
    return {plugin.name: f"{plugin.distribution} {plugin.version}" for plugin in providers}
