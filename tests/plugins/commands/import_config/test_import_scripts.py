"""`mergecore import-config`: scripts that were written for mergekit, as a config of today."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from imported_configs import made, refusal
from tiny import read_tensors, registry, write_llama

from mergecore import merge

# ---- scripts -----------------------------------------------------------------------------------------------


def test_a_script_with_mergekit_legacy_is_a_config() -> None:
    """One weight counts for all, two densities for the first two; the base of ties has no parameters of its own."""
    found = made(
        "#!/bin/bash\nset -e\n# mergekit-legacy before\nCUDA_VISIBLE_DEVICES=0 mergekit-legacy './out dir' \\\n"
        "  --merge a --merge b --weight 0.5 --density 0.3 --density 0.4 --method ties \\\n"
        "  --base-model base --bf16 --int8-mask --cuda --out-shard-size 2B --random-seed 5\necho done\n"
    )
    assert yaml.safe_load(found.text) == {
        "merge_method": "ties",
        "base_model": "base",
        "models": [
            {"model": "a", "parameters": {"weight": 0.5, "density": 0.3}},
            {"model": "b", "parameters": {"weight": 0.5, "density": 0.4}},
            {"model": "base"},
        ],
        "parameters": {"normalize": True},
        "dtype": "bfloat16",
        "seed": 5,
    }
    assert found.notes == (
        "'--int8-mask' is left out: it never changed a result",
        "'--cuda': no part of a config; `mergecore merge CONFIG OUT` understands them",
    )


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (
            "--merge a --merge b --method slerp --base-model a --weight 0.3",
            {
                "merge_method": "slerp",
                "base_model": "a",
                "models": [{"model": "b"}],
                "parameters": {"t": 0.3},
            },
        ),
        (
            "--merge a --merge b --method linear --weight 0.5 --weight 0.2 --no-normalize --density 0.3",
            {
                "merge_method": "linear",
                "models": [
                    {"model": "a", "parameters": {"weight": 0.5}},
                    {"model": "b", "parameters": {"weight": 0.2}},
                ],
                "parameters": {"normalize": False},
            },
        ),
        (
            "--merge a --method linear --base-model base",
            {
                "merge_method": "linear",
                "base_model": "base",
                "models": [
                    {"model": "a", "parameters": {"weight": 1.0}},
                    {"model": "base", "parameters": {"weight": 1.0}},
                ],
                "parameters": {"normalize": True},
            },
        ),
    ],
)
def test_mergekit_legacy_writes_what_each_method_takes(words: str, config: dict[str, object]) -> None:
    assert yaml.safe_load(made(f"mergekit-legacy out {words}\n").text) == config


def test_a_config_of_mergekit_legacy_merges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """linear without normalize: 0.5 · 1 + 0.5 · 2."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", 1.0), ("b", 2.0)):
        write_llama(tmp_path / name, 1, value)
    Path("new.yml").write_text(
        made("mergekit-legacy out --merge a --merge b --method linear --no-normalize --weight 0.5").text
    )
    found = read_tensors(merge("new.yml", "out", registry=registry()))
    assert {float(value) for one in found.values() for value in one.unique()} == {1.5}


def test_a_script_with_mergekit_layershuffle_is_a_document() -> None:
    found = made(
        "mergekit-layershuffle out -m a -w 0.5 -m b -w 0.25 --fp16 --full-random --print-yaml --random-seed 3"
    )
    assert yaml.safe_load(found.text) == {
        "layershuffle": {
            "models": [{"model": "a", "weight": 0.5}, {"model": "b", "weight": 0.25}],
            "full_random": True,
        },
        "dtype": "float16",
        "seed": 3,
    }
    assert found.notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mergekit-legacy out --merge a --naive-count",
            "--naive-count cannot be kept: signs are elected by the sum of the entries, not by their number",
        ),
        ("mergekit-legacy out --method linear", "mergekit-legacy: there is no --merge"),
        ("mergekit-legacy out --merge a --weight x", "mergekit-legacy: Invalid value for '--weight'"),
        (
            "mergekit-legacy out --merge a --merge b --method slerp --base-model a",
            "mergekit-legacy: slerp needs --weight once, and it is given 0 times",
        ),
        (
            "mergekit-legacy out --merge a --weight 1 --weight 2 --weight 3 --method linear",
            "mergekit-legacy: --weight is given 3 times for 1 model",
        ),
        (
            "mergekit-legacy out --merge a --method magic",
            "merge method 'magic': no installed plugin provides it",
        ),
        (
            "mergekit-layershuffle out -m a -m b -w 1",
            "mergekit-layershuffle: --weight is given 1 time, --model 2 times",
        ),
        (
            "mergekit-legacy a --merge x\nmergekit-legacy b --merge x\n",
            "there are 2 command lines in it: mergekit-legacy, mergekit-legacy. Hint: put each into a file of its own",
        ),
        (
            "bin/mergekit-yaml c.yml out --cuda",
            "mergekit-yaml has its config or its models in files, which need no script. Hint: `mergecore merge CONFIG "
            "OUT` does the same",
        ),
        ("mergekit-tokensurgeon a b c", "Hint: `mergecore transplant MODEL DONOR OUT` does the same"),
        ("bakllama c.yml out", "Hint: `mergecore import-config CONFIG` does the same"),
        (
            "mergekit-evolve c.yml --storage-path x",
            "mergekit-evolve searches for parameters, and has its config in a file. Hint: `mergecore import-config "
            "FILE` prints that as one for `mergecore search`",
        ),
        ("mergekit-frobnicate x", "mergekit-frobnicate is not a command of mergekit that mergecore knows"),
    ],
)
def test_scripts_that_stand_for_no_config_are_refused_with_the_reason(text: str, message: str) -> None:
    assert message in refusal(text)
