"""An output folder that holds another merge, or a part of one: the error says how that differs from this one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import interrupt, refusal
from safetensors.torch import load_file, save_file
from tiny import llama_config, write_checkpoint

from mergecore import MergecoreError
from mergecore.output.manifest import NAME as MANIFEST
from mergecore.pipeline import merge
from mergecore.types.execution import Mode, RunOptions
from mergecore.types.plans import PlanOptions
from mergecore.version import __version__


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    for name in "ab":
        tensors = {key: torch.ones(40) for key in ("model.norm.weight", "model.layers.0.mlp.up_proj.weight")}
        write_checkpoint(tmp_path / name, tensors, llama_config(1))
        (tmp_path / name / "generation_config.json").write_text('{"top_k": 5}')
    models = [{"model": str(tmp_path / name), "parameters": {"weight": 0.5}} for name in "ab"]
    return {"merge_method": "linear", "models": models}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def change_weight(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    one, other = config["models"]
    return {**config, "models": [one, {**other, "parameters": {"weight": 0.25}}]}


def change_method(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**config, "merge_method": "task_arithmetic", "base_model": config["models"][0]["model"]}


def change_seed(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**config, "seed": 3}


def add_a_model(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    shutil.copytree(folder / "a", folder / "c")
    return {**config, "models": [*config["models"], {**config["models"][0], "model": str(folder / "c")}]}


def rename_a_model(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "b").rename(folder / "c")
    one, other = config["models"]
    return {**config, "models": [one, {**other, "model": str(folder / "c")}]}


def keep(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    return config


def add_a_file(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "b" / "chat_template.jinja").write_text("x")
    return config


def remove_a_file(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "b" / "generation_config.json").unlink()
    return config


def store_as_bfloat16(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / "b" / "model.safetensors"
    save_file({name: value.to(torch.bfloat16) for name, value in load_file(path).items()}, path)
    return config


def change_every_weight(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / "b" / "model.safetensors"
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)
    return config


SEEN = [
    (change_weight, {}, "config models[b].parameters.weight: 0.5 → 0.25"),
    (
        change_method,
        {},
        'config merge_method: "linear" → "task_arithmetic", config base_model: nothing → "a"',
    ),
    (change_seed, {}, "config seed: nothing → 3"),
    (keep, {"seed": 3}, "option --seed: nothing → 3"),
    (keep, {"shard_size": 1000}, "option --shard-size: nothing → 1000"),
    (keep, {"allow_crimes": True}, "option --allow-crimes: nothing → true"),
    (add_a_model, {}, "config models: "),
    (rename_a_model, {}, 'config models[c].model: "b" → "c"'),
    (add_a_file, {}, "b/chat_template.jinja (it is new)"),
    (remove_a_file, {}, "b/generation_config.json (it is gone)"),
    (store_as_bfloat16, {}, "b/model.safetensors ("),
    (change_every_weight, {}, "b/model.safetensors (its weights changed)"),
]


@pytest.mark.parametrize(("change", "options", "told"), SEEN)
def test_what_tells_another_merge_from_this_one_is_said(
    change: Callable[[dict[str, Any], Path], dict[str, Any]],
    options: dict[str, Any],
    told: str,
    config: dict[str, Any],
    out: Path,
) -> None:
    merge(config, out)
    interrupt(config, out.with_name("part"))
    other = change(config, out.parent)
    part = out.with_name("part")
    runs: list[tuple[Path, Mode, str]] = [
        (
            out,
            "new",
            f"E501 {out}: the output folder is not empty: it holds another merge, which differs in ",
        ),
        (part, "resume", f"E507 {part}: the partial run is of another plan; it differs in "),
    ]
    for target, mode, before in runs:
        run, plan = RunOptions(mode=mode), PlanOptions(**options)
        with pytest.raises(MergecoreError) as caught:
            merge(other, target, plan_options=plan, run_options=run)
        assert f"{caught.value.code} {caught.value}".startswith(before)
        assert told in str(caught.value)


def test_versions_that_differ_are_said(config: dict[str, Any], out: Path) -> None:
    merge(config, out)
    path = out / MANIFEST
    manifest = json.loads(path.read_text())
    manifest |= {"mergecore": "0.0.9", "fingerprint": "0"}
    path.write_text(json.dumps(manifest))
    assert f'differs in version of mergecore: "0.0.9" → "{__version__}". Hint' in refusal(
        lambda: merge(config, out)
    )
    manifest |= {"mergecore": __version__, "plugins": {**manifest["plugins"], "linear": "linear 0.0.9"}}
    path.write_text(json.dumps(manifest))
    assert 'differs in plugin linear: "linear 0.0.9" → "mergecore ' in refusal(lambda: merge(config, out))
