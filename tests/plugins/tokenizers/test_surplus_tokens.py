"""A tokenizer that has a token more than its model has rows: any choice of the vocabulary gives a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import read_tensors, registry
from tiny_tokenizers import tokenizer_json, write_model

from mergecore import merge

TOKENS = ["<unk>", "<s>", "</s>", "a", "b", "c", "d", "e"]


@pytest.mark.parametrize("source", ["base", "union", "a", "b"])
@pytest.mark.parametrize("has", ["base", "a", "ab"])
@pytest.mark.parametrize("how", ["ordinary", "added", "special"])
@pytest.mark.parametrize("kind", ["BPE", "Unigram", "WordPiece"])
def test_a_token_without_a_row_keeps_nothing_from_merging(
    kind: str, how: str, has: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("base", "a", "b")):
        more = ["zz"] if name in has and (name == "base") == (has == "base") else []
        made = tokenizer_json(kind, TOKENS, more, how == "special")
        if how == "ordinary":
            made = tokenizer_json(kind, TOKENS + more)
        write_model(Path(name), made, len(TOKENS), number + 1.0)
    models = [{"model": name, "parameters": {"weight": 0.5}} for name in "ab"]
    config: dict[str, Any] = {"merge_method": "task_arithmetic", "base_model": "base", "models": models}
    out = merge({**config, "tokenizer_source": source, "dtype": "float32"}, "out", registry=registry())
    # row i of the models is i + 1 times 1, 2 and 3: 1 + (2 - 1) / 2 + (3 - 1) / 2 = 2.5
    rows = read_tensors(out)["model.embed_tokens.weight"][: len(TOKENS), 0].tolist()
    assert rows == [2.5 * (i + 1) for i in range(len(TOKENS))]
