"""Tensors that no config describes: one file of them, or a folder of such files.

`read_plain_file` and `read_plain_folder` are all there is; no weight is read, and no pickle is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mergecore.errors import some
from mergecore.models.input_folder import InputFolder
from mergecore.models.safetensors import read_header
from mergecore.models.shards import Weights, complete, file_sets, is_pickle, read_weights, weights_of
from mergecore.models.torch_files.archive import parse_torch, read_chosen
from mergecore.models.torch_files.state_dicts import state_dict
from mergecore.types import TensorInfo


def read_plain_file(path: Path, place: str) -> Weights:
    """The tensors of one file: of safetensors, or of `torch.save` where the name says so."""
    notes: list[str] = []
    if is_pickle(path.name):
        tensors, file = read_chosen(path, place, partial(state_dict, notes=notes))
    else:
        tensors, file = read_header(path, place)
    return Weights({one.name: TensorInfo(one.name, one) for one in tensors}, (file,), tuple(notes))


def read_plain_folder(folder: InputFolder) -> Weights:
    """The tensors of all files in a folder; those of `torch.save` count only where there are no safetensors.

    Raises:
        MergecoreError: E213 for a name that is in two files, and all that `read_weights` raises.
    """
    names = sorted(folder.names)
    parts = file_sets(names)
    pickles = file_sets(names, is_pickle)
    if any(name.endswith(".safetensors.index.json") for name in names) or len(parts) == 1:
        return read_weights(folder)
    if parts:
        files = _all(parts, folder)
        found = weights_of(folder, files)
        together = f"{folder.shown}: {some(files, 3)} are one model together, no tensor is in two of them"
        return Weights(found.tensors, found.files, (*found.notes, together))
    if pickles:
        notes: list[str] = []
        parse = partial(parse_torch, choose=partial(state_dict, notes=notes))
        index = next((name for name in names if name.endswith(".bin.index.json")), None)
        found = weights_of(folder, [] if index else _all(pickles, folder), index, parse)
        return Weights(found.tensors, found.files, (*found.notes, *notes))
    return read_weights(folder)


def _all(sets: Mapping[str, list[str]], folder: InputFolder) -> list[str]:
    """The files of all sets, each of which is complete."""
    return [file for files in sets.values() for file in complete(files, folder)]
