"""What the experts are called, and what every family has to keep."""

from collections.abc import Callable
from pathlib import Path

import mergecore
from mergecore import MoeFamily, Registry
from mergecore.testing import check_moe_family
from safetensors.torch import load_file

FAMILY = Registry.discover().get(MoeFamily, "{{ cookiecutter.name }}")


def test_the_family_keeps_the_contract() -> None:
    check_moe_family(FAMILY)


def test_the_feed_forward_blocks_of_the_models_become_experts(
    tiny_models: Callable[..., list[Path]], tmp_path: Path
) -> None:
    models = tiny_models(2)
    experts = [{"source_model": str(model)} for model in models]
    document = {"base_model": str(models[0]), "architecture": FAMILY.name, "gate_mode": "random", "experts": experts}
    made = load_file(mergecore.merge(document, tmp_path / "mixture") / "model.safetensors")
    for number, model in enumerate(models):
        dense = load_file(model / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
        assert (made[f"model.layers.0.moe.{number}.up"] == dense).all()
