"""The merge config that stands for each method in the benchmark; all of them are in the table `CASES`.

To add a method, add a line to the table: what it merges, and its parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

Parameters = Mapping[str, float | bool]
Config = dict[str, object]

WEIGHTS = (0.6, 0.4, 0.3)


@dataclass(frozen=True)
class Case:
    """How one method is called: with how many models (None is all), with the base, with which parameters."""

    models: int | None = None
    base: bool = True
    base_listed: bool = False  # slerp and its kin name the base among the models
    weighted: bool = True
    per_model: Parameters = field(default_factory=dict)
    parameters: Parameters = field(default_factory=dict)


CASES: Mapping[str, Case] = {
    "linear": Case(base=False),
    "slerp": Case(models=1, base_listed=True, weighted=False, parameters={"t": 0.4}),
    "task_arithmetic": Case(),
    "ties": Case(per_model={"density": 0.5}),
    "nuslerp": Case(models=2),
    "multislerp": Case(base=False),
    "karcher": Case(base=False, weighted=False),
    "dare_linear": Case(per_model={"density": 0.5}),
    "dare_ties": Case(per_model={"density": 0.5}),
    "breadcrumbs": Case(per_model={"density": 0.8, "gamma": 0.05}),
    "breadcrumbs_ties": Case(per_model={"density": 0.8, "gamma": 0.05}),
    "della": Case(per_model={"density": 0.5, "epsilon": 0.1}),
    "della_linear": Case(per_model={"density": 0.5, "epsilon": 0.1}),
    "model_stock": Case(weighted=False),
    "sce": Case(weighted=False, parameters={"select_topk": 0.4}),
    "nearswap": Case(models=1, base_listed=True, weighted=False, parameters={"t": 0.0005}),
    "arcee_fusion": Case(models=1, base_listed=True, weighted=False),
    "consensus_ta": Case(),
    "consensus_ties": Case(per_model={"density": 0.5}),
    "ram": Case(weighted=False, parameters={"epsilon": 0.0005}),
    "ramplus_tl": Case(weighted=False, parameters={"epsilon": 0.0005, "r": 0.2, "alpha": 0.3}),
}
DEFAULT_METHODS = ("linear", "slerp", "task_arithmetic", "ties")


def config_for(method: str, base: Path, models: Sequence[Path], arithmetic: str = "bfloat16") -> Config:
    """The merge config of a method over a set of checkpoints, its output in bf16.

    `arithmetic` is what the config asks for as `dtype`: with `float32`, tools that would compute in the dtype
    of the files compute in float32.
    """
    case = CASES[method]
    config: Config = {"merge_method": method}
    if case.base:
        config["base_model"] = str(base)
    listed: list[Config] = [{"model": str(base)}] if case.base_listed else []
    listed += [_model(case, path, weight) for path, weight in zip(models[: case.models], cycle(WEIGHTS))]
    config["models"] = listed
    if case.parameters:
        config["parameters"] = dict(case.parameters)
    config["dtype"] = arithmetic
    config["out_dtype"] = "bfloat16"  # some methods of some tools would write float32
    return config


def inputs_of(method: str, base: Path, models: Sequence[Path]) -> list[Path]:
    """The checkpoints that the method's config reads."""
    case = CASES[method]
    return [base] * case.base + list(models[: case.models])


def _model(case: Case, path: Path, weight: float) -> Config:
    parameters: dict[str, float | bool] = {"weight": weight} if case.weighted else {}
    parameters |= case.per_model
    return {"model": str(path), "parameters": parameters} if parameters else {"model": str(path)}
