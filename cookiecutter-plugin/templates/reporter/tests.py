"""What is logged, and what every reporter has to keep."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import mergecore
import pytest
from mergecore.testing import check_reporter

PLUGIN = import_module("{{ cookiecutter.__module }}")


def test_the_reporter_keeps_the_contract() -> None:
    check_reporter(PLUGIN.mergecore_report)


def test_a_merge_is_a_line_in_the_file(
    tiny_models: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "merges.txt"
    monkeypatch.setenv("MERGE_LOG", str(log))
    entries = [{"model": str(model), "parameters": {"weight": 1}} for model in tiny_models(2)]
    mergecore.merge({"merge_method": "linear", "models": entries}, tmp_path / "merged")
    [line] = log.read_text().splitlines()
    assert line.startswith(f"{tmp_path / 'merged'}\t")
