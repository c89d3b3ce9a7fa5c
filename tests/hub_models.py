"""What several tests of the hub share."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from mergecore.errors import MergecoreError
from mergecore.types import (
    Checkpoint,
    ModelReference,
    OpenOptions,
)
from mergecore_plugins.sources.hub import open_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


ONLINE, OFFLINE = OpenOptions(), OpenOptions(offline=True)


def repository(parts: int = 2) -> dict[str, bytes]:
    """The files of a model with two weight files and with others that a merge does not need."""
    files = {
        "config.json": json.dumps({"model_type": "tiny", "vocab_size": 4}).encode(),
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"hello",
        "modeling_tiny.py": b"raise SystemExit",
        "README.md": b"---\nlicense: mit\n---\n# tiny",
        "pytorch_model.bin": b"PK",
        "onnx/model.onnx": b"onnx",
    }
    names = [f"model-{i + 1:05}-of-{parts:05}.safetensors" for i in range(parts)]
    for i, name in enumerate(names):
        files[name] = save({f"layers.{i}.w": np.full((4, 50_000), i, np.float32)})
    where = {f"layers.{i}.w": name for i, name in enumerate(names)}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": where}).encode()
    return files


def cached(cache: Path, files: dict[str, bytes], repo: str = "o/n", ref: str = "main") -> Path:
    """The snapshot folder of a model put into the cache as huggingface_hub does."""
    home = cache / f"models--{repo.replace('/', '--')}"
    (home / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
    (home / "refs" / ref).write_text(COMMIT)
    (home / "blobs").mkdir(exist_ok=True)
    snapshot = home / "snapshots" / COMMIT
    for name, content in files.items():
        blob = home / "blobs" / sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    return snapshot


def open_reference(path: str, revision: str | None = None, options: OpenOptions = OFFLINE) -> Checkpoint:
    return open_hub(ModelReference(path, revision), options)


def refusal(
    code: str, text: str, path: str, revision: str | None = None, options: OpenOptions = OFFLINE
) -> None:
    with pytest.raises(MergecoreError, match=text) as caught:
        open_reference(path, revision, options)
    assert caught.value.code == code
