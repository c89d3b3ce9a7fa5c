"""Which checkpoint is opened, and what every source has to keep."""

from pathlib import Path

import pytest
from mergecore import InputError, ModelSource, Registry, planner
from mergecore.testing import check_source, tiny_model
from safetensors.torch import load_file

SOURCE = Registry.discover().get(ModelSource, "{{ cookiecutter.name }}")


def test_the_newest_checkpoint_is_opened(tmp_path: Path) -> None:
    for step in (20, 100, 90):
        tiny_model(tmp_path / f"checkpoint-{step}", value=step)
    (tmp_path / "checkpoint-200-backup").mkdir()
    (tmp_path / "checkpoint-300").write_text("a file")
    expected = load_file(tmp_path / "checkpoint-100" / "model.safetensors")
    check_source(SOURCE, f"{SOURCE.name}:{tmp_path}", tensors=expected)


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no folder such as checkpoint-2000"):
        planner().open(f"{SOURCE.name}:{tmp_path}", ("model",))
