"""Every config in `examples/` runs as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny import registry

import mergecore
from mergecore.types import MergeMethod

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("config", sorted(EXAMPLES.glob("*.yml")), ids=lambda path: path.stem)
def test_an_example_runs(
    config: Path, tiny_llamas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("base", "code", "math"):
        shutil.copytree(tiny_llamas / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)

    out = mergecore.merge(config, tmp_path / "out", registry=registry())

    assert (out / "model.safetensors").is_file()


def test_the_readme_lists_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf8")
    assert all(f"`{path.name}`" in text for path in EXAMPLES.glob("*.yml"))


def test_the_page_of_the_methods_names_every_method() -> None:
    text = (EXAMPLES.parent / "docs" / "reference" / "methods.md").read_text(encoding="utf8")
    missing = [method.name for method in registry().all(MergeMethod) if f"`{method.name}`" not in text]
    assert not missing
