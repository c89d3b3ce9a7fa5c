"""What several tests of plugins of other packages share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from fixture_types import Cli
from tiny_tokenizers import tokenizer_json

FOLDER = Path(__file__).resolve().parent / "third_party"


Install = Callable[[str], Path]


Write = Callable[..., Path]


def refusal(cli: Cli, *words: str | Path) -> list[str]:
    """What is wrong, without places in temporary folders."""
    outcome = cli(*words)
    assert outcome.code != 0
    return [line.replace(f"{Path.cwd()}/", "") for line in outcome.err.splitlines()]


def write_vocabulary(folder: Path, tokens: str) -> None:
    """A tokenizer of four tokens, as many as the models have rows."""
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json("BPE", list(tokens))))
