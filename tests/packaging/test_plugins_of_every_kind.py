"""Every kind of plugin that the template can make: baked, built, installed, listed, tested, used and uninstalled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from baked_plugins import KINDS, Baked, Environment, bake, config_of, run, usage, wheels
from fixture_types import Cli, Outcome
from safetensors.torch import load_file
from tiny import llama, read_tensors, write_checkpoint, write_llama
from tiny_tokenizers import tokenizer_json

from mergecore.testing import tiny_model

pytestmark = pytest.mark.slow

ANSWERS = (
    ("lambda", "--author", 'Zoë "Q" O\'Neil-Müller', "--licence", "MIT"),
    ("newest", "--author", "C:\\new\\team"),
    ("twin_towers", "--author", "山田 太郎", "--licence", "BSD-3-Clause"),
    ("json", "--author", "An author <ann@example.org>"),
    ("numpy", "--author", "😀"),
    ("import", "--author", "Smith, John & Sons", "--licence", "none"),
    ("soup-of-the-day", "--author", "# {name}"),
    ("count2", "--author", "a" * 200),
    ("logging", "--author", "'"),
    ("a" * 60, "--author", "%(x)s"),
    ("class", "--author", "${{ secrets }}"),
    ("all-of-it", "--author", 'An author\'s "team"', "--licence", "MIT"),
    ("statistics", "--author", "O'Neil\\"),
    ("random2", "--author", "{{ author }}", "--licence", "BSD-3-Clause"),
)
"""Name and other answers: words of Python, of its library and of others; none of it can do harm."""

ROUNDS = range(len(ANSWERS)) if os.environ.get("EVERY_ANSWER") else range(1)
"""In each, every kind gets the next answers; `make template` goes through all of them."""


def write_models(folder: Path, baked: Baked) -> None:
    """The models that a README names: `a` is all 0, `b` all 4; checkpoints of runs are too, the newest ones."""
    folder.mkdir()
    for name, value in (("a", 0.0), ("b", 4.0)):
        if baked.kind == "architecture":
            write_checkpoint(folder / name, twin_towers(value), {"model_type": baked.name})
        elif baked.kind == "moe-family":
            write_llama(folder / name, 2, seed=int(value))
        elif baked.kind == "sampler":
            tiny_model(folder / name, seed=int(value))
        else:
            write_llama(folder / name, 2, value)
        if baked.kind == "source":
            for step, number in ((20, -1.0), (100, value), (90, -2.0)):
                write_llama(folder / f"run-{name}" / f"checkpoint-{step}", 2, number)
            (folder / f"run-{name}" / "checkpoint-200-backup").mkdir()
            (folder / f"run-{name}" / "checkpoint-300").write_text("a file")
        if baked.kind == "tokenizer":
            (folder / name / "tokenizer.json").write_text(tokenizer(name))


def twin_towers(value: float) -> dict[str, torch.Tensor]:
    """An encoder of three layers and a decoder of two."""
    numbers = [("encoder", 3), ("decoder", 2)]
    return {
        f"{tower}.layers.{layer}.mlp.weight": torch.full((2, 2), value)
        for tower, count in numbers
        for layer in range(count)
    }


def tokenizer(name: str) -> str:
    """One vocabulary in files that differ."""
    return json.dumps(tokenizer_json("BPE", "abehinst"), indent=1 if name == "b" else None)


# ---- what the use of each kind must have brought about ------------------------------------------------------


def of_method(folder: Path, done: list[Outcome], baked: Baked) -> None:
    shown, _ = done
    assert f"comes with {baked.project} 0.1.0" in shown.out
    assert "number in [0, 1], shared, default 0.5" in shown.out
    merged = load_file(folder / "merged" / "model.safetensors")
    # the gradient is 0.2 at the first layer and 0.8 at the last, on the way from 0 to 4
    assert merged["model.layers.0.mlp.up_proj.weight"].unique().tolist() == pytest.approx([0.8])
    assert merged["model.layers.1.mlp.up_proj.weight"].unique().tolist() == pytest.approx([3.2])


def of_averages(folder: Path, done: list[Outcome], baked: Baked) -> None:
    assert all(one.unique().tolist() == [2.0] for one in read_tensors(folder / "merged").values())


def of_architecture(folder: Path, done: list[Outcome], baked: Baked) -> None:
    # the encoder has more layers, so it would be taken without the plugin
    assert "1 tensor (decoder.layers.1.mlp.weight): no slice takes this layer" in done[0].out
    assert "encoder.layers.2.mlp.weight" in done[0].out


def of_tokenizer(folder: Path, done: list[Outcome], baked: Baked) -> None:
    merged, b = (folder / name / "tokenizer.json" for name in ("merged", "b"))
    assert merged.read_bytes() == b.read_bytes() != (folder / "a" / "tokenizer.json").read_bytes()


def of_writer(folder: Path, done: list[Outcome], baked: Baked) -> None:
    files = sorted((folder / "merged").glob("*.npy"))
    assert {file.stem for file in files} == set(llama(2))
    for file in files:
        array = np.load(file)
        assert array.shape == llama(2)[file.stem].shape
        assert np.unique(array).tolist() == [2.0]


def of_executor(folder: Path, done: list[Outcome], baked: Baked) -> None:
    of_averages(folder, done, baked)
    lines = (folder / "seconds.txt").read_text().splitlines()
    assert {line.split()[1] for line in lines} == set(llama(2))


def of_command(folder: Path, done: list[Outcome], baked: Baked) -> None:
    assert done[0].out.split() == ["F32", f"{sum(one.numel() for one in llama(2).values()):,}"]


def of_reporter(folder: Path, done: list[Outcome], baked: Baked) -> None:
    assert (folder / "merges.txt").read_text().startswith("merged\t")


def of_side_file(folder: Path, done: list[Outcome], baked: Baked) -> None:
    assert (folder / "merged" / "parents.txt").read_text() == "./a\n./b\n"


def of_family(folder: Path, done: list[Outcome], baked: Baked) -> None:
    mixture, b = read_tensors(folder / "mixture"), read_tensors(folder / "b")
    assert torch.equal(mixture["model.layers.1.moe.1.up"], b["model.layers.1.mlp.up_proj.weight"])
    config = json.loads((folder / "mixture" / "config.json").read_text())
    assert (config["experts"], config["experts_used"]) == (2, 2)


def of_evaluator(folder: Path, done: list[Outcome], baked: Baked) -> None:
    [evaluation] = json.loads(done[0].out)["evaluations"]
    [score] = evaluation["scores"]
    assert (evaluation["name"], score["name"]) == ("sparsity", "near_zero")
    assert [row["value"] for row in score["results"]] == [1.0, 0.0]  # all of `a` is 0, all of `b` is 4


def of_policy(folder: Path, done: list[Outcome], baked: Baked) -> None:
    models = yaml.safe_load(done[0].out)["models"]
    assert [one["parameters"] for one in models] == [{"weight": 1.0}, {"weight": 0.25}]


def of_sampler(folder: Path, done: list[Outcome], baked: Baked) -> None:
    written = (folder / "found" / "history.jsonl").read_text().splitlines()
    tried = [one["point"] for one in map(json.loads, written) if "point" in one]
    assert tried
    assert {value for point in tried for value in point.values()} == {0.2, 1}


BROUGHT_ABOUT: Mapping[str, Callable[[Path, list[Outcome], Baked], None]] = {
    "method": of_method,
    "source": of_averages,
    "architecture": of_architecture,
    "tokenizer": of_tokenizer,
    "writer": of_writer,
    "executor": of_executor,
    "recipe": of_averages,
    "command": of_command,
    "reporter": of_reporter,
    "side-file": of_side_file,
    "moe-family": of_family,
    "evaluator": of_evaluator,
    "policy": of_policy,
    "sampler": of_sampler,
}


@pytest.mark.parametrize("number", ROUNDS)
def test_a_plugin_of_every_kind_is_built_installed_listed_tested_used_and_uninstalled(
    number: int, cli: Cli, wheel: Path, tmp_path: Path
) -> None:
    answers = [*ANSWERS[number:], *ANSWERS[:number]]
    baked = [bake(cli, tmp_path / "baked", kind, *one) for kind, one in zip(KINDS, answers, strict=True)]
    environment = Environment(tmp_path / "environment")
    environment.install(wheel, *wheels(baked, tmp_path / "dist"))

    check_list(environment, baked, tmp_path)
    check_own_tests(environment, baked, tmp_path)
    check_use(environment, baked, tmp_path)

    environment.uninstall(*(one.project for one in baked))
    [listed] = environment.mergecore([(tmp_path, {}, ["plugins", "list", "--json"])])
    assert {plugin["distribution"] for plugin in json.loads(listed.out)} == {"mergecore"}
    left = [path for one in baked for path in environment.site.glob(f"{one.module}*")]
    assert left == []


def check_list(environment: Environment, baked: list[Baked], folder: Path) -> None:
    [listed] = environment.mergecore([(folder, {}, ["plugins", "list", "--json"])])
    found = {
        plugin["name"]: plugin for plugin in json.loads(listed.out) if plugin["distribution"] != "mergecore"
    }
    assert found.keys() == {one.name for one in baked}
    for one in baked:
        plugin = found[one.name]
        assert (plugin["status"], plugin["reason"]) == ("active", ""), plugin
        assert (plugin["distribution"], plugin["version"]) == (one.project, "0.1.0")
        [provided] = plugin["provides"]
        assert provided == "Reporter" if one.kind == "reporter" else provided.endswith(f":{one.name}")
    checked = environment.mergecore([(folder, {}, ["plugins", "test", one.name]) for one in baked])
    for one, outcome in zip(baked, checked, strict=True):
        assert outcome.code == 0, (one, outcome)
        assert ", 0 failed" in outcome.out
    code = f"import sys, {', '.join(one.module for one in baked)}; sys.exit('torch' in sys.modules)"
    assert run(environment.python, "-c", code).returncode == 0, "listing the plugins would load torch"


def check_own_tests(environment: Environment, baked: list[Baked], folder: Path) -> None:
    options: list[str | Path] = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        "--import-mode=importlib",
        "--rootdir",
        folder,
    ]
    tested = run(
        environment.python, "-m", "pytest", *options, *(one.folder / "tests" for one in baked), cwd=folder
    )
    assert tested.returncode == 0, tested.stdout


def check_use(environment: Environment, baked: list[Baked], folder: Path) -> None:
    used = {one.kind: list(prepared_use(one, folder / "use" / one.kind)) for one in baked}
    done = iter(environment.mergecore([line for lines in used.values() for line in lines]))
    for one in baked:
        outcomes = [next(done) for _ in used[one.kind]]
        assert [outcome.code for outcome in outcomes] == [0] * len(outcomes), (one, outcomes)
        BROUGHT_ABOUT[one.kind](folder / "use" / one.kind, outcomes, one)


def prepared_use(baked: Baked, folder: Path) -> list[tuple[Path, Mapping[str, str], list[str]]]:
    """The command lines of the README, in a folder with the models that it names."""
    folder.parent.mkdir(exist_ok=True)
    write_models(folder, baked)
    if baked.kind == "sampler":
        (folder / "dev.txt").write_text("the cow says moo\n")
    if config := config_of(baked.readme()):
        name = "eval.yml" if baked.kind == "evaluator" else "config.yml"
        (folder / name).write_text(config, encoding="utf8")
    return list(usage(baked.readme(), folder))
