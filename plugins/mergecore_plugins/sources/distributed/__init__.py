"""Models that several processes saved in shards: distributed checkpoints of torch (DCP), as FSDP leaves them.

Read `open_distributed` first.  `metadata.py` reads what the checkpoint says of itself, `weights.py` finds the bytes of
each tensor, `boxes.py` puts its shards together while it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mergecore import hookimpl
from mergecore.errors import PolicyError
from mergecore.models import list_folder, open_folder
from mergecore.types import Checkpoint, ModelReference, ModelSource, OpenOptions
from mergecore_plugins.sources.distributed.metadata import METADATA
from mergecore_plugins.sources.distributed.weights import read_distributed

FSDP = re.compile(r"pytorch_model_fsdp_\d+", re.ASCII)
"""Where Accelerate saves a model in shards, inside the folder of the checkpoint."""
SAVED = re.compile(r"checkpoint-\d+", re.ASCII)
CONFIG = "config.json"


@hookimpl
def mergecore_model_sources() -> Iterator[ModelSource]:
    """Yield the source of folders with shards and without safetensors."""
    yield ModelSource(
        name="distributed",
        accepts=accepts,
        open=open_distributed,
        rank=45,
        summary="distributed checkpoints of torch (DCP), as FSDP saves",
    )


def accepts(reference: ModelReference, options: OpenOptions) -> bool:
    """Whether the reference is a folder that holds a model in shards, and in no other form."""
    if reference.adapters or reference.revision or options.adapter or not reference.path:
        return False
    folder = _local(reference)
    try:
        names = {one.name for one in folder.iterdir()}
    except (OSError, ValueError):
        return False
    if any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names):
        return False
    return _shards(folder) is not None or _is_zero(folder, names)


def open_distributed(reference: ModelReference, options: OpenOptions) -> Checkpoint:
    """The model, each tensor put together of its shards; config and tokenizer may lie in the folder of the run.

    Raises:
        MergecoreError: E303 for shards of DeepSpeed, E304 for a list of shards that asks for more, and what is wrong
            with the files.
    """
    folder = _local(reference)
    shards = _shards(folder)
    if shards is None:
        raise _of_deepspeed(reference.path)
    home = _home(folder)
    named = replace(reference, path=str(home))
    if not options.weights:
        return replace(open_folder(home, named, weights=False), reference=reference, folder=folder)
    shown = reference.path.rstrip("/") or reference.path
    shown = shown if shards == folder else f"{shown}/{shards.name}"
    files = list_folder(shards, shown)
    opened = open_folder(home, named, read=lambda _: read_distributed(files))
    return replace(opened, reference=reference, folder=folder)


def _local(reference: ModelReference) -> Path:
    try:
        return Path(reference.path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(reference.path)


def _shards(folder: Path) -> Path | None:
    """The folder with the list of shards: this one, or the one in it that FSDP writes."""
    inside = sorted(one for one in folder.iterdir() if FSDP.fullmatch(one.name))
    return next((one for one in (folder, *inside) if (one / METADATA).is_file()), None)


def _home(folder: Path) -> Path:
    """The folder with config and tokenizer: that of the shards, of the checkpoint, or of its run."""
    homes = [folder]
    if FSDP.fullmatch(homes[-1].resolve().name):
        homes.append(homes[-1].parent)
    if SAVED.fullmatch(homes[-1].resolve().name):
        homes.append(homes[-1].parent)
    return next((one for one in homes if (one / CONFIG).is_file()), folder)


# ---- what is not read --------------------------------------------------------------------------------------


def _is_zero(folder: Path, names: set[str]) -> bool:
    """Whether the folder is a checkpoint of DeepSpeed ZeRO."""
    return any(
        (folder / name).is_dir() and any((folder / name).glob("*_model_states.pt"))
        for name in names
        if name.startswith("global_step")
    )


def _of_deepspeed(path: str) -> PolicyError:
    what = "the weights are shards of DeepSpeed ZeRO: pickles, which can run code when they are read"
    command = f"python {path}/zero_to_fp32.py {path} {path} --safe_serialization"
    hint = f"convert them with the script that DeepSpeed left there: {command}"
    return PolicyError("E303", what, place=path, hint=hint)
