"""The tensors of a distributed checkpoint under the names of the model, and their bytes; read `read_distributed`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from mergecore.errors import InputError, PolicyError, some
from mergecore.models import InputFolder, Weights, read_tensor
from mergecore.types import Stored, TensorInfo, WeightFile
from mergecore_plugins.sources.distributed.boxes import Box, joined
from mergecore_plugins.sources.distributed.metadata import (
    MAX_METADATA,
    METADATA,
    Listed,
    Shard,
    read_metadata,
)

MODEL = ("model", "module", "state_dict", "model_state_dict")
"""What people call the model among the things that they save."""
WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and checkpointing of activations put into names."""


def read_distributed(folder: InputFolder) -> Weights:
    """The weights of the model in `folder`; the states of optimizers and all else are left alone.

    Raises:
        MergecoreError: E201 when no model is among what was saved, E213 and E214 when it is not clear which tensors
            are meant, E206 and E212 for files that are cut off or missing, E301 for one outside; what
            `read_metadata` raises.
    """
    place = folder.place(METADATA)
    with folder.open(METADATA) as (read, size, stamp):
        if size > MAX_METADATA:
            what = f"the list of tensors has {size} bytes, limit {MAX_METADATA}"
            raise PolicyError("E308", what, place=place, hint="is it the file that torch wrote?")
        data = read(0, size)
    named = _named(_of_model(read_metadata(data, place), place), place)
    listing = WeightFile(folder.path / METADATA, size, hashlib.sha256(data).hexdigest(), stamp)
    stored, files = _stored(folder, named)
    tensors = {
        name: TensorInfo(
            name, joined(name, one.shape, [Box(at.offsets, stored[at]) for at in one.shards], place)
        )
        for name, one in named.items()
    }
    return Weights(tensors, (listing, *files))


# ---- names -------------------------------------------------------------------------------------------------


def _of_model(listed: Sequence[Listed], place: str) -> dict[str, Listed]:
    """The tensors of the model by their names in it."""
    groups: dict[tuple[str, ...], dict[str, Listed]] = {}
    for one in listed:
        groups.setdefault(one.path[:-1], {})[one.path[-1]] = one
    if not groups:
        raise InputError("E201", "no tensors are in the checkpoint", place=place)
    models = [path for path in groups if path and path[-1] in MODEL]
    if len(models) > 1:
        what = f"several models are in the checkpoint: {some(['.'.join(path) for path in models])}"
        raise InputError("E214", what, place=place, hint="save the one that is meant by itself")
    if models:
        return groups[models[0]]
    if () in groups:
        return groups[()]
    what = f"the checkpoint has no model, but {some(['.'.join(path) for path in groups], 4)}"
    raise InputError("E201", what, place=place, hint="give the checkpoint of the model")


def _named(found: Mapping[str, Listed], place: str) -> dict[str, Listed]:
    """The same without what training puts into names."""
    names = {name: WRAPPERS.sub("", name) for name in found}
    for prefix in ("module.", "model."):
        whole = all(name.startswith(prefix) for name in names.values())
        inner = prefix == "module." or any(name.startswith("model.model.") for name in names.values())
        if whole and inner:
            names = {name: short.removeprefix(prefix) for name, short in names.items()}
    if len(set(names.values())) < len(names):
        twice = sorted(name for name in names.values() if [*names.values()].count(name) > 1)
        what = f"tensor '{twice[0]}' is there twice"
        raise InputError("E213", what, place=place, tensor=twice[0], hint="save the model without wrappers")
    return {names[name]: one for name, one in found.items()}


# ---- bytes -------------------------------------------------------------------------------------------------


def _stored(
    folder: InputFolder, named: Mapping[str, Listed]
) -> tuple[dict[Shard, Stored], tuple[WeightFile, ...]]:
    """Each shard as a part of its file, and the files."""
    shards: dict[str, list[tuple[str, Shard]]] = {}
    for name, one in named.items():
        for shard in one.shards:
            shards.setdefault(_checked(shard.place.file, folder), []).append((name, shard))
    missing = sorted(file for file in shards if file not in folder.names)
    if missing:
        what = f"{some(missing, 3, mark='')} missing: {len(missing)} of {len(shards)} files are not there"
        raise InputError("E212", what, place=folder.shown, hint="copy the checkpoint again")
    stored: dict[Shard, Stored] = {}
    files = []
    for file in sorted(shards):
        digest = hashlib.sha256()
        with folder.open(file) as (read, size, stamp):
            for name, shard in shards[file]:
                at, length = shard.place.offset, shard.place.length
                place = folder.place(file)
                if at + length > size:
                    what = f"cut off: it has {size} bytes, and '{name}' ends at {at + length}"
                    raise InputError("E206", what, place=place, tensor=name, hint="copy it again")
                label = f"{name}{list(shard.offsets)}"
                stored[shard], facts = read_tensor(read, at, length, folder.path / file, place, label)
                _check_shape(name, shard, stored[shard], place)
                digest.update(facts.encode())
            files.append(WeightFile(folder.path / file, size, digest.hexdigest(), stamp))
    return stored, tuple(files)


def _check_shape(name: str, shard: Shard, found: Stored, place: str) -> None:
    if found.shape != shard.sizes:
        what = f"a shard of '{name}' is {list(found.shape)} there, and {list(shard.sizes)} in {METADATA}"
        raise InputError("E213", what, place=place, tensor=name, hint="copy the checkpoint again")


def _checked(file: str, folder: InputFolder) -> str:
    if not re.fullmatch(r"[\w-][\w.-]{0,254}", file, re.ASCII):
        what = f"'{file[:200]}' is not a plain file name in the checkpoint"
        raise PolicyError("E301", what, place=folder.place(METADATA), hint="do not use the checkpoint")
    return file
