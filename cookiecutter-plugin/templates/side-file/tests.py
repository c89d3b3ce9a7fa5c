"""What stands in the file, and what every side file has to keep."""

from collections.abc import Callable
from pathlib import Path

import mergecore
import pytest
from mergecore import Registry, SideFile
from mergecore.testing import check_side_file

SIDE_FILE = Registry.discover().get(SideFile, "{{ cookiecutter.name }}")


def test_the_side_file_keeps_the_contract() -> None:
    check_side_file(SIDE_FILE)


def test_the_file_names_the_models(
    tiny_models: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entries = [{"model": f"./{model.name}", "parameters": {"weight": 1}} for model in tiny_models(2)]
    wanted = {SIDE_FILE.name: {"file": "from.txt"}}
    merged = mergecore.merge({"merge_method": "linear", "models": entries, "side_files": wanted}, Path("merged"))
    assert (merged / "from.txt").read_text() == "./llama-0\n./llama-1\n"
