"""What every plan needs, whichever document it was compiled from; for merges and recipes alike.

`methods_of` says what makes its steps, `lay_out` where their bytes go, `versions` which plugins take part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from mergecore.config.chosen import Choice, read_params, unknown_parameter
from mergecore.config.parameters.declared import parameters_of
from mergecore.errors import Collector, ConfigError, PluginError, PolicyError
from mergecore.files.dtypes import DTYPES
from mergecore.models.module_folders import is_inside, module_folder, name_in_file
from mergecore.plugins.registry import Plugin, Registry
from mergecore.types import (
    Codec,
    Json,
    Layout,
    LayoutRequest,
    MergeMethod,
    OutputTensor,
    OutputWriter,
    Plan,
    Recipe,
    Slot,
)
from mergecore.types.outputs import WIDEST
from mergecore.types.steps import BLOCK
from mergecore.version import MANIFEST


def methods_of(plan: Plan, registry: Registry) -> tuple[dict[str, MergeMethod[Any]], Mapping[str, Plugin]]:
    """The methods of the steps, and the plugins that provide them, by name.

    Raises:
        MergecoreError: E108 or E606 for a method that no plugin provides.
    """
    names = sorted({step.method for step in plan.steps if step.method})
    own = {one.name: one for one in registry.get(Recipe, plan.recipe).methods} if plan.recipe else {}
    methods = {name: own[name] if name in own else registry.get(MergeMethod, name) for name in names}
    providers = {
        name: registry.provider(*((Recipe, plan.recipe) if name in own else (MergeMethod, name)))
        for name in names
    }
    return methods, providers


def methods_by_parameter(registry: Registry) -> dict[str, list[str]]:
    """The names of the methods that have a parameter, by its name."""
    found: dict[str, list[str]] = {}
    for method in registry.all(MergeMethod):
        for name in parameters_of(method.params):
            found.setdefault(name, []).append(method.name)
    return found


def codecs_of(plan: Plan, registry: Registry) -> Mapping[str, Codec]:
    """The encodings of a plan's output writer, where it uses one.

    Raises:
        MergecoreError: E108 or E606 for a writer that no plugin provides.
    """
    used = any(slot.encoding for slot in plan.layout.slots.values())
    return registry.get(OutputWriter, plan.writer).codecs if used else {}


def lay_out(
    registry: Registry,
    writer: str,
    request: LayoutRequest,
    written: Mapping[str, Json],
    shard_size: int | None = None,
) -> Layout:
    """The files and places of the tensors of `request`, by the output writer of that name.

    written: parameters of the writer.  shard_size: the one of the command line, which goes before.

    Raises:
        MergecoreError: E109, E104 or E105 for a parameter that the writer does not have, or not so; PluginError E402
            or E605 for a layout that cannot be; several as `Problems`.
    """
    chosen: OutputWriter[Any] = registry.get(OutputWriter, writer)
    check_shard_size(chosen, shard_size)
    given = {name: value for name, value in written.items() if value is not None}
    given |= {} if shard_size is None else {"shard_size": shard_size}
    primary = request.primary.config if request.primary else {}
    with registry.calling(OutputWriter, chosen.name):
        defaults = chosen.defaults(primary) if chosen.defaults else {}
        layout = _laid_out(chosen, _of_folder(request, ""), {**defaults, **given})
        for folder in dict.fromkeys(filter(None, (module_folder(one.name) for one in request.tensors))):
            layout = _with_folder(layout, folder, _laid_out(chosen, _of_folder(request, folder), given))
    return layout


def _of_folder(request: LayoutRequest, folder: str) -> LayoutRequest:
    """The request for the tensors of a module in a folder of its own; of the model itself without a folder."""
    tensors = [one for one in request.tensors if module_folder(one.name) == folder]
    if not folder:
        return replace(request, tensors=tuple(tensors))
    return LayoutRequest(
        tensors=tuple(replace(one, name=name_in_file(one.name)) for one in tensors), title=request.title
    )


def _laid_out(writer: OutputWriter[Any], request: LayoutRequest, given: Mapping[str, Json]) -> Layout:
    params = read_params(writer.params, Choice(OutputWriter, writer.name, given, ("output",)))
    layout = writer.layout(request, params)
    if not isinstance(layout, Layout):
        what = f"output writer '{writer.name}' returns {type(layout).__name__} in place of a Layout"
        raise PluginError("E605", what)
    problems = Collector()
    for fault in _faults(writer, request, layout):
        what = f"output writer '{writer.name}' {fault}"
        hint = "report it to the authors of the plugin, or choose another writer by 'output: {writer: …}'"
        problems.add(PluginError("E402", what, hint=hint))
    problems.raise_any()
    for name in (*(file.name for file in layout.files), *layout.index_files):
        if (length := max(len(one.encode()) for one in name.split("/"))) > LONGEST:
            what = f"the name of the file '{name[:40]}…' has {length} bytes, and most disks take {LONGEST}"
            raise ConfigError("E105", what, hint="write a shorter name under 'output'")
    return layout


LONGEST = 255
"""Bytes that the name of a file may have on nearly all disks."""


def _with_folder(layout: Layout, folder: str, inner: Layout) -> Layout:
    """A layout with another one in a folder."""
    files = tuple(replace(file, name=f"{folder}/{file.name}") for file in inner.files)
    slots = {
        f"{folder}/{name}": replace(slot, file=slot.file + len(layout.files))
        for name, slot in inner.slots.items()
    }
    index_files = {f"{folder}/{name}": data for name, data in inner.index_files.items()}
    return Layout((*layout.files, *files), {**layout.slots, **slots}, {**layout.index_files, **index_files})


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
    taken = {MANIFEST, *(file.name for file in layout.files), *layout.index_files}
    for name in side_files:
        if not is_inside(name):
            raise PolicyError("E301", f"the side file '{name}' would be written outside the output folder")
        if name in taken:
            raise PluginError("E402", f"the side file '{name}' would replace a file of the merged model")
    return {**layout.index_files, **side_files}


def versions(registry: Registry, used: Iterable[tuple[type, str]]) -> dict[str, str]:
    """Distribution and version of each plugin that provides one of `used`, a kind and a name.

    A method that says its version stands there by its own name, with that.
    """
    found = {}
    for kind, name in used:
        plugin = registry.provider(kind, name)
        text = f"{plugin.distribution} {plugin.version}"
        own = registry.get(MergeMethod, name).version if kind is MergeMethod else ""
        found[name if own else plugin.name] = f"{text}, {own}" if own else text
    return found


# ---- what is wrong with a layout ---------------------------------------------------------------------------


def _faults(writer: OutputWriter[Any], request: LayoutRequest, layout: Layout) -> Iterator[str]:
    for name, codec in writer.codecs.items():
        yield from _of_codec(name, codec)
    tensors = {one.name: one for one in request.tensors}
    for name in [one for one in tensors if one not in layout.slots]:
        yield f"has no place for tensor '{name}'"
    for name in [one for one in layout.slots if one not in tensors]:
        yield f"has a place for a tensor '{name}', which nobody makes"
    for name, slot in layout.slots.items():
        if name in tensors:
            yield from _of_slot(writer, layout, tensors[name], slot)
    yield from _overlaps(layout)


def _of_codec(name: str, codec: Codec) -> Iterator[str]:
    size = codec.block_elements
    if not 0 < size <= BLOCK or BLOCK % size:
        yield f"has an encoding '{name}' in blocks of {size} numbers; a power of two up to {BLOCK} is needed"
    elif not 0 < codec.block_bytes <= WIDEST * size:
        yield f"has an encoding '{name}' of {codec.block_bytes} bytes for {size} numbers"


def _of_slot(writer: OutputWriter[Any], layout: Layout, tensor: OutputTensor, slot: Slot) -> Iterator[str]:
    nbytes = tensor.nbytes
    if slot.encoding:
        codec = writer.codecs.get(slot.encoding)
        if codec is None:
            yield f"stores tensor '{tensor.name}' as '{slot.encoding}', and has no such encoding"
            return
        if wrong := _of_encoding(tensor, slot.encoding, codec):
            yield wrong
            return
        nbytes = codec.nbytes(tensor.count)
    if slot.nbytes != nbytes:
        yield f"has {slot.nbytes} bytes for tensor '{tensor.name}', which takes {nbytes}"
    elif not 0 <= slot.file < len(layout.files):
        yield f"puts tensor '{tensor.name}' into file {slot.file}, and has {len(layout.files)}"
    elif not 0 <= slot.offset <= slot.offset + nbytes <= layout.files[slot.file].size:
        file = layout.files[slot.file]
        yield f"puts tensor '{tensor.name}' outside of '{file.name}', which has {file.size} bytes"


def _of_encoding(tensor: OutputTensor, encoding: str, codec: Codec) -> str | None:
    """Why a tensor cannot be encoded so."""
    stores = f"stores tensor '{tensor.name}' as {encoding}"
    if not DTYPES[tensor.dtype].floating:
        return f"{stores}; it is {tensor.dtype}, which is never encoded"
    row = tensor.shape[-1] if tensor.shape else 1
    if row % codec.block_elements:
        return f"{stores}, in blocks of {codec.block_elements} numbers; its rows have {row}, which is not a multiple"
    return None


def _overlaps(layout: Layout) -> Iterator[str]:
    """The first tensors of each file that share bytes with its header or with another tensor."""
    places: dict[int, list[tuple[int, int, str]]] = {}
    for name, slot in layout.slots.items():
        if slot.nbytes and 0 <= slot.file < len(layout.files):
            places.setdefault(slot.file, []).append((slot.offset, slot.offset + slot.nbytes, name))
    for file, spans in places.items():
        header = (0, len(layout.files[file].header), "")
        for (_, end, before), (start, _, name) in pairwise([header, *sorted(spans)]):
            if start < end:
                what = f"the place of tensor '{before}'" if before else "the header"
                yield f"puts tensor '{name}' over {what} in '{layout.files[file].name}'"
                break
