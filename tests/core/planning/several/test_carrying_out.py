"""Carrying out several documents: what is made, made again, taken up, kept and removed; and where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from fixture_types import Cli
from tiny import listing, write_llama

import mergecore
from mergecore import PlanOptions, RunOptions
from mergecore.files.folders import Folder
from mergecore.types import Event, PlanReady, StepDone

Write = Callable[[str], Path]
SCRIPT = Path(__file__).resolve().parents[3] / "interrupted_documents.py"
WRITTEN = ("--fuse", "never")
LINEAR = "merge_method: linear\nparameters: {weight: 1}\n"
CHAIN = f"""\
name: first
{LINEAR}models: [{{model: ./a}}, {{model: ./b}}]
---
name: second
{LINEAR}models: [{{model: first}}, {{model: ./c}}]
---
{LINEAR}models: [{{model: second}}, {{model: ./d}}]
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A function that writes the config; four models, all of whose numbers are one, lie beside it."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"a": 1.0, "b": 3.0, "c": 6.0, "d": 12.0}.items():
        write_llama(tmp_path / name, 1, value)

    def to(text: str) -> Path:
        Path("config.yml").write_text(text)
        return Path("config.yml")

    return to


def made(config: Path, **options: object) -> list[str]:
    """The documents of which tensors were made by a run."""
    seen: list[str] = []
    current = ""

    def hear(event: Event) -> None:
        nonlocal current
        if isinstance(event, PlanReady):
            current = event.document or "result"
        elif isinstance(event, StepDone) and current not in seen:
            seen.append(current)

    mergecore.merge(
        config,
        "out",
        plan_options=PlanOptions(fuse="never"),
        run_options=RunOptions(**options),  # type: ignore[arg-type]
        progress=hear,
    )
    return seen


def test_a_change_of_a_document_makes_again_only_what_reads_it(write: Write, cli: Cli) -> None:
    assert made(write(CHAIN)) == ["first", "second", "result"]
    assert made(write(CHAIN)) == []
    changed = CHAIN.replace("{model: ./c}", "{model: ./c, parameters: {weight: 2}}")
    assert made(write(changed), overwrite=True) == ["second", "result"]
    assert made(write(CHAIN.replace("./d", "./c")), overwrite=True) == ["second", "result"]
    told = cli("merge", write(changed), "out", "--overwrite", *WRITTEN).err
    assert "warning: out.parts/second is made again: it holds another merge, which differs in config" in told


def test_the_progress_says_which_document_it_is(write: Write, cli: Cli) -> None:
    told = cli("merge", write(CHAIN), "out", *WRITTEN).err
    assert "document 1 of 3 (first): merging 2 models" in told
    assert "document 3 of 3: merging 2 models" in told
    events = [
        json.loads(line) for line in cli("merge", write(CHAIN), "new", "--json", *WRITTEN).out.splitlines()
    ]
    ready = [(one["document"], one["number"], one["count"]) for one in events if one["event"] == "PlanReady"]
    assert ready == [("first", 1, 3), ("second", 2, 3), ("", 3, 3)]


def test_intermediate_results_lie_where_the_command_line_says(write: Write, cli: Cli) -> None:
    assert cli("merge", write(CHAIN), "out", "--intermediate", "deep/er", *WRITTEN).code == 0
    assert sorted(one.name for one in Path("deep/er").iterdir()) == ["first", "second"]
    assert not Path("out.parts").exists()
    outcome = cli("merge", "config.yml", "other", "-I", "deep/er", "--lazy", *WRITTEN)
    assert outcome.code == 0
    assert "-I is --intermediate deep/er here" in outcome.err
    assert outcome.err.count("holds this merge already") == 2


def test_they_may_lie_in_the_folder_of_the_config(write: Write, cli: Cli) -> None:
    """There, a folder called like a document is what that document has made."""
    for out in ("out", "again"):
        outcome = cli("merge", write(CHAIN), out, "--intermediate", ".", *WRITTEN)
        assert outcome.code == 0, outcome.err
    assert outcome.err.count("holds this merge already") == 2


def test_another_result_there_is_left_alone(write: Write, cli: Cli) -> None:
    """A merge of somebody's own is not an intermediate result, whatever it is called."""
    Path("one.yml").write_text(f"{LINEAR}models: [{{model: ./a}}, {{model: ./d}}]\n")
    assert cli("merge", "one.yml", "parts/first").code == 0
    before = listing(Path("parts/first"))
    outcome = cli("merge", write(CHAIN), "out", "--intermediate", "parts", *WRITTEN)
    assert outcome.code == 6
    assert "E501: parts/first: the output folder is not empty: it holds another merge" in outcome.err
    assert listing(Path("parts/first")) == before


def test_intermediate_results_are_removed_on_request_and_nothing_else(write: Write, cli: Cli) -> None:
    assert cli("merge", write(CHAIN), "out", "--remove-intermediate", *WRITTEN).code == 0
    assert not Path("out.parts").exists()
    assert cli("merge", "config.yml", "new", *WRITTEN).code == 0
    Path("new.parts/first/notes.txt").write_text("mine")
    assert cli("merge", "config.yml", "new", "--remove-intermediate", *WRITTEN).code == 0
    assert [str(one) for one in Path("new.parts").rglob("*")] == [
        "new.parts/first",
        "new.parts/first/notes.txt",
    ]
    assert listing(Path("out")) == listing(Path("new"))


def test_a_result_is_known_again_where_intermediate_results_were_removed(write: Write, cli: Cli) -> None:
    assert cli("merge", write(CHAIN), "out", "--remove-intermediate", *WRITTEN).code == 0
    outcome = cli("merge", "config.yml", "out", "--remove-intermediate", *WRITTEN)
    assert outcome.code == 0, outcome.err
    assert "out holds this merge already" in outcome.err
    assert not Path("out.parts").exists()


def test_killed_within_documents_and_between_them_the_next_run_makes_the_same_bytes(tmp_path: Path) -> None:
    """By SIGKILL, before calls drawn at random; `make kills` tries many more."""
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--runs", "6", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sum(found.values()) - found["calls"] >= 6


def test_what_cannot_be_removed_is_told(write: Write, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("merge", write(CHAIN), "out", *WRITTEN).code == 0

    def refuse(self: Folder, name: str) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(Folder, "remove", refuse)
    outcome = cli("merge", "config.yml", "out", "--remove-intermediate", *WRITTEN)
    assert outcome.code == 6
    assert "out.parts: removing intermediate results" in outcome.err


def test_the_disk_must_have_room_for_intermediate_results_too(
    write: Write, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(CHAIN)
    size = mergecore.plan(config, options=PlanOptions(fuse="never")).layout.size
    real = os.statvfs("/")
    block = SimpleNamespace(f_bavail=2 * size, f_frsize=1, f_blocks=real.f_blocks)
    monkeypatch.setattr(os, "statvfs", lambda path: block)
    outcome = cli("merge", config, "out", *WRITTEN)
    assert outcome.code == 6
    assert (
        "E503: out: the weights need 5.93 kB, 3.95 kB of them for intermediate results; the disk has 3.95 kB free. "
        "Hint: free some space, or choose another disk for these by --intermediate DIR"
    ) in outcome.err
    assert not Path("out.parts").exists()
    block.f_bavail = 3 * size
    assert cli("merge", config, "out", *WRITTEN).code == 0
    block.f_bavail = size
    assert cli("merge", config, "other", "--intermediate", "out.parts", *WRITTEN).code == 0
