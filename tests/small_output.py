"""For tests of the output: a small plan, and runs of it."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, Unpack

from mergecore.output.digests import block_digest, tensor_digest
from mergecore.output.storages.folder import Stage
from mergecore.types import Json, OutputTensor, StepResult, Written
from mergecore.types.execution import Mode
from mergecore_plugins.writers.safetensors import SafetensorsParams, lay_out

TENSORS = [OutputTensor("a", "U8", (4,)), OutputTensor("b", "U8", (4,)), OutputTensor("c", "F32", (2, 1))]
LAYOUT = lay_out(TENSORS, SafetensorsParams(shard_size=8))  # a and b in the first file, c in the second
DATA = {"a": b"aaaa", "b": b"bbbb", "c": b"ccccCCCC"}
SIDE_FILES: dict[str, Path | bytes] = {"config.json": b"{}\n"}
FACTS: dict[str, Json] = {"format": "mergecore-manifest/1"}


class Options(TypedDict, total=False):
    mode: Mode
    overwrite: bool
    recheck: bool


def opened(target: Path, seed: int = 1, **options: Unpack[Options]) -> Stage:
    return Stage.open(target, LAYOUT, TENSORS, {"seed": seed}, **options)


def make(output: Stage, *names: str) -> None:
    for name in names:
        output.write(name, 0, DATA[name])
        output.finish(
            StepResult(name, (Written(name, tensor_digest([block_digest(DATA[name])]), len(DATA[name])),))
        )


def merged(target: Path, seed: int = 1, **options: Unpack[Options]) -> dict[str, bytes]:
    with opened(target, seed, **options) as output:
        if not output.complete:
            make(output, *(DATA.keys() - output.done.keys()))
            output.seal(SIDE_FILES, FACTS)
    return contents(target)


def interrupted(target: Path, *names: str, **options: Unpack[Options]) -> None:
    """A run that stops after `names`."""
    with opened(target, **options) as output:
        make(output, *names)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def staging(target: Path) -> Path:
    return target.with_name(f".{target.name}.mergecore-partial")
