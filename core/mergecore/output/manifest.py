"""The manifest of a merged model: what it was made from and a digest of everything in it.

`facts` is known before a weight is read, `complete` adds what was written, `read_manifest` reads it back.
Nothing in it depends on where or when the merge ran: no local path, no time, no host.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from mergecore.errors import OutputError
from mergecore.files.paths import path_of
from mergecore.files.safe_open import open_regular, resolved
from mergecore.files.small_files import read_small
from mergecore.files.strict_json import MAX_BYTES, parse_json
from mergecore.models.local_paths import without_local_paths
from mergecore.models.module_folders import is_inside
from mergecore.output.digests import sample_digest
from mergecore.output.journal import Record
from mergecore.types import Checkpoint, Json, Layout, OutputTensor, Plan, Step
from mergecore.version import MANIFEST, RNG, __version__

NAME = MANIFEST
FORMAT = "mergecore-manifest/1"


def _checked(name: str) -> str:
    if not is_inside(name):
        raise ValueError("leads out of the folder")
    return name


_Name = Annotated[str, AfterValidator(_checked)]


class WrittenTensor(BaseModel):
    """A tensor as it was written, and where."""

    model_config = ConfigDict(frozen=True)

    dtype: str
    shape: tuple[int, ...]
    digest: str
    file: _Name
    offset: int
    nbytes: int
    encoding: str | None = None
    """That of the output writer, where it is not stored in `dtype`."""


class WrittenFile(BaseModel):
    """A file of the model.  One of weights has a digest of its header only: its tensors have their own."""

    model_config = ConfigDict(frozen=True)

    name: _Name
    size: int
    sha256: str | None = None
    header_bytes: int | None = None
    header_sha256: str | None = None


class Manifest(BaseModel):
    """What `verify` needs of a manifest, and as extras what the model was made from."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format: str
    fingerprint: str
    writer: str | None = None
    """The output writer."""
    tensors: Mapping[str, WrittenTensor]
    files: tuple[WrittenFile, ...]


def identity(plan: Plan) -> dict[str, Json]:
    """What decides the bytes of the result; two plans of one identity and one layout make the same model."""
    value: dict[str, Json] = {
        "mergecore": __version__,
        "document": dict(plan.document),
        "seed": plan.seed,
        "rng": RNG,
        "models": [_model(model) for model in plan.models],
        "plugins": dict(plan.plugins),
    }
    if plan.side_digests:
        value["side_files"] = dict(plan.side_digests)
    if made := _made_of(plan.steps):
        value["made_of_sha256"] = made
    return without_local_paths(value, plan.models)


def _made_of(steps: Sequence[Step]) -> str | None:
    """A digest of how the inputs are made that are not read as they are stored; None where all are."""
    digest = hashlib.sha256()
    found = False
    for step in steps:
        for one in step.everything:
            if words := one.tensor.identity:
                found = True
                digest.update(repr((step.name, one.model, words)).encode())
    return digest.hexdigest() if found else None


def facts(plan: Plan, libraries: Mapping[str, str], warnings: Sequence[str] = ()) -> dict[str, Json]:
    """The manifest as far as the plan decides it; `warnings` are those of the run, after the plan's own."""
    value: dict[str, Json] = {
        "format": FORMAT,
        "name": plan.title,
        **identity(plan),
        **({"intermediate": True} if plan.part and plan.part.number < plan.part.count else {}),
        **({"writer": plan.writer} if plan.writer else {}),
        "libraries": dict(libraries),
        "dropped": [
            {"model": plan.models[one.model].name, "reason": one.reason, "names": list(one.names)}
            for one in plan.dropped
        ],
        "warnings": [*plan.warnings, *warnings],
    }
    return without_local_paths(value, plan.models)


def complete(
    facts: Mapping[str, Json],
    fingerprint: str,
    layout: Layout,
    tensors: Sequence[OutputTensor],
    records: Mapping[str, Record],
    files: Sequence[WrittenFile],
) -> dict[str, Json]:
    """The whole manifest: `facts`, then what was written."""
    return {
        **facts,
        "fingerprint": fingerprint,
        "nonfinite": {tensor.name: count for tensor in tensors if (count := records[tensor.name].nonfinite)},
        "files": [file.model_dump(exclude_none=True) for file in files],
        "tensors": {tensor.name: _tensor(tensor, layout, records[tensor.name].digest) for tensor in tensors},
    }


def as_bytes(manifest: Mapping[str, Json]) -> bytes:
    """The text of a manifest: one line per fact, tensor and file."""
    lines = [f"{_compact(key)}: {_spread(value)}" for key, value in manifest.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest of a finished folder.

    Raises:
        OutputError: E508 when there is none, or it is not one.
    """
    path = path_of(folder, "the folder") / NAME
    if not path.parent.is_dir():
        raise OutputError("E508", "there is no such folder", place=str(folder), hint="check the spelling")
    if not path.is_file():
        hint = "only folders that mergecore wrote can be verified"
        raise OutputError("E508", f"the folder holds no {NAME}", place=str(folder), hint=hint)
    return parse_manifest(read_small(path, code="E508", max_bytes=MAX_BYTES), str(path))


def parse_manifest(data: bytes, place: str) -> Manifest:
    """The manifest that `data` holds; raises as `read_manifest` does."""
    value = parse_json(data, code="E508", place=place)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else None
        what = f"its format is {_compact(found)}, not '{FORMAT}'"
        raise OutputError("E508", what, place=place, hint="use the mergecore version that wrote it")
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise OutputError("E508", f"not a manifest: {where}: {first['msg']}", place=place) from None


def _model(model: Checkpoint) -> Json:
    """A model by its content.  Where no revision vouches for the weights, a sample of them does."""
    sampled = model.fetch is None and model.revision is None
    files: list[Json] = []
    others = {file for part in model.parts for file in part.weight_files}
    for file in (one for one in model.weight_files if one not in others):
        entry: dict[str, Json] = {
            "name": model.file_name(file),
            "size": file.size,
            "header_sha256": file.header_sha256,
        }
        if sampled:
            place = f"{model.name}/{model.file_name(file)}"
            with open_regular(resolved(file.path, place), place) as (read, _):
                entry["sample_sha256"] = sample_digest(read, file.size)
        files.append(entry)
    side_files: list[Json] = [{"name": name, "sha256": one.sha256} for name, one in model.small.items()]
    return {
        "reference": model.name,
        "revision": model.revision,
        "files": files,
        **({"side_files": side_files} if side_files else {}),
        **({"parts": [_model(part) for part in model.parts]} if model.parts else {}),
    }


def _tensor(tensor: OutputTensor, layout: Layout, digest: str) -> Json:
    slot = layout.slots[tensor.name]
    written = WrittenTensor(
        dtype=tensor.dtype,
        shape=tensor.shape,
        digest=digest,
        file=layout.files[slot.file].name,
        offset=slot.offset,
        nbytes=slot.nbytes,
        encoding=slot.encoding or None,
    )
    value: dict[str, Json] = written.model_dump(mode="json", exclude_none=True)
    return value


def _spread(value: Json) -> str:
    if isinstance(value, dict) and value:
        inner = ",\n".join(f"  {_compact(key)}: {_compact(item)}" for key, item in value.items())
        return "{\n" + inner + "\n}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {_compact(item)}" for item in value) + "\n]"
    return _compact(value)


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def libraries() -> dict[str, str]:
    """The versions of what computes and writes."""
    import numpy as np
    import torch

    return {"torch": torch.__version__, "numpy": np.__version__}
