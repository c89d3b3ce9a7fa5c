"""The whole pipeline: what it leaves behind, and what it does when it is asked again."""

from __future__ import annotations

import contextlib
import json
import resource
from pathlib import Path
from textwrap import dedent

import pytest
from fixture_types import Cli, WritePlugin
from tiny import listing, llama, llama_config, write_checkpoint, write_llama

import mergecore
from mergecore.output.manifest import NAME as MANIFEST
from mergecore.types import Json


@pytest.fixture
def two_models(tmp_path: Path) -> dict[str, Json]:
    """A config that merges two checkpoints in the folder of the test."""
    for seed, name in enumerate("ab"):
        write_llama(tmp_path / name, 2, seed=seed)
    models: list[Json] = [{"model": str(tmp_path / name), "parameters": {"weight": 0.5}} for name in "ab"]
    return {"merge_method": "linear", "models": models}


def test_a_merge_that_is_there_already_is_left_as_it_is(tmp_path: Path, two_models: dict[str, Json]) -> None:
    out = mergecore.merge(two_models, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}

    mergecore.merge(two_models, tmp_path / "out")

    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_merge_that_can_never_succeed_leaves_nothing(tmp_path: Path, two_models: dict[str, Json]) -> None:
    tensors = llama(2, seed=1)
    tensors["model.norm.weight"][0] = float("nan")
    write_checkpoint(tmp_path / "b", tensors, llama_config(2))
    before = listing(tmp_path)

    with pytest.raises(mergecore.InputError, match=r"model\.norm\.weight.*1 value is not finite"):
        mergecore.merge(two_models, tmp_path / "out")

    assert listing(tmp_path) == before


def test_a_merged_model_can_be_merged_again(tmp_path: Path, two_models: dict[str, Json]) -> None:
    out = mergecore.merge(two_models, tmp_path / "out")

    twice = mergecore.merge(
        {"merge_method": "passthrough", "models": [{"model": str(out)}]}, tmp_path / "twice"
    )

    assert (twice / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert (twice / MANIFEST).read_bytes() != (out / MANIFEST).read_bytes()


def test_an_executor_of_another_package_is_chosen_by_name(
    tmp_path: Path,
    two_models: dict[str, Json],
    write_plugin: WritePlugin,
    cli: Cli,
) -> None:
    code = """
    from mergecore import Executor, hookimpl

    def run(job, params):
        from mergecore_plugins.executors.threads import run_threads
        open("was-here", "w").close()
        yield from run_threads(job, params)

    @hookimpl
    def mergecore_executors():
        yield Executor(name="noted", run=run)
    """
    write_plugin("noted", dedent(code))
    config = tmp_path / "config.yml"
    config.write_text(json.dumps(two_models), encoding="utf8")

    with contextlib.chdir(tmp_path):
        assert cli("merge", config, "out", "--executor", "noted").code == 0
        assert (tmp_path / "was-here").exists()
        assert cli("merge", config, "out2", "--executor", "nota").code == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--executor", "nope"], "error E606: executor 'nope': no installed plugin provides it"),
        (["--device", "nope"], "error E105: --device: unknown device 'nope'"),
        (["--device", "meta"], "error E105: --device: 'meta' cannot be used: Cannot copy out of meta tensor"),
    ],
)
def test_where_a_merge_cannot_run_is_said_before_it_begins(
    options: list[str], text: str, tmp_path: Path, two_models: dict[str, Json], cli: Cli
) -> None:
    config = tmp_path / "config.yml"
    config.write_text(json.dumps(two_models), encoding="utf8")
    failed = cli("merge", config, tmp_path / "out", *options)
    assert failed.code == 2
    assert failed.err.startswith(f"mergecore: {text}")
    if "--device" in options:
        assert "Hint: write cpu, auto, or an accelerator of this machine such as cuda:0" in failed.err


def test_what_is_there_already_is_said_to_be_so(
    tmp_path: Path, two_models: dict[str, Json], cli: Cli
) -> None:
    config = tmp_path / "config.yml"
    config.write_text(json.dumps(two_models), encoding="utf8")
    out = str(tmp_path / "out")
    assert "done: " in cli("merge", config, out).err
    assert "holds this merge already; nothing to do" in cli("merge", config, out).err


def test_more_files_than_the_limit_allows_are_merged(tmp_path: Path, two_models: dict[str, Json]) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        mergecore.merge(two_models, tmp_path / "out")
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
