"""The same config gives the same bytes, however many workers there are and whatever memory they may use.

Blocks hold 8 elements here, so that even small tensors have several.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import listing, registry, write_llama

from mergecore import execute, plan
from mergecore.compute import group
from mergecore.engine import step
from mergecore.output import digests
from mergecore.types.execution import RunOptions

Config = dict[str, Any]
SCRIPT = Path(__file__).with_name("plan_digest.py")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, name in enumerate(("base", "a", "b", "c")):
        write_llama(tmp_path / "m" / name, 2, seed=seed)
        (tmp_path / "m" / name / "generation_config.json").write_text(f'{{"from": "{name}"}}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(method: str, **parameters: Any) -> Config:
    models = [{"model": f"m/{name}", "parameters": {"weight": [0.2, 0.9]}} for name in "abc"]
    base = {} if method == "linear" else {"base_model": "m/base"}
    return {
        "merge_method": method,
        **base,
        "models": models,
        "parameters": parameters,
        "seed": 3,
        "dtype": "bfloat16",
    }


CONFIGS = {
    "linear": config("linear"),
    "ties": config("ties", density=0.5, rescale=True),
    "dare_linear": config("dare_linear", density=0.5),
    "della": config("della", density=0.5),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_workers_and_memory_do_not_change_a_byte(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (group, step, digests):
        monkeypatch.setattr(module, "BLOCK", 8)
    made = plan(CONFIGS[name], registry=registry())
    found = []
    for threads, memory in itertools.product((1, 2, 4), (None, 400_000_000)):
        out = folder / f"{threads}-{memory}"
        execute(made, out, registry=registry(), options=RunOptions(threads=threads, max_memory=memory))
        found.append(listing(out))
    assert len(found[0]) == 5
    assert all(one == found[0] for one in found)


def test_another_seed_changes_the_bytes_of_a_random_method(folder: Path) -> None:
    made = [plan({**CONFIGS["dare_linear"], "seed": seed}, registry=registry()) for seed in (3, 4)]
    one, two = (listing(execute(each, folder / f"{each.seed}", registry=registry())) for each in made)
    assert one["model.safetensors"] != two["model.safetensors"]


def test_names_of_folders_do_not_change_the_weights(folder: Path) -> None:
    """Masks depend on the place of a model in the config, not on its path."""
    first = execute(plan(CONFIGS["dare_linear"], registry=registry()), folder / "one", registry=registry())
    (folder / "m").rename(folder / "n")
    moved = yaml.safe_load(yaml.safe_dump(CONFIGS["dare_linear"]).replace("m/", "n/"))
    second = execute(plan(moved, registry=registry()), folder / "two", registry=registry())
    assert listing(first)["model.safetensors"] == listing(second)["model.safetensors"]


def run(words: list[Any], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@pytest.mark.slow
def test_hashing_does_not_change_a_plan(folder: Path) -> None:
    """Without a base, the first model of the config gives what is not merged."""
    Path("c.yml").write_text(yaml.safe_dump(CONFIGS["linear"]))
    plans = [run([SCRIPT, "c.yml"], PYTHONHASHSEED=str(seed)) for seed in range(8)]
    assert len({ended(one) for one in plans}) == 1


@pytest.mark.slow
def test_hashing_and_threads_do_not_change_a_byte_of_the_command_line(folder: Path) -> None:
    Path("c.yml").write_text(yaml.safe_dump(CONFIGS["della"]))
    merges: Mapping[str, list[str]] = {"0": ["-j", "1"], "1": ["-j", "2", "--max-memory", "350MB"]}
    for process in [
        run(["-m", "mergecore", "merge", *words, "c.yml", f"out{seed}"], PYTHONHASHSEED=seed)
        for seed, words in merges.items()
    ]:
        ended(process)
    assert listing(Path("out0")) == listing(Path("out1"))
