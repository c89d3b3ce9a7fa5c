"""The merge config that stands for each method in the benchmarks; `CASES` are those of speed and accuracy.

To add a method, add a line to the table: what it merges, and its parameters.  `SETTINGS` are those that merge
many fine-tunes of one base, to see how good the merged models are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Literal

Parameters = Mapping[str, float | bool | str]
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
    "nuslerp": Case(models=2, base=False),
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


@dataclass(frozen=True)
class Setting:
    """A method that merges many fine-tunes, all with weight 1, and what scales the change it makes.

    `scaled` holds the parameters without which the weights would scale nothing.
    """

    method: str
    case: Case
    scale: Literal["lambda", "weights"] | None = None
    scaled: Parameters = field(default_factory=dict)
    note: str = ""

    @property
    def name(self) -> str:
        """The method and what it is given, as in `ties, density 0.2`."""
        given = dict(self.case.per_model) | dict(self.case.parameters)
        notes = [self.note] if self.note else []
        return ", ".join(
            [self.method, *notes, *(f"{name} {str(value).lower()}" for name, value in given.items())]
        )


SETTINGS = (
    Setting("linear", CASES["linear"]),
    Setting("average", Case(base=False, weighted=False)),
    Setting("karcher", CASES["karcher"]),
    Setting("multislerp", CASES["multislerp"]),
    Setting("multislerp", Case(), "weights", {"normalize_weights": False}, note="base_model"),
    Setting("task_arithmetic", CASES["task_arithmetic"], "lambda"),
    Setting("ties", Case(per_model={"density": 0.2}), "lambda"),
    Setting("ties", Case(per_model={"density": 0.2}, parameters={"scope": "model"}), "lambda"),
    Setting("dare_linear", CASES["dare_linear"], "lambda"),
    Setting("dare_ties", CASES["dare_ties"], "lambda"),
    Setting("della", CASES["della"], "lambda"),
    Setting("della_linear", CASES["della_linear"], "lambda"),
    Setting("breadcrumbs", Case(per_model={"density": 0.15, "gamma": 0.01}), "lambda"),
    Setting("breadcrumbs_ties", Case(per_model={"density": 0.15, "gamma": 0.01}), "lambda"),
    # Here `lambda` is how strict the masks are.  The weights of consensus_ties cancel if normalised.
    Setting("consensus_ta", Case(parameters={"k": 2, "lambda": 0.4}), "weights"),
    Setting("consensus_ties", Case(per_model={"density": 0.2}, parameters={"k": 2, "lambda": 0.4})),
    Setting(
        "consensus_ties",
        Case(per_model={"density": 0.2}, parameters={"k": 2, "lambda": 0.4, "normalize": False}),
        "weights",
    ),
    Setting("knots", Case(per_model={"density": 0.2}), "lambda"),
    Setting("core_space", Case(parameters={"rule": "tsv"}), "lambda"),
    Setting("core_space", Case(parameters={"rule": "iso"}), "lambda"),
    # of contrib/mergecore-spectral
    Setting("tsv", Case(), "lambda"),
    Setting("iso_c", Case(), "lambda"),
    Setting("iso_cts", Case(), "lambda"),
    Setting("model_stock", CASES["model_stock"]),
    Setting("sce", Case(weighted=False, parameters={"select_topk": 0.1})),
    Setting("ram", Case(weighted=False)),
    Setting("ramplus_tl", Case(weighted=False)),
)


def setting_config(setting: Setting, base: Path, models: Sequence[Path], scale: float | None) -> Config:
    """The merge config of a setting: as it is, or with the change of the base scaled."""
    weights = [scale if scale is not None and setting.scale == "weights" else 1.0] * len(models)
    config = _config(setting.method, setting.case, base, models, weights)
    if scale is not None:
        more = {"lambda": scale} if setting.scale == "lambda" else dict(setting.scaled)
        config["parameters"] = dict(setting.case.parameters) | more
    return config


def config_for(method: str, base: Path, models: Sequence[Path], arithmetic: str = "bfloat16") -> Config:
    """The merge config of a method over a set of checkpoints, its output in bf16.

    `arithmetic` is what the config asks for as `dtype`: with `float32`, tools that would compute in the dtype
    of the files compute in float32.
    """
    config = _config(method, CASES[method], base, models, WEIGHTS)
    config["dtype"] = arithmetic
    return config


def inputs_of(method: str, base: Path, models: Sequence[Path]) -> list[Path]:
    """The checkpoints that the method's config reads."""
    case = CASES[method]
    return [base] * case.base + list(models[: case.models])


def _config(method: str, case: Case, base: Path, models: Sequence[Path], weights: Sequence[float]) -> Config:
    config: Config = {"merge_method": method}
    if case.base:
        config["base_model"] = str(base)
    listed: list[Config] = [{"model": str(base)}] if case.base_listed else []
    listed += [_model(case, path, weight) for path, weight in zip(models[: case.models], cycle(weights))]
    config["models"] = listed
    if case.parameters:
        config["parameters"] = dict(case.parameters)
    config["dtype"] = "bfloat16"
    config["out_dtype"] = "bfloat16"  # some methods of some tools would write float32
    return config


def _model(case: Case, path: Path, weight: float) -> Config:
    parameters: dict[str, float | bool | str] = {"weight": weight} if case.weighted else {}
    parameters |= case.per_model
    return {"model": str(path), "parameters": parameters} if parameters else {"model": str(path)}
