"""Tiny Llama checkpoints with tokenizers, under the names that the pages use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import llama, llama_config, write_checkpoint
from tiny_tokenizers import tokenizer_json


@pytest.fixture(scope="session")
def tiny_llamas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints `base`, `code` and `math`, of four layers each."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "code", "math")):
        write_checkpoint(folder / name, llama(4, seed=seed), llama_config(4))
        added = ["<s>", "<|user|>" if name == "math" else "</s>"]
        (folder / name / "tokenizer.json").write_text(json.dumps(tokenizer_json("BPE", "aehint", added)))
    return folder
