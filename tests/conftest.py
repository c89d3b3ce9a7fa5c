"""What many tests need: plugins of somebody else, checkpoints to merge, and the command line."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from fixture_types import Cli, Outcome, WriteModel, WritePlugin
from safetensors.torch import save_file


@pytest.fixture
def write_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WritePlugin]:
    """A function that installs a distribution, as far as this test and its subprocesses can tell.

    `write_plugin("dist", code, {"name": "dist"})` writes the module `dist.py` and the metadata of "dist" 1.0
    with the entry point `name = dist`, which is also what it does without the last argument.
    """
    written: list[str] = []

    def write(
        distribution: str,
        code: str,
        entries: Mapping[str, str] | None = None,
        version: str = "1.0",
        metadata: str | None = None,
    ) -> Path:
        folder = tmp_path / "plug" / distribution
        facts = folder / f"{distribution}-{version}.dist-info"
        facts.mkdir(parents=True)
        lines = [f"{key} = {value}\n" for key, value in (entries or {distribution: distribution}).items()]
        (folder / f"{distribution}.py").write_text(code)
        (facts / "entry_points.txt").write_text("[mergecore]\n" + "".join(lines))
        if metadata is None:
            metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        if metadata:
            (facts / "METADATA").write_text(metadata)
        monkeypatch.syspath_prepend(folder)
        path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
        written.append(distribution)
        return folder

    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def write_model() -> WriteModel:
    """A function that writes a checkpoint of two layers in which every number is `value`."""

    def write(folder: Path, value: float, model_type: str = "llama") -> Path:
        folder.mkdir(parents=True)
        names = [
            f"model.layers.{layer}.mlp.{part}.weight" for layer in range(2) for part in ("up", "down", "gate")
        ]
        shapes = {"model.embed_tokens.weight": (4, 2), "lm_head.weight": (4, 2), "model.norm.weight": (2,)}
        shapes |= dict.fromkeys(names, (2, 2))
        tensors = {name: torch.full(shape, value) for name, shape in shapes.items()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        config = {
            "model_type": model_type,
            "num_hidden_layers": 2,
            "vocab_size": 4,
            "tie_word_embeddings": False,
        }
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return write


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """A function that runs a command line of mergecore in this process."""
    from mergecore.cli.app import run

    def call(*words: str | Path) -> Outcome:
        capsys.readouterr()
        code = run([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
