"""What several tests of folders of models share."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_folders import CONFIG, INDEX, ONE, TWO, arrays, write
from safetensors.numpy import save_file


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sound model in one file, at `m/bad`."""
    folder = tmp_path / "m" / "bad"
    folder.mkdir(parents=True)
    save_file(arrays(), folder / "model.safetensors")
    write(folder, "config.json", CONFIG)
    return folder


@pytest.fixture
def sharded(model: Path) -> Path:
    """The same model in two files with an index."""
    (model / "model.safetensors").unlink()
    names = sorted(arrays())
    for file, part in ((ONE, names[:2]), (TWO, names[2:])):
        save_file({name: arrays()[name] for name in part}, model / file)
    files = {name: ONE if name in names[:2] else TWO for name in names}
    write(model, INDEX, {"metadata": {"total_size": 464}, "weight_map": files})
    return model
