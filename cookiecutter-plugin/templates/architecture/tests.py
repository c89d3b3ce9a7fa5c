"""Which layers count, and what every description has to keep."""

from pathlib import Path

from mergecore import Architecture, Registry, planner
from mergecore.testing import check_architecture, tiny_model
from torch import Tensor

ARCHITECTURE = Registry.discover().get(Architecture, "{{ cookiecutter.name }}")


def with_two_stacks(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}.{name}": one.clone() for part in ("encoder", "decoder") for name, one in tensors.items()}


def test_the_layers_of_the_decoder_count(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, config={"model_type": ARCHITECTURE.name}, change=with_two_stacks)
    check_architecture(ARCHITECTURE, model)
    description = ARCHITECTURE.describe(planner().open(str(model), ("model",)))
    assert description is not None
    assert description.main is not None
    assert description.main.prefix.startswith("decoder.")


def test_other_models_are_left_to_others(tmp_path: Path) -> None:
    assert ARCHITECTURE.describe(planner().open(str(tiny_model(tmp_path)), ("model",))) is None
