"""Every option of mergekit-tokensurgeon is understood by `transplant`, or its error says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import Cli
from torch import Tensor

COMMANDS = json.loads(
    (Path(__file__).parents[2] / "core/cli/mergekit_options.json").read_text(encoding="utf8")
)
VALUES = {
    "--out-shard-size": "5B",
    "--approximation-method": "common_interpolation",
    "-a": "randn",
    "--weight-scheme": "distance_proportional",
    "-w": "least_squares",
    "--subword-method": "first_last",
    "-s": "weighted_mean",
    "--prefix-match": "yes",
    "-pm": "no",
    "--byte-match": "lm_head",
    "-bm": "embed",
    "--batch-size": "-1",
}
REFUSED = {
    "--magikarp": "there is no filter of poorly trained tokens here; leave it out",
    "--new-vocab-noise": "no noise is added to rows here; leave it out",
    "-nvn": "no noise is added to rows here; leave it out",
    "--new-vocab-scale": "rows are not scaled here; leave it out",
    "-nvs": "rows are not scaled here; leave it out",
    "--unsafe-truncate-embeddings": "nothing is cut off here: rows are matched by token; leave it out",
}


@pytest.mark.parametrize("kind", ["flags", "with a value"])
@pytest.mark.parametrize("command", ["mergekit-yaml", "mergekit-tokensurgeon"])
def test_options_of_tokensurgeon_are_understood_or_their_error_says_why_not(
    command: str, kind: str, pair: tuple[Tensor, Tensor], cli: Cli
) -> None:
    for option in COMMANDS[command][kind].split():
        words = [option, *([VALUES.get(option, "2")] if kind != "flags" else [])]
        done = cli("transplant", "a", "b", "out", "--plan", *words)
        if option in REFUSED:
            assert done.code == 2
            assert done.err == (
                f"mergecore: error E115: transplant has no option {option}. Hint: {REFUSED[option]}\n"
            )
        else:
            assert done.code == 0, f"{words}: {done.err}"


@pytest.mark.parametrize(
    ("words", "here"),
    [
        (["--k", "3", "-a", "common_interpolation", "-c"], ["-k", "3", "--method", "common-interpolation"]),
        (["-a", "randn", "--random-seed", "4"], ["--method", "random", "--seed", "4"]),
        (["-a", "subword", "-s", "first_last"], ["--method", "subword", "--pieces", "first-last"]),
        (
            ["-a", "common_interpolation", "--no-cosine-similarity", "-w", "distance_proportional"],
            ["--method", "common-interpolation", "--metric", "euclidean", "--weights", "distance"],
        ),
    ],
)
def test_options_of_tokensurgeon_do_what_ours_do(
    words: list[str], here: list[str], pair: tuple[Tensor, Tensor], cli: Cli
) -> None:
    assert cli("transplant", "a", "b", "theirs", *words).code == 0
    assert cli("transplant", "a", "b", "ours", *here).code == 0
    one, other = (Path(name, "model.safetensors").read_bytes() for name in ("theirs", "ours"))
    assert one == other


def test_a_method_that_is_not_here_is_named_with_those_that_are(
    pair: tuple[Tensor, Tensor], cli: Cli
) -> None:
    done = cli("transplant", "a", "b", "out", "-a", "stb")
    assert done.code == 2
    assert "'stb' is not one of 'omp'" in done.err
