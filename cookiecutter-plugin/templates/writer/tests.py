"""What numpy reads of the files, and what every writer has to keep."""

from collections.abc import Callable
from pathlib import Path

import mergecore
import numpy as np
import pytest
from mergecore import ConfigError, OutputWriter, Registry
from mergecore.testing import check_writer

WRITER = Registry.discover().get(OutputWriter, "{{ cookiecutter.name }}")
Models = Callable[..., list[Path]]


def config(models: list[Path], dtype: str) -> dict[str, object]:
    entries = [{"model": str(model), "parameters": {"weight": 1}} for model in models]
    return {"merge_method": "linear", "models": entries, "dtype": dtype, "output": {"writer": WRITER.name}}


def test_the_writer_keeps_the_contract() -> None:
    check_writer(WRITER)


def test_numpy_reads_every_tensor(tiny_models: Models, tmp_path: Path) -> None:
    merged = mergecore.merge(config(tiny_models(2, value=3.0), "float32"), tmp_path / "merged")
    files = list(merged.glob("*.npy"))
    assert files
    assert all((np.load(file) == 3).all() for file in files)


def test_a_format_that_npy_lacks_is_refused(tiny_models: Models) -> None:
    with pytest.raises(ConfigError, match="npy has no BF16"):
        mergecore.plan(config(tiny_models(2), "bfloat16"))
