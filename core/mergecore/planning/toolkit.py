"""What every plan needs, whichever document it was compiled from; for merges and recipes alike.

`methods_of` says what makes its steps, `lay_out` where their bytes go, `versions` which plugins take part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mergecore.config.chosen import Choice, read_params, unknown_parameter
from mergecore.config.parameters import parameters_of
from mergecore.errors import PluginError, PolicyError
from mergecore.models.module_folders import is_inside, module_folder, name_in_file
from mergecore.plugins.registry import Plugin, Registry
from mergecore.types import Json, Layout, MergeMethod, OutputWriter, Plan, Recipe, Step
from mergecore.version import MANIFEST


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


def lay_out(
    registry: Registry,
    writer: str,
    steps: Sequence[Step],
    written: Mapping[str, Json] | None = None,
    *,
    shard_size: int | None = None,
    config: Mapping[str, Json] | None = None,
) -> Layout:
    """The files and places of the tensors that `steps` make, by the output writer of that name.

    written: parameters of the writer.  shard_size: the one of the command line, which goes before.
    config: the `config.json` of the model that gives the output its own, by which a writer sets its defaults.

    Raises:
        MergecoreError: E109, E104 or E105 for a parameter that the writer does not have, or not so.
    """
    chosen: OutputWriter[Any] = registry.get(OutputWriter, writer)
    check_shard_size(chosen, shard_size)
    outputs = [one for step in steps for one in step.outputs]
    given = {name: value for name, value in (written or {}).items() if value is not None}
    given |= {} if shard_size is None else {"shard_size": shard_size}
    with registry.calling(OutputWriter, chosen.name):
        defaults = chosen.defaults(config or {}) if chosen.defaults else {}
        layout = chosen.layout(
            [one for one in outputs if not module_folder(one.name)], _params(chosen, {**defaults, **given})
        )
        for folder in dict.fromkeys(filter(None, (module_folder(one.name) for one in outputs))):
            inside = [
                replace(one, name=name_in_file(one.name))
                for one in outputs
                if module_folder(one.name) == folder
            ]
            layout = _with_folder(layout, folder, chosen.layout(inside, _params(chosen, given)))
    return layout


def _params(writer: OutputWriter[Any], given: Mapping[str, Json]) -> Any:
    return read_params(writer.params, Choice(OutputWriter, writer.name, given, ("output",)))


def _with_folder(layout: Layout, folder: str, inner: Layout) -> Layout:
    """A layout with another one in a folder."""
    files = tuple(replace(file, name=f"{folder}/{file.name}") for file in inner.files)
    slots = {
        f"{folder}/{name}": replace(slot, file=slot.file + len(layout.files))
        for name, slot in inner.slots.items()
    }
    extra = {f"{folder}/{name}": data for name, data in inner.extra.items()}
    return Layout((*layout.files, *files), {**layout.slots, **slots}, {**layout.extra, **extra})


def check_shard_size(writer: OutputWriter[Any], shard_size: int | None) -> None:
    """Raise E109 when the command line sets a size of files for a writer that has no such parameter."""
    known = parameters_of(writer.params)
    if shard_size is not None and "shard_size" not in known:
        error = unknown_parameter(
            "shard_size", Choice(OutputWriter, writer.name, {}, ("output",)), list(known)
        )
        error.place = "--shard-size"
        raise error


def checked_side_files(layout: Layout, side_files: Mapping[str, Path | bytes]) -> dict[str, Path | bytes]:
    """All files beside the weights: those of the output writer, and the side files.

    Raises:
        PluginError: E402 when a side file would take the place of another file.
        PolicyError: E301 when the name of a side file leads out of the folder.
    """
    taken = {MANIFEST, *(file.name for file in layout.files), *layout.extra}
    for name in side_files:
        if not is_inside(name):
            raise PolicyError("E301", f"the side file '{name}' would be written outside the output folder")
        if name in taken:
            raise PluginError("E402", f"the side file '{name}' would replace a file of the merged model")
    return {**layout.extra, **side_files}


def versions(registry: Registry, used: Iterable[tuple[type, str]]) -> dict[str, str]:
    """Distribution and version of each plugin that provides one of `used`, a kind and a name."""
    providers = [registry.provider(kind, name) for kind, name in used]
    return {plugin.name: f"{plugin.distribution} {plugin.version}" for plugin in providers}
