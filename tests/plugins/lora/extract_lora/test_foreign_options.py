"""Every option of mergekit-extract-lora is understood by `extract-lora`, or its error says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import Cli
from tiny import write_llama

COMMANDS = json.loads(
    (Path(__file__).parents[3] / "core/cli/mergekit_options.json").read_text(encoding="utf8")
)
WORDS = "write models and output as words: mergecore extract-lora FINETUNED BASE OUT"
VALUES = {"--sv-epsilon": "0.01"}
REFUSED = {
    "--model": WORDS,
    "--base-model": WORDS,
    "--out-path": WORDS,
    "--include-regex": "--include takes names, patterns with * and roles, and no regular expressions",
    "-i": "--include takes names, patterns with * and roles, and no regular expressions",
    "--exclude-regex": "--exclude takes names, patterns with * and roles, and no regular expressions",
    "-e": "--exclude takes names, patterns with * and roles, and no regular expressions",
    "--save-module": "what has no factors is always stored whole, embeddings by --embeddings save; leave it out",
    "--allow-crimes": "a fine-tune has the tensors of its base; leave it out",
    "--unsafe-truncate-embeddings": "nothing is cut off here: embeddings of another size are stored whole; "
    "leave it out",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_llama(Path("base"), 1, seed=1)
    write_llama(Path("tuned"), 1, seed=2)


@pytest.mark.parametrize("kind", ["flags", "with a value"])
@pytest.mark.parametrize("command", ["mergekit-yaml", "mergekit-extract-lora"])
def test_options_are_understood_or_their_error_says_why_not(command: str, kind: str, cli: Cli) -> None:
    understood: list[str] = []
    for option in sorted({*COMMANDS[command][kind].split()} - {"--out-shard-size"}):  # an adapter is one file
        words = [option, *([VALUES.get(option, "2")] if kind != "flags" else [])]
        if option not in REFUSED:
            understood += words
            continue
        done = cli("extract-lora", "tuned", "base", "out", "--plan", *words)
        assert done.code == 2
        told = f"extract-lora has no option {option}. Hint: {REFUSED[option]}\n"
        assert done.err == f"mergecore: error E115: {told}"
    done = cli("extract-lora", "tuned", "base", "out", "--plan", *understood)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (["--max-rank", "2", "--no-embed-lora"], ["--rank", "2", "--embeddings", "save"]),
        (["--sv-epsilon=0.5", "--embed-lora"], ["--min-value", "0.5", "--embeddings", "lora"]),
        (["--skip-undecomposable", "--no-distribute-scale"], ["--only-linear"]),
    ],
)
def test_they_do_what_ours_do(words: list[str], ours: list[str], cli: Cli) -> None:
    assert cli("extract-lora", "tuned", "base", "theirs", *words).code == 0
    assert cli("extract-lora", "tuned", "base", "ours", *ours).code == 0
    one, other = (Path(name, "adapter_model.safetensors").read_bytes() for name in ("theirs", "ours"))
    assert one == other
