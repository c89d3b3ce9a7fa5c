"""Models in local folders, and single files of tensors.

`accepts` says which references mean a path; `open_local` opens it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mergecore import hookimpl
from mergecore.config import HUB, exists_below, nearest
from mergecore.errors import ConfigError, InputError
from mergecore.models import is_pickle, open_adapter, open_file, open_folder
from mergecore.types import Checkpoint, ModelReference, ModelSource, OpenOptions
from mergecore_plugins.sources.hub import cached_snapshot, is_hub_id


@hookimpl
def mergecore_model_sources() -> Iterator[ModelSource]:
    yield ModelSource(
        name="local",
        accepts=accepts,
        open=open_local,
        summary="folders with models, and single files of tensors",
    )


def accepts(reference: ModelReference, options: OpenOptions) -> bool:
    """Whether the reference is a path: something that exists, or that cannot be the id of a hub model."""
    path = reference.path
    if reference.adapters or not path or path.startswith(HUB):
        return False
    return not is_hub_id(path) or _exists(local_path(path))


def local_path(path: str) -> Path:
    """Where a path written in a config leads; relative ones start in the working directory."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)


def open_local(reference: ModelReference, options: OpenOptions) -> Checkpoint:
    """The model in the folder, or the tensors of the file, that the reference names.

    Raises:
        MergecoreError: E112 when the reference is ambiguous, E701 when there is nothing; E2xx and E3xx for
            what is wrong with the model.
    """
    path = local_path(reference.path)
    if not _exists(path):
        hint = f"write models of the hub as 'owner/name' or '{HUB}owner/name'"
        if word := re.match(r"[A-Za-z][\w.+-]+:", reference.path):
            hint = f"if '{word[0]}' is what a plugin understands, install it; {hint}"
        if not path.is_absolute():
            hint = f"{hint}; relative paths start at {Path.cwd()}"
        wanted = "file" if _is_file_name(path) else "directory"
        what = f"'{reference.path}': no such {wanted}{nearest(reference.path)}"
        raise InputError("E701", what, hint=hint)
    _check_meaning(reference)
    if options.adapter:
        return open_adapter(path, reference)
    if path.is_dir():
        return open_folder(path, reference, weights=options.weights)
    if _is_file_name(path):
        return open_file(path, reference)
    what = f"'{reference.path}': expected a folder, or a file of tensors"
    raise InputError("E201", what, hint="its name ends in .safetensors, .bin, .pt, .pth or .ckpt")


def _is_file_name(path: Path) -> bool:
    """Whether a file of tensors is called so."""
    return path.suffix in (".safetensors", ".sft") or is_pickle(path.name)


def _exists(path: Path) -> bool:
    return exists_below(Path())(str(path))


def _check_meaning(reference: ModelReference) -> None:
    """The reference cannot just as well mean a model of the hub."""
    path = reference.path
    if reference.revision:
        hint = f"write '{HUB}{reference}' for the model of the hub" if is_hub_id(path) else "remove it"
        what = f"'{reference}': '{path}' is a path here, and a path has no revision '{reference.revision}'"
        raise ConfigError("E112", what, hint=hint)
    if is_hub_id(path) and cached_snapshot(path, None):
        what = f"'{path}' is ambiguous: a directory here, and a model in the hub cache"
        raise ConfigError("E112", what, hint=f"write './{path}' or '{HUB}{path}'")
