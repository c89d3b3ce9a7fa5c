"""Models of the Hugging Face hub: `owner/name`, `owner/name@revision`, `hf:owner/name`.

`open_hub` is the way in.  To plan, small files are downloaded and headers are read by ranged requests; the
weights follow when `Checkpoint.fetch` is called.  Offline, everything comes from the hub's cache.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mergecore import hookimpl
from mergecore.config import HUB, exists_below, nearest
from mergecore.errors import ConfigError, InputError, MergecoreError, Problems
from mergecore.files import ReadAt
from mergecore.models import RemoteFile, is_side_file, open_adapter, open_folder, read_header, read_torch
from mergecore.types import Checkpoint, FetchProgress, ModelReference, ModelSource, OpenOptions, WeightFile


@hookimpl
def mergecore_model_sources() -> Iterator[ModelSource]:
    yield ModelSource(
        name="hub",
        accepts=accepts,
        open=open_hub,
        rank=60,
        summary="models of the Hugging Face hub: OWNER/NAME[@REVISION]",
    )


def accepts(reference: ModelReference, options: OpenOptions) -> bool:
    """Whether the reference begins with `hf:`, or has the form `owner/name` and no such path exists."""
    path = reference.path
    if reference.adapters:
        return False
    return path.startswith(HUB) or (is_hub_id(path) and not exists_below(Path())(path))


def is_hub_id(path: str) -> bool:
    """Whether `path` has the form `owner/name` with the characters that the hub allows."""
    return path.count("/") == 1 and _is_repository(path)


def open_hub(reference: ModelReference, options: OpenOptions) -> Checkpoint:
    """The model of the hub that the reference names, at a commit that the checkpoint records.

    Raises:
        MergecoreError: E112 when it is not a hub id, E701 when there is no such model, E702 when it is gated,
            E704 when the hub cannot be used; E2xx and E3xx for what is wrong with the model.
    """
    model = _HubModel(reference.path.removeprefix(HUB), reference)
    if not _is_repository(model.repository) or not _REVISION.fullmatch(reference.revision or "main"):
        what = f"'{reference}' is not a valid hub id"
        raise ConfigError("E112", what, hint=f"write '{HUB}owner/name' or '{HUB}owner/name@revision'")
    if options.offline or _offline_by_environment():
        return _open_cached(model, options)
    try:
        commit, sizes = _listing(model)
    except InputError as error:
        if error.code == "E704" and cached_snapshot(model.repository, reference.revision):
            return _open_cached(model, options)
        raise
    return _open_online(model, options, commit, sizes)


def cached_snapshot(repository: str, revision: str | None) -> Path | None:
    """The folder in the cache that holds a model at a branch, a tag or a commit, if there is one."""
    cached = _cached(repository)
    commit = revision or "main"
    if not (cached / "snapshots" / commit).is_dir():
        try:
            commit = (cached / "refs" / commit).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
    folder = cached / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and folder.is_dir() else None


def _cached(repository: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


@dataclass(frozen=True)
class _HubModel:
    repository: str
    reference: ModelReference


_REPOSITORY = re.compile(r"(\w([\w.-]*\w)?/)?\w([\w.-]*\w)?", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)\w[\w./-]*", re.ASCII)
_COMMIT = re.compile(r"\w+", re.ASCII)


def _is_repository(name: str) -> bool:
    return len(name) <= 96 and bool(_REPOSITORY.fullmatch(name)) and not re.search(r"--|\.\.|\.git$", name)


# ---- from the cache ----------------------------------------------------------------------------------------


def _offline_by_environment() -> bool:
    """What huggingface_hub takes for offline, also where the variable was set after it was imported."""
    from huggingface_hub import constants

    words = (os.environ.get("HF_HUB_OFFLINE", ""), os.environ.get("TRANSFORMERS_OFFLINE", ""))
    return constants.HF_HUB_OFFLINE or any(word.upper() in ("1", "ON", "YES", "TRUE") for word in words)


def _open_cached(model: _HubModel, options: OpenOptions) -> Checkpoint:
    reference = model.reference
    folder = cached_snapshot(model.repository, reference.revision)
    get = f"download it while online: hf download {model.repository}"
    if folder is None:
        at = f" at revision '{reference.revision}'" if reference.revision else ""
        near = nearest(reference.path)
        what = (
            f"'{reference.path}': no such directory, and no such model{at} in the hub cache (offline){near}"
        )
        raise InputError("E701", what, hint="correct the path" if near else f"correct the path, or {get}")
    try:
        if options.adapter:
            return open_adapter(folder, reference, folder.name)
        opened = open_folder(folder, reference, folder.name, weights=options.weights)
        if options.weights and "config.json" not in opened.side_files:
            raise InputError("E220", "config.json is missing")
        return opened
    except MergecoreError as error:
        first = error.first if isinstance(error, Problems) else error
        if first.code not in ("E201", "E212", "E220"):
            raise
        what = f"'{reference.path}': not complete in the hub cache (offline): {first.what}"
        raise InputError(first.code, what, hint=get) from error


# ---- from the hub ------------------------------------------------------------------------------------------


def _listing(model: _HubModel) -> tuple[str, dict[str, int]]:
    """The commit that the revision stands for, and the files of the repository with their sizes."""
    from huggingface_hub import HfApi

    with _explained(model):
        info = HfApi().model_info(
            model.repository, revision=model.reference.revision, files_metadata=True, timeout=30
        )
    files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    return info.sha or "", files


def _open_online(model: _HubModel, options: OpenOptions, commit: str, sizes: Mapping[str, int]) -> Checkpoint:
    folder = _cached(model.repository) / "snapshots" / commit
    with _explained(model):
        folder.mkdir(parents=True, exist_ok=True)
    _download(model, commit, {name: size for name, size in sizes.items() if _is_small(name)})
    _remember(model, commit)
    remote = {
        name: RemoteFile(size, _ranged(model, commit, name))
        for name, size in sizes.items()
        if "/" not in name and not _is_small(name) and not (folder / name).exists()
    }
    if options.adapter:
        opened = open_adapter(folder, model.reference, commit, remote)
    else:
        opened = open_folder(folder, model.reference, commit, remote=remote, weights=options.weights)
    absent = [file for file in opened.weight_files if file.path.name in remote]
    return replace(opened, fetch=partial(_fetch, model, commit, absent) if absent else None)


def _remember(model: _HubModel, commit: str) -> None:
    """Write into the cache which commit the revision stands for, so that it is found offline."""
    revision = model.reference.revision or "main"
    note = _cached(model.repository) / "refs" / revision
    if revision != commit:
        with _explained(model):
            note.parent.mkdir(parents=True, exist_ok=True)
            fresh = note.with_name(f"{note.name}.{os.getpid()}")
            fresh.write_text(commit)
            fresh.replace(note)


def _is_small(name: str) -> bool:
    """Whether a file is needed to plan, and small."""
    return (
        is_side_file(name)
        or name in ("adapter_config.json", "README.md")
        or name.endswith(".safetensors.index.json")
    )


def _ranged(model: _HubModel, commit: str, name: str) -> ReadAt:
    """A way to read parts of a file of the hub."""

    def read(offset: int, count: int) -> bytes:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported when first used
            build_hf_headers,
            get_session,
            hf_raise_for_status,
        )

        span = {"range": f"bytes={offset}-{offset + count - 1}", "accept-encoding": "identity"}
        with _explained(model):
            url = hf_hub_url(model.repository, name, revision=commit)
            response = get_session().get(url, headers={**build_hf_headers(), **span}, timeout=30)
            hf_raise_for_status(response)
        whole = response.status_code == 200
        return bytes(response.content[offset : offset + count] if whole else response.content)

    return read


def _download(
    model: _HubModel, commit: str, sizes: Mapping[str, int], tell: FetchProgress = lambda *_: None
) -> None:
    """Bring files into the cache, several at a time; `sizes` are theirs, for progress reports."""
    from huggingface_hub import hf_hub_download

    here = dict.fromkeys(sizes, 0)

    def one(name: str) -> None:
        bar: Any = {"tqdm_class": _counter(here, name)} if _takes_bars(hf_hub_download) else {}
        hf_hub_download(model.repository, name, revision=commit, **bar)
        here[name] = sizes[name]

    with _explained(model), ThreadPoolExecutor(4) as pool:
        waiting = {pool.submit(one, name) for name in sizes}
        while waiting:
            done, waiting = wait(waiting, timeout=_SECONDS_BETWEEN_WORDS)
            for name, count in here.items():
                tell(name, min(count, sizes[name]), sizes[name])
            for future in done:
                future.result()


_SECONDS_BETWEEN_WORDS = 0.1


def _takes_bars(download: Callable[..., object]) -> bool:
    """Whether this version of huggingface_hub counts bytes with a bar of ours."""
    return "tqdm_class" in inspect.signature(download).parameters


def _counter(here: dict[str, int], name: str) -> type:
    """A bar of tqdm that draws nothing and counts the bytes of a file."""
    from huggingface_hub import utils

    base: Any = utils.tqdm  # type: ignore[attr-defined]  # exported when first used

    class Counter(base):  # type: ignore[misc]  # it has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})
            here[name] += int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            here[name] += int(n or 0)

    return Counter


def _fetch(model: _HubModel, commit: str, files: Sequence[WeightFile], tell: FetchProgress) -> None:
    """Download the weights, and make sure that they are those that were planned with."""
    _download(model, commit, {file.path.name: file.size for file in files}, tell)
    for planned in files:
        read = read_torch if planned.path.suffix == ".bin" else read_header
        _, file = read(planned.path, f"{model.reference.path}/{planned.path.name}")
        if (file.size, file.header_sha256) != (planned.size, planned.header_sha256):
            name = planned.path.name
            what = f"'{model.reference}': {name} was downloaded, but is not the file that was planned with"
            raise InputError("E704", what, hint="remove it from the hub cache and run again")


@contextmanager
def _explained(model: _HubModel) -> Iterator[None]:
    """Say in our words what huggingface_hub raises."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    name = model.reference.path
    try:
        yield
    except GatedRepoError as error:
        what = f"'{name}': the model is gated, and access was not granted"
        hint = f"ask for access at https://huggingface.co/{model.repository}, then run: hf auth login"
        raise InputError("E702", what, hint=hint) from error
    except RevisionNotFoundError as error:
        what = f"'{name}': the model has no revision '{model.reference.revision}'"
        raise InputError("E701", what) from error
    except RepositoryNotFoundError as error:
        what = f"'{name}': no such directory, and no such model on the hub{nearest(name)}"
        hint = "correct it; if the model is private, run: hf auth login"
        raise InputError("E701", what, hint=hint) from error
    except _http_errors() as error:
        cause = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        what = f"'{name}': no such directory, and the hub cannot be used ({cause}){nearest(name)}"
        raise InputError("E704", what, hint="try again, or write the path of a local copy") from error


def _http_errors() -> tuple[type[Exception], ...]:
    """Errors of the network, of the disk and of the HTTP library, which differs between versions."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)))
