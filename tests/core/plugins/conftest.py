"""What several tests of plugins of other packages share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from fixture_types import WriteModel
from third_parties import FOLDER, Install, Write


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A function that makes one of the packages importable, as an installation does."""
    names: list[str] = []

    def add(name: str) -> Path:
        monkeypatch.syspath_prepend(FOLDER / name)
        names.append(name)
        return FOLDER / name

    yield add
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def config(tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A function that writes the config of the average of `a`, all 1, and `b`, all 3, with what it is given."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", 1.0), ("b", 3.0)):
        write_model(tmp_path / name, value)
        (tmp_path / name / "tokenizer_config.json").write_text(json.dumps({"name": name}))
        (tmp_path / name / "chat_template.jinja").write_text(f"{name} {{{{ messages }}}}")

    def write(**more: object) -> Path:
        models = [{"model": f"./{name}", "parameters": {"weight": 1}} for name in "ab"]
        path = tmp_path / "config.yml"
        path.write_text(yaml.safe_dump({"merge_method": "linear", "models": models, **more}, sort_keys=False))
        return path

    return write


@pytest.fixture
def config_for(
    tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """A function that writes a config for two models and a method with weights, in the working directory."""
    monkeypatch.chdir(tmp_path)
    models = [write_model(tmp_path / "a", 1.0), write_model(tmp_path / "b", 2.0)]
    entries = "".join(f"  - model: ./{model.name}\n    parameters: {{weight: 1}}\n" for model in models)

    def write(name: str) -> Path:
        path = tmp_path / "config.yml"
        path.write_text(f"merge_method: {name}\nmodels:\n{entries}")
        return path

    return write
