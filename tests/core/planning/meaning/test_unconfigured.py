"""Models without config.json among others are told of, and merge."""

from __future__ import annotations

from pathlib import Path

import pytest
from workshop import Workshop


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path)


def only_weights(shop: Workshop, name: str) -> None:
    for file in shop.model(name).iterdir():
        if file.name != "model.safetensors":
            file.unlink()


def test_a_model_without_config_is_taken_to_mean_what_the_donor_does(shop: Workshop) -> None:
    shop.model("a")
    only_weights(shop, "b")
    told = "\n".join(shop.plan(shop.config()).warnings)
    assert (
        "b has no config.json, so it is not known whether its weights mean the same as those of a; they are assumed to"
        in told
    )


def test_its_layers_can_be_chosen(shop: Workshop) -> None:
    shop.model("a")
    only_weights(shop, "b")
    sources = [{"sources": [{"model": name, "layer_range": [0, 1]}]} for name in "ab"]
    plan = shop.plan({"merge_method": "passthrough", "slices": sources})
    assert not any("loads" in one for one in plan.warnings)
    assert "b has no config.json" in "\n".join(plan.warnings)


def test_a_donor_without_config_leaves_the_output_without_one(shop: Workshop) -> None:
    only_weights(shop, "a")
    shop.model("b")
    plan = shop.plan(shop.config())
    assert "config.json" not in plan.side_files
    assert "so the output has none; to take that of b, name b first or as base_model" in "\n".join(
        plan.warnings
    )
