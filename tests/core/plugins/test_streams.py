"""What plugins print never stands among results: it goes to standard error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_types import WriteModel, WritePlugin

import mergecore
from mergecore import Registry
from mergecore.types.events import Event

LOUD = """
import os, subprocess, sys
import torch
from mergecore import Executor, MergeMethod, Params, hookimpl
from mergecore.types import ModelSource

print("IMPORTED")
os.write(1, b"BY C CODE\\n")


class NoParams(Params):
    pass


def loud(group, params):
    print("GROUP")
    os.write(1, b"BY C CODE IN A METHOD\\n")
    subprocess.run([sys.executable, "-c", "print('A PROCESS')"])

    def block(block):
        print("BLOCK")
        return block.x[0]

    return group.map(block)


@hookimpl
def mergecore_merge_methods():
    print("HOOK")
    yield MergeMethod(name="loud", merge=loud, params=NoParams)


@hookimpl
def mergecore_report(event):
    print("REPORTER")
"""
WORDS = ("IMPORTED", "BY C CODE", "GROUP", "BLOCK", "HOOK", "REPORTER", "A PROCESS")


@pytest.fixture
def config(tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        write_model(tmp_path / name, 1.0)
    path = tmp_path / "config.yml"
    path.write_text("merge_method: loud\nmodels: [{model: ./a}, {model: ./b}]\n")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("merge", "config.yml", "out", "--json"),
        ("plan", "config.yml", "--json"),
        ("plugins", "list", "--json"),
        ("methods", "list", "--json"),
        ("methods", "show", "loud", "--json"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_standard_output_holds_json_and_nothing_else(
    words: tuple[str, ...], config: Path, write_plugin: WritePlugin
) -> None:
    write_plugin("loud", LOUD)
    command = [str(Path(sys.executable).parent / "mergecore"), *words]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout
    for line in done.stdout.splitlines():
        json.loads(line)
    said = WORDS if words[0] == "merge" else ("IMPORTED", "BY C CODE", "HOOK")
    assert all(word in done.stderr for word in said)


def test_results_for_people_are_free_of_it_too(config: Path, write_plugin: WritePlugin) -> None:
    write_plugin("loud", LOUD.replace("os.write", "(lambda *_: None)"))
    command = [str(Path(sys.executable).parent / "mergecore"), "plan", "config.yml"]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert not any(word in done.stdout for word in WORDS)


def test_what_a_caller_of_python_prints_in_progress_stays_where_it_was(
    config: Path, write_plugin: WritePlugin, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plugin("loud", LOUD.replace("os.write", "(lambda *_: None)").replace("subprocess.run", "str"))

    def progress(event: Event) -> None:
        print(type(event).__name__)  # noqa: T201 - it is what this test is about

    mergecore.merge(config, "out", progress=progress, registry=Registry.discover())

    out, err = capsys.readouterr()
    assert set(out.split()) == {"PlanReady", "StepDone", "ModelSealed"}
    assert {"GROUP", "BLOCK", "HOOK", "REPORTER"} <= set(err.split())
    assert sys.stdout is not sys.stderr


@pytest.mark.parametrize("locale", ["ascii", "latin-1", "cp1252"])
def test_a_locale_that_lacks_a_character_crashes_nothing(locale: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": locale}
    folder = tmp_path / "größe-模型"
    for words in (
        ["methods", "list"],
        ["methods", "show", "ties"],
        ["plugins", "list"],
        ["verify", str(folder)],
    ):
        command = [str(Path(sys.executable).parent / "mergecore"), *words]
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert b"Traceback" not in done.stderr
        assert done.returncode == (0 if words[0] != "verify" else 6)
    # click writes UTF-8 where Python says ASCII, which terminals nearly always mean
    assert (b"\\u6a21\\u578b" if locale != "ascii" else folder.name.encode()) in done.stderr
