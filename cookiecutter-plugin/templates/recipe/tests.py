"""What a document makes, and what every recipe has to keep."""

from collections.abc import Callable
from pathlib import Path

import mergecore
from mergecore import Recipe, Registry
from mergecore.testing import check_recipe, tiny_model
from safetensors.torch import load_file

RECIPE = Registry.discover().get(Recipe, "{{ cookiecutter.name }}")


def test_the_recipe_keeps_the_contract(tiny_models: Callable[..., list[Path]]) -> None:
    check_recipe(RECIPE, {RECIPE.name: [str(model) for model in tiny_models(3)]})


def test_of_0_and_3_and_9_it_makes_4(tmp_path: Path) -> None:
    models = [str(tiny_model(tmp_path / str(value), value=value)) for value in (0, 3, 9)]
    merged = mergecore.merge({RECIPE.name: models}, tmp_path / "merged")
    assert all((one == 4).all() for one in load_file(merged / "model.safetensors").values())
