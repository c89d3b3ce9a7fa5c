"""Layers that predict tokens further ahead, which a config counts: it says of the output what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import llama, llama_config, registry, write_checkpoint

from mergecore import plan
from mergecore.files.strict_json import parse_json
from mergecore.types import Json, Plan
from mergecore.types.plans import PlanOptions

KEY = "num_nextn_predict_layers"
AHEAD = {"model.layers.2.eh_proj.weight": torch.ones(4, 8)}
AFTER = {"mtp.layers.0.proj.weight": torch.ones(4, 4)}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, more: dict[str, torch.Tensor], **changes: Json) -> None:
    write_checkpoint(Path(name), {**llama(2, seed=1), **more}, llama_config(2, **changes))


def merged(**options: Any) -> Plan:
    models: list[Json] = [{"model": name, "parameters": {"weight": 0.5}} for name in "ab"]
    config: dict[str, Json] = {"merge_method": "linear", "models": models}
    return plan(config, registry=registry(), options=PlanOptions(**options))


def config_of(made: Plan) -> Any:
    content = made.side_files["config.json"]
    assert isinstance(content, bytes)
    return parse_json(content, code="E220", place="config.json")


@pytest.mark.parametrize(
    "key", [KEY, "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules", "mtp_layers"]
)
def test_what_no_model_has_is_no_longer_promised(key: str) -> None:
    for name in "ab":
        write(name, {}, **{key: 1})
    made = merged()
    assert config_of(made)[key] == 0
    assert made.warnings == (f"{key} was 1 and becomes 0: no model has a tensor of such a layer",)


@pytest.mark.parametrize("more", [AHEAD, AFTER])
def test_what_is_there_stays_promised(more: dict[str, torch.Tensor]) -> None:
    for name in "ab":
        write(name, more, **{KEY: 1})
    made = merged()
    assert config_of(made)[KEY] == 1
    assert made.warnings == ()


@pytest.mark.parametrize("more", [AHEAD, AFTER])
def test_what_is_left_out_is_named(more: dict[str, torch.Tensor]) -> None:
    write("a", {}, **{KEY: 1})
    write("b", more, **{KEY: 1})
    made = merged(unexpected="drop")
    assert config_of(made)[KEY] == 1
    assert (
        f"{KEY} stays 1, but the output has no tensor of such a layer: b has them, and they are left out"
        in (made.warnings)
    )
    assert config_of(merged(unexpected="copy"))[KEY] == 1


def test_settings_that_count_no_layers_are_left_alone() -> None:
    for name in "ab":
        write(name, {}, mtp_loss_scaling_factor=1, use_mtp=True, num_mtp_attention_heads=2)
    made = merged()
    assert made.warnings == ()
    assert config_of(made)["mtp_loss_scaling_factor"] == 1
