"""Models that several processes saved in shards: refused where they could do harm."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_checkpoints import write_dcp
from distributed_models import CUTS, HEAD, refused
from tiny import llama
from torch.distributed.checkpoint.metadata import Metadata

from mergecore import MergecoreError
from mergecore.types import Stored
from mergecore_plugins.sources.distributed.boxes import Box, joined

# ---- what is refused ---------------------------------------------------------------------------------------


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, called: Callable[..., Any], *given: Any) -> None:
        self._made = (called, given)

    def __reduce__(self) -> Any:
        return self._made


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Runs(os.system, "touch HIT"), "posix.system"),
        (Runs(eval, "open('HIT', 'w')"), ".eval'"),
        (Metadata({"a": Runs(os.system, "touch HIT")}), "posix.system"),  # type: ignore[dict-item]
        (Metadata({}, planner_data=Runs(exec, "open('HIT', 'w')")), ".exec'"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
def test_a_list_that_asks_for_more_is_refused_and_not_run(
    value: object, named: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_dcp(tmp_path / "a", llama(1))
    (folder / ".metadata").write_bytes(pickle.dumps(value, protocol))
    (found,) = refused(folder)
    assert found.startswith("E304")
    assert named in found
    assert not (tmp_path / "HIT").exists()


def changed(folder: Path, change: Callable[[Metadata], object]) -> list[str]:
    """What is said of a checkpoint whose list was changed."""
    write_dcp(folder, llama(1), CUTS)
    metadata: Metadata = pickle.loads((folder / ".metadata").read_bytes())  # noqa: S301
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return refused(folder)


def chunks(metadata: Metadata) -> list[Any]:
    found = metadata.state_dict_metadata[f"model.{HEAD}"].chunks  # type: ignore[union-attr]
    assert len(found) == 3
    return found


def infos(metadata: Metadata) -> dict[Any, Any]:
    found: dict[Any, Any] = metadata.storage_data
    return found


def with_info(**values: object) -> Callable[[Metadata], object]:
    def change(metadata: Metadata) -> None:
        key = next(one for one in infos(metadata) if one.fqn == f"model.{HEAD}" and one.offset[0] == 3)
        for name, value in values.items():
            setattr(infos(metadata)[key], name, value)

    return change


def resized(metadata: Metadata) -> None:
    for one in chunks(metadata):
        object.__setattr__(one, "sizes", torch.Size((1, 4)))


@pytest.mark.parametrize(
    ("change", "code", "texts"),
    [
        (
            lambda m: chunks(m).pop(),
            "E205",
            ["its shards do not make up its shape [8, 4]", "incomplete or damaged"],
        ),
        (lambda m: chunks(m).append(chunks(m)[0]), "E205", ["its shards do not make up its shape [8, 4]"]),
        (lambda m: chunks(m).clear(), "E205", ["its shards do not make up its shape [8, 4]"]),
        (lambda m: infos(m).clear(), "E212", ["no file holds its shard from [0, 0] on. Hint: copy it again"]),
        (with_info(relative_path="../x"), "E301", ["'../x' is not a plain file name in the checkpoint"]),
        (with_info(relative_path="/etc/passwd"), "E301", ["do not use the checkpoint"]),
        (
            with_info(relative_path="__9_0.distcp"),
            "E212",
            ["__9_0.distcp missing: 1 of 3 files are not there"],
        ),
        (with_info(length=10**9), "E206", ["cut off: it has", "and 'lm_head.weight' ends at"]),
        (with_info(offset=2**70), "E202", ["it does not say where the tensors are"]),
        (with_info(offset=-1), "E202", ["it does not say where the tensors are"]),
        (with_info(offset=1), "E202", ["not a torch.save file"]),
        (
            with_info(transform_descriptors=["zstd"]),
            "E202",
            ["is compressed (zstd), which cannot be read", "save the checkpoint again without extensions"],
        ),
        (resized, "E213", ["a shard of 'lm_head.weight' is [2, 4] there, and [1, 4] in .metadata"]),
        (
            lambda m: object.__setattr__(chunks(m)[0], "offsets", torch.Size((9, 0))),
            "E205",
            ["a shard of [3, 4] from [9, 0] on goes beyond its shape [8, 4]", "save the checkpoint again"],
        ),
        (
            lambda m: object.__setattr__(chunks(m)[0], "offsets", torch.Size((0,))),
            "E205",
            ["a shard of it has no place in it"],
        ),
        (
            lambda m: setattr(m.state_dict_metadata[f"model.{HEAD}"], "chunks", None),
            "E205",
            ["it has no shape, or no shards"],
        ),
        (lambda m: setattr(m, "storage_data", None), "E202", ["it lists no tensors, or not where they are"]),
        (
            lambda m: infos(m).update({1: 2}),
            "E202",
            ["it does not say where the tensors are", "copy the checkpoint"],
        ),
    ],
)
def test_a_damaged_list_is_refused(
    change: Callable[[Metadata], object], code: str, texts: list[str], tmp_path: Path
) -> None:
    found = "\n".join(changed(tmp_path / "a", change))
    assert found.startswith(code), found
    assert all(text in found for text in texts), found


def test_a_shard_must_be_one_tensor(tmp_path: Path) -> None:
    folder = write_dcp(tmp_path / "a", {"w": torch.ones(2)}, ranks=1)
    torch.save([torch.ones(2)], folder / "__0_0.distcp")
    metadata: Metadata = pickle.loads((folder / ".metadata").read_bytes())  # noqa: S301
    for one in infos(metadata).values():
        one.length = (folder / "__0_0.distcp").stat().st_size
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    (found,) = refused(folder)
    assert "the pickle is not that of one tensor" in found


def test_shards_of_several_formats_are_refused(tmp_path: Path) -> None:
    one = Box((0, 0), Stored("a", "F32", (1, 2), Path("x"), 0))
    two = Box((1, 0), Stored("b", "BF16", (1, 2), Path("x"), 0))
    with pytest.raises(MergecoreError, match="its shards are of several formats: BF16, F32") as caught:
        joined("w", (2, 2), [one, two], "x")
    assert caught.value.code == "E205"


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (b"", "E202", "the pickle is damaged"),
        (pickle.dumps({"a": 1}), "E202", "it is not the list of a distributed checkpoint"),
        (b"\x80\x02" + b"}" * 2000 + b".", "E308", "the pickle has more than 1000 steps"),
        (b"\x80\x02" + b"}" * 5000 + b".", "E308", "the list of tensors has 5003 bytes, limit 4000"),
        (b"\x80\x02" + b"}" * 5000 + b".", "E308", "is it the file that torch wrote?"),
    ],
)
def test_what_is_no_list_is_refused(
    data: bytes, code: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from mergecore_plugins.sources.distributed import metadata, weights

    monkeypatch.setattr(weights, "MAX_METADATA", 4000)
    monkeypatch.setattr(metadata, "_ALLOWED", replace(metadata._ALLOWED, steps=1000))
    folder = write_dcp(tmp_path / "a", llama(1))
    (folder / ".metadata").write_bytes(data)
    (found,) = refused(folder)
    assert found.startswith(code)
    assert text in found
