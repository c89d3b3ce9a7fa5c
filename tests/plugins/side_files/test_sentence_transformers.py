"""Modules in folders of their own, as sentence-transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mergecore.types import Checkpoint, ModelReference
from mergecore_plugins.side_files.sentence_transformers import package_notes

OLD = {"word_embedding_dimension": 4, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
NEW = {"embedding_dimension": 4, "pooling_mode": "mean", "include_prompt": True}


def package(folder: Path, pooling: dict[str, Any], *further: str, **settings: Any) -> Checkpoint:
    names = ["Transformer", "Pooling", *further]
    listed = [
        {"idx": i, "name": str(i), "path": f"{i}_{name}", "type": f"sentence_transformers.models.{name}"}
        for i, name in enumerate(names)
    ]
    files: dict[str, Any] = {"modules.json": listed, "1_Pooling/config.json": pooling}
    files["sentence_bert_config.json"] = {"max_seq_length": 512, **settings}
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    return Checkpoint(
        ModelReference(folder.name), folder, {}, (), side_files={name: folder / name for name in files}
    )


@pytest.mark.parametrize(
    ("pooling", "told"),
    [
        (OLD, None),
        (NEW, None),
        ({**OLD, "pooling_mode_lasttoken": False}, None),
        (
            {**OLD, "pooling_mode_cls_token": True},
            "1_Pooling/config.json pooling_mode 'mean' and 'cls and mean'",
        ),
        ({**NEW, "pooling_mode": "cls"}, "1_Pooling/config.json pooling_mode 'mean' and 'cls'"),
        ({**NEW, "pooling_mode": ["max", "mean"]}, "pooling_mode 'mean' and 'max and mean'"),
        ({"embedding_dimension": 4, "pooling_mode_lasttoken": True}, "pooling_mode 'mean' and 'last'"),
    ],
)
def test_ways_to_pool_are_compared_whoever_wrote_them(
    tmp_path: Path, pooling: dict[str, Any], told: str | None
) -> None:
    a, b = package(tmp_path / "a", OLD), package(tmp_path / "b", pooling)
    found = list(package_notes([a, b], a))
    assert len(found) == (1 if told else 0)
    assert not told or (told in found[0] and "the files of a are written" in found[0])
    assert len(list(package_notes([a, b], b))) == len(found)


def test_modules_and_settings_that_differ_are_told(tmp_path: Path) -> None:
    a = package(tmp_path / "a", OLD, "Normalize")
    b = package(tmp_path / "b", OLD, do_lower_case=True, max_seq_length=256)
    (told,) = package_notes([a, b], a)
    assert "modules.json 2.type 'Normalize' and None" in told
    assert "sentence_bert_config.json max_seq_length 512 and 256" in told


def test_a_model_without_modules_is_told_of(tmp_path: Path) -> None:
    a, plain = package(tmp_path / "a", OLD), Checkpoint(ModelReference("p"), tmp_path, {}, ())
    assert "a has modules in folders of their own (modules.json), and p has none; they are copied" in str(
        list(package_notes([a, plain], a))
    )
    assert "and p has none; the output has none, as p gives the side files" in str(
        list(package_notes([a, plain], plain))
    )
    assert not list(package_notes([plain, plain], plain))
