"""A plan holds for the files it was made from: what changed since is noticed in the run and in the next one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import Cli
from refusals import interrupt, refusal
from tiny import llama_config, read_tensors, write_checkpoint

import mergecore
from mergecore.output.inputs import input_files
from mergecore.pipeline import execute, merge, plan
from mergecore.planning.merge import plan_merge
from mergecore.types import Json
from mergecore.types.events import Event, ModelSealed, StepDone
from mergecore.types.execution import RunOptions

COUNT = 200_000
"""Elements of a tensor: far more than the samples of a file can cover."""
NAMES = ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Json]:
    """The mean of model a, all 1, and model b, all 3: all 2."""
    for name, value in (("a", 1.0), ("b", 3.0)):
        write_checkpoint(
            tmp_path / name, {one: torch.full((COUNT,), value) for one in NAMES}, llama_config(2)
        )
        (tmp_path / name / "generation_config.json").write_text('{"top_k": 5}')
    models: list[Json] = [{"model": str(tmp_path / name), "parameters": {"weight": 0.5}} for name in "ab"]
    return {"merge_method": "linear", "models": models}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def edit_in_place(path: Path) -> None:
    """Write 7 over one number that no sample covers; size, inode and modification time stay."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size - 4 * COUNT // 10)
        file.write(np.float32(7).tobytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_a_copy(path: Path) -> None:
    """Put an edited copy of the same size and modification time in its place."""
    before = path.stat()
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    edit_in_place(copy)
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.replace(path)


CHANGES = [edit_in_place, replace_by_a_copy]


# ---- a run that is taken up again --------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", ["new", "resume"])
def test_weights_changed_during_an_interruption_are_not_mixed_with_those_before(
    change: Callable[[Path], None], mode: Any, config: dict[str, Json], out: Path
) -> None:
    interrupt(config, out)
    change(out.parent / "b" / "model.safetensors")

    said = refusal(lambda: merge(config, out, run_options=RunOptions(mode=mode)))

    assert said.startswith(f"E507 {out}: the files that the partial run read have changed: ")
    assert f"{out.parent}/b/model.safetensors (it was " in said
    assert not out.exists()
    merge(config, out, run_options=RunOptions(mode="restart"))
    assert sorted({*read_tensors(out)["model.norm.weight"].tolist()}) == [2.0, 4.0]  # (1 + 7) / 2


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("model", ["a", "b"])
def test_a_side_file_changed_during_an_interruption_makes_another_plan(
    name: str, model: str, config: dict[str, Json], out: Path
) -> None:
    interrupt(config, out)
    path = out.parent / model / name
    path.write_text(path.read_text().replace("{", '{"note": 1, ', 1))
    said = refusal(lambda: merge(config, out, run_options=RunOptions(mode="resume")))
    assert said == (
        f"E507 {out}: the partial run is of another plan; it differs in {model}/{name} (its contents "
        "changed). Hint: --restart to throw it away, or choose another output folder"
    )


def test_side_files_that_were_only_touched_are_the_same(config: dict[str, Json], out: Path) -> None:
    interrupt(config, out)
    os.utime(out.parent / "a" / "config.json")
    merge(config, out, run_options=RunOptions(mode="resume"))
    assert {*read_tensors(out)["model.norm.weight"].tolist()} == {2.0}


def in_a_hub_cache(folder: Path, name: str = "") -> Path:
    """Move the weights of a model into a folder of blobs, as the cache of a hub has them; the blob."""
    file = folder / "model.safetensors"
    digest = name or hashlib.sha256(file.read_bytes()).hexdigest()
    blob = folder / "blobs" / digest
    blob.parent.mkdir()
    file.rename(blob)
    file.symlink_to(Path("blobs") / digest)
    return blob


def test_a_file_that_a_hub_names_by_its_digest_may_be_fetched_again(
    config: dict[str, Json], out: Path
) -> None:
    blob = in_a_hub_cache(out.parent / "b")
    interrupt(config, out)
    data = blob.read_bytes()
    blob.rename(blob.with_name("gone"))
    blob.write_bytes(data)
    merge(config, out, run_options=RunOptions(mode="resume"))
    assert {*read_tensors(out)["model.norm.weight"].tolist()} == {2.0}


@pytest.mark.parametrize("change", CHANGES)
def test_the_name_of_a_blob_is_no_proof_of_its_bytes(
    change: Callable[[Path], None], config: dict[str, Json], out: Path
) -> None:
    blob = in_a_hub_cache(out.parent / "b")
    interrupt(config, out)
    change(blob)
    said = refusal(lambda: merge(config, out, run_options=RunOptions(mode="resume")))
    assert said.startswith(f"E507 {out}: the files that the partial run read have changed: ")


# ---- a result that is there already ------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_a_result_of_weights_that_changed_since_is_not_taken_for_this_merge(
    change: Callable[[Path], None], config: dict[str, Json], out: Path
) -> None:
    merge(config, out)
    change(out.parent / "b" / "model.safetensors")
    said = refusal(lambda: merge(config, out))
    assert said == (
        f"E501 {out}: it holds this merge, but {out.parent}/b/model.safetensors was written to, replaced or "
        "moved after it was made. Hint: --overwrite to make it again, or choose another output folder"
    )
    merge(config, out, run_options=RunOptions(overwrite=True))
    assert 4.0 in read_tensors(out)["model.norm.weight"].tolist()


def test_a_result_of_side_files_that_changed_since_is_another_merge(
    config: dict[str, Json], out: Path
) -> None:
    merge(config, out)
    (out.parent / "a" / "generation_config.json").write_text('{"top_k": 6}')
    assert refusal(lambda: merge(config, out)) == (
        f"E501 {out}: the output folder is not empty: it holds another merge, which differs in "
        "a/generation_config.json (its contents changed). "
        "Hint: choose another output folder, or --overwrite to replace it"
    )


def test_a_result_of_side_files_that_were_only_touched_is_this_merge(
    config: dict[str, Json], out: Path
) -> None:
    merge(config, out)
    path = out.parent / "a" / "config.json"
    path.write_bytes(path.read_bytes())
    events: list[Event] = []
    merge(config, out, progress=events.append)
    assert [event.made for event in events if isinstance(event, ModelSealed)] == [False]


def test_that_nothing_is_to_do_comes_with_what_was_compared(
    config: dict[str, Json], out: Path, tmp_path: Path, cli: Cli
) -> None:
    import yaml

    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    assert cli("merge", tmp_path / "config.yml", out).code == 0
    again = cli("merge", tmp_path / "config.yml", out)
    assert again.code == 0
    assert again.err.splitlines()[-1] == f"{out} holds this merge already; nothing to do"
    again = cli("merge", tmp_path / "config.yml", out, "-v")
    assert (  # config, generation_config and weights of two models; those of the result, with its card
        f"{out} holds this merge already; nothing to do: config, seed, versions and 4 side files of the models are "
        "those of its manifest; 2 files of weights have not been written to since; "
        "its 4 files have the sizes, headers and digests they were made with"
    ) in again.err


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("config.json", lambda path: path.write_bytes(path.read_bytes()[::-1]), "its SHA-256 is "),
        ("config.json", Path.unlink, "missing"),
        ("model.safetensors", edit_in_place, "tensor 'model.norm.weight' is damaged"),
        ("model.safetensors", replace_by_a_copy, "tensor 'model.norm.weight' is damaged"),
        ("model.safetensors", lambda path: os.truncate(path, 1000), "has 1000 bytes, not "),
    ],
)
def test_a_damaged_result_is_noticed(
    name: str, change: Callable[[Path], object], told: str, config: dict[str, Json], out: Path
) -> None:
    merge(config, out)
    change(out / name)
    said = refusal(lambda: merge(config, out))
    assert said.startswith(f"E508 {out / name}: {told}")
    merge(config, out, run_options=RunOptions(overwrite=True))
    assert {*read_tensors(out)["model.norm.weight"].tolist()} == {2.0}


def test_a_result_that_was_copied_is_read_again_and_found_whole(config: dict[str, Json], out: Path) -> None:
    merge(config, out)
    path = out / "model.safetensors"
    path.write_bytes(path.read_bytes())
    events: list[Event] = []
    merge(config, out, progress=events.append)
    assert [event.made for event in events if isinstance(event, ModelSealed)] == [False]


# ---- within a run ------------------------------------------------------------------------------------------


def write_other_text(path: Path) -> None:
    """Same size, same modification time."""
    before = path.stat()
    path.write_text(path.read_text().replace("5", "6"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_a_link(path: Path) -> None:
    secret = path.parent.parent / "secret"
    secret.write_text("secret")
    path.unlink()
    path.symlink_to(secret)


def put_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [write_other_text, put_a_link, put_a_pipe, Path.unlink])
def test_a_side_file_that_changed_after_the_plan_is_not_written(
    change: Callable[[Path], None], config: dict[str, Json], out: Path
) -> None:
    made = plan(config)
    change(out.parent / "a" / "generation_config.json")
    assert refusal(lambda: execute(made, out))[:4] in ("E235", "E236", "E309")
    assert not out.exists()


@pytest.mark.parametrize("name", ["a/generation_config.json", "b/config.json", "b/model.safetensors"])
@pytest.mark.parametrize("change", [edit_in_place, replace_by_a_copy])
def test_any_input_that_changes_during_the_run_stops_it(
    name: str, change: Callable[[Path], None], config: dict[str, Json], out: Path
) -> None:
    path = out.parent / name
    if path.suffix == ".json":
        path.write_text(path.read_text() + " " * 4 * COUNT)

    def spoil(event: Event) -> None:
        if isinstance(event, StepDone) and event.done == event.total:
            change(path)

    said = refusal(lambda: merge(config, out, progress=spoil))
    assert said.startswith(f"E235 {path}: the file changed after the merge was planned")
    assert not out.exists()


def test_a_model_that_changes_while_it_is_planned_is_noticed(
    config: dict[str, Json], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(*arguments: Any) -> Any:
        made = original(*arguments)
        write_other_text(out.parent / "a" / "generation_config.json")
        return made

    original = plan_merge
    monkeypatch.setattr("mergecore.planning.several.compiling.plan_merge", spoiled)
    said = refusal(lambda: mergecore.merge(config, out))
    assert said.startswith(f"E235 {out.parent}/a/generation_config.json: the file changed after")


def test_what_was_known_of_a_file_is_not_in_the_manifest(config: dict[str, Json], out: Path) -> None:
    """Inodes and times are of this machine; the same merge elsewhere is the same to the byte."""
    merge(config, out)
    for name in "ab":
        for path in (out.parent / name).iterdir():
            path.write_bytes(path.read_bytes())
    merge(config, out.with_name("again"))
    one, other = (read_all(folder) for folder in (out, out.with_name("again")))
    assert one == other


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_plan_knows_every_file_that_it_was_made_from(config: dict[str, Json], tmp_path: Path) -> None:
    found = {Path(file.name).relative_to(tmp_path).as_posix(): file for file in input_files(plan(config))}
    assert sorted(found) == [
        f"{name}/{file}"
        for name in "ab"
        for file in ("config.json", "generation_config.json", "model.safetensors")
    ]
    status = (tmp_path / "a" / "config.json").stat()
    assert found["a/config.json"].state == {
        "size": status.st_size,
        "inode": status.st_ino,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "sha256": hashlib.sha256((tmp_path / "a" / "config.json").read_bytes()).hexdigest(),
    }
