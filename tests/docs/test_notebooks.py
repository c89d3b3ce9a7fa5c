"""The notebooks of the examples run, and print what they say that they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from notebooks import EXAMPLES, executed, stored

NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_says(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(path.read_text(encoding="utf8"))
    assert executed(notebook) == stored(notebook), "run `python tests/notebooks.py` if that is intended"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_in_good_form(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len({*ids}) == len(ids)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    for cell in code:
        assert max(map(len, "".join(cell["source"]).splitlines())) <= 110
    assert str(path.parent.parent) not in path.read_text(encoding="utf8")


def test_the_readme_of_the_examples_lists_every_notebook() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf8")
    assert NOTEBOOKS
    assert all(f"`{path.name}`" in text for path in NOTEBOOKS)
