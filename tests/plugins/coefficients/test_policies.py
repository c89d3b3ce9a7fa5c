"""Numbers of policies, against sums in float64 that share no code with them; and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from fixture_types import Cli
from safetensors.torch import load_file, save_file

from mergecore import (
    ConfigError,
    Field,
    MergecoreError,
    MergeMethod,
    NoParams,
    Params,
    PerModel,
    PluginError,
    Policy,
    merge,
    with_coefficients,
)
from mergecore.testing import check_policy, registry_of, tiny_model
from mergecore.types import Coefficients, PolicyRequest

Arrays = dict[str, npt.NDArray[np.float64]]


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """A base, and three models of other sizes of change, of which one is in bfloat16."""
    made = [tiny_model(tmp_path / f"m{seed}", seed=seed) for seed in range(4)]
    base = load_file(made[0] / "model.safetensors")
    for index, one in enumerate(made[1:], start=1):
        tensors = {
            name: base[name] + index * 0.1 * x for name, x in load_file(one / "model.safetensors").items()
        }
        if index == 3:
            tensors = {name: x.bfloat16() for name, x in tensors.items()}
        save_file(tensors, one / "model.safetensors", {"format": "pt"})
    return made


def config(models: Sequence[Path], method: str = "task_arithmetic", **more: Any) -> dict[str, Any]:
    return {
        "merge_method": method,
        "base_model": str(models[0]),
        "models": [{"model": str(one)} for one in models[1:]],
        **more,
    }


def copy_of(model: Path) -> Path:
    return Path(shutil.copytree(model, model.with_name(f"copy of {model.name}")))


def arrays(folder: Path) -> Arrays:
    return {name: x.double().numpy() for name, x in load_file(folder / "model.safetensors").items()}


def task_vectors(models: Sequence[Path]) -> list[Arrays]:
    base = arrays(models[0])
    return [{name: x - base[name] for name, x in arrays(one).items()} for one in models[1:]]


def numbers(made: Mapping[str, Any], word: str = "weight") -> list[Any]:
    return [one["parameters"][word] for one in made["models"]]


# ---- metagpt -----------------------------------------------------------------------------------------------


def test_metagpt_weights_by_the_squared_lengths_of_whole_task_vectors(models: list[Path]) -> None:
    squares = [sum(float((x**2).sum()) for x in one.values()) for one in task_vectors(models)]
    made, notes = with_coefficients(config(models), "metagpt")
    assert numbers(made) == pytest.approx([one / sum(squares) for one in squares], rel=1e-12)
    assert sum(numbers(made)) == pytest.approx(1, rel=1e-12)
    assert squares[1] > 3 * squares[0]  # twice the change has four times the weight
    assert notes == ()


def test_metagpt_of_equal_models_is_their_average_and_of_one_is_that_one(models: list[Path]) -> None:
    same = with_coefficients(config([models[0], models[1], copy_of(models[1])]), "metagpt")[0]
    assert numbers(same) == [0.5, 0.5]
    assert numbers(with_coefficients(config(models[:2]), "metagpt")[0]) == [1.0]


def test_metagpt_of_models_that_are_the_base_is_their_average(models: list[Path]) -> None:
    copies = [tiny_model(models[0].parent / f"copy{i}", seed=0) for i in range(2)]
    made, notes = with_coefficients(config([models[0], *copies]), "metagpt")
    assert numbers(made) == [0.5, 0.5]
    assert notes == ("no model differs from the base; the weights are equal",)


def test_a_base_among_the_models_gets_no_number(models: list[Path]) -> None:
    listed = config(models)
    listed["models"].insert(1, {"model": str(models[0])})
    made = with_coefficients(listed, "metagpt")[0]
    found: Any = made["models"]
    assert "parameters" not in found[1]
    assert [found[i]["parameters"] for i in (0, 2, 3)] == [
        {"weight": one} for one in numbers(with_coefficients(config(models), "metagpt")[0])
    ]


def test_what_the_config_says_beside_the_numbers_stays(models: list[Path]) -> None:
    written = config(models, "ties", dtype="float32", parameters={"weight": 0.3, "normalize": False})
    written["models"][0]["parameters"] = {"density": 0.5, "weight": 9}
    made: Any = with_coefficients(written, "metagpt")[0]
    assert made["parameters"] == {"normalize": False}
    assert made["models"][0]["parameters"]["density"] == 0.5
    assert numbers(made) == numbers(with_coefficients(config(models), "metagpt")[0])
    assert (made["dtype"], written["models"][0]["parameters"]["weight"]) == ("float32", 9)


# ---- lines -------------------------------------------------------------------------------------------------


def test_lines_scales_task_vectors_by_depth(models: list[Path], tmp_path: Path) -> None:
    made = with_coefficients(config(models, dtype="float64"), "lines", beta=0.4)[0]
    assert made["parameters"] == {"lambda": [1 / 3, 1 / 3 + 0.4]}
    merged = arrays(merge(made, tmp_path / "out"))
    base, deltas = arrays(models[0]), task_vectors(models)
    layers = 1 + max(int(name.split(".")[2]) for name in base if name.startswith("model.layers."))
    assert layers > 1
    for name, x in base.items():
        depth = int(name.split(".")[2]) if name.startswith("model.layers.") else 0
        scale = 1 / 3 + 0.4 * depth / (layers - 1)
        np.testing.assert_allclose(
            merged[name], x + scale * sum(one[name] for one in deltas), atol=1e-7
        )  # in float32


def test_alpha_makes_what_is_merged_as_large_as_the_mean_of_the_task_vectors(models: list[Path]) -> None:
    weights = [0.5, 2.0, -1.0]
    written = config(models)
    for entry, weight in zip(written["models"], weights, strict=True):
        entry["parameters"] = {"weight": weight}
    deltas = task_vectors(models)
    plain = sum(float(np.abs(sum(one[name] for one in deltas)).sum()) for name in deltas[0])
    merged = sum(
        float(np.abs(sum(w * one[name] for w, one in zip(weights, deltas, strict=True))).sum())
        for name in deltas[0]
    )
    for normalize, total in ((False, 1.0), (True, sum(weights))):
        written["parameters"] = {"normalize": normalize}
        made: Any = with_coefficients(written, "lines", beta=0)[0]
        assert made["parameters"]["lambda"] == pytest.approx([plain / merged * total / 3] * 2, rel=1e-12)
    assert numbers(made) == weights


def test_alpha_may_be_given_for_every_method(models: list[Path]) -> None:
    made = with_coefficients(config(models, "ties"), "lines", alpha=0.25, beta=0.5)[0]
    assert made["parameters"] == {"lambda": [0.25, 0.75]}
    with pytest.raises(
        ConfigError, match="lines computes alpha for task_arithmetic alone; ties needs one"
    ) as caught:
        with_coefficients(config(models, "ties"), "lines", beta=0.5)
    assert caught.value.hint == "give it, such as -p alpha=0.5"


def test_weights_that_cancel_leave_no_alpha(models: list[Path]) -> None:
    written = config([models[0], models[1], copy_of(models[1])])
    for entry, weight in zip(written["models"], (1, -1), strict=True):
        entry["parameters"] = {"weight": weight}
    with pytest.raises(ConfigError, match="the weighted task vectors sum to 0") as caught:
        with_coefficients(written, "lines", beta=0.1)
    assert caught.value.hint == "give alpha, such as -p alpha=0.5"


# ---- what is refused ---------------------------------------------------------------------------------------


def refused(given: Any, policy: str = "metagpt", **more: Any) -> MergecoreError:
    with pytest.raises(MergecoreError) as caught:
        with_coefficients(given, policy, **more)
    return caught.value


def test_methods_without_weights_of_task_vectors_are_refused(models: list[Path]) -> None:
    error = refused(config(models, "linear"))
    assert error.what == "metagpt chooses weights of task vectors, which linear does not have"
    assert error.hint == "use a method such as task_arithmetic or ties, with a base_model"


class Weighted(Params):
    """A weight, and no lambda."""

    weight: PerModel[float] = Field(description="weight")


def test_a_method_without_lambda_is_refused(models: list[Path]) -> None:
    plain = MergeMethod(name="plain", merge=print, params=Weighted, space="delta", base="required")  # type: ignore[arg-type]
    error = refused(config(models, "plain"), "lines", beta=1, registry=registry_of(plain))
    assert error.what == "lines chooses lambda, which plain does not have"
    assert error.hint == "use a method such as task_arithmetic or ties"


def test_configs_without_a_list_of_models_are_refused(models: list[Path], tmp_path: Path) -> None:
    error = refused({"merge_method": "task_arithmetic", "slices": []})
    assert error.what == "a policy chooses numbers of a merge config with a list of `models`"
    assert error.hint == "write `merge_method` and `models`, without `slices` or `modules`"
    two = tmp_path / "two.yml"
    two.write_text(f"{yaml.safe_dump(config(models))}---\n{yaml.safe_dump(config(models))}")
    assert "has 2 documents; a policy chooses numbers of one" in refused(two).what
    assert refused(two).hint == "put the merge config into a file of its own"


def test_parameters_are_checked(models: list[Path]) -> None:
    missing = refused(config(models), "lines")
    assert missing.what == "missing required parameter 'beta' of the policy 'lines'"
    assert missing.hint == "give it, such as -p beta=…"
    assert "the policy 'lines' has no parameter 'betta'; did you mean 'beta'?" in str(
        refused(config(models), "lines", betta=1, beta=1)
    )


def odd(choose: Callable[[PolicyRequest, Any], Any]) -> Any:
    return registry_of(Policy(name="odd", choose=choose, params=NoParams, summary="something"))


CHOICES: Mapping[str, tuple[Any, type[MergecoreError], str]] = {
    "none": (None, PluginError, "policy 'odd' returns NoneType in place of Coefficients"),
    "count": (
        Coefficients([{"weight": 1}]),
        PluginError,
        "policy 'odd' returns numbers of 1 models; there are 3",
    ),
    "word": (
        Coefficients(shared={"wait": 1}),
        ConfigError,
        "policy 'odd' chooses 'wait', which task_arithmetic does",
    ),
    "nan": (
        Coefficients(shared={"lambda": float("nan")}),
        PluginError,
        "policy 'odd' returns what is not plain numbers: ",
    ),
    "tensor": (
        Coefficients([{"weight": torch.ones(1)}] * 3),  # type: ignore[dict-item]
        PluginError,
        "policy 'odd' returns what is not plain numbers: ",
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_what_is_no_choice_of_numbers_is_refused(name: str, models: list[Path]) -> None:
    choice, kind, told = CHOICES[name]
    error = refused(config(models), "odd", registry=odd(lambda request, params: choice))
    assert isinstance(error, kind)
    assert error.what.startswith(told)


def test_a_policy_sees_the_models_that_get_numbers(models: list[Path]) -> None:
    seen: list[PolicyRequest] = []

    def choose(request: PolicyRequest, params: NoParams) -> Coefficients:
        seen.append(request)
        return Coefficients([{"weight": [0, i]} for i in range(3)], notes=["something"])

    made, notes = with_coefficients(config(models), "odd", registry=odd(choose))
    assert notes == ("something",)
    assert numbers(made) == [[0, 0], [0, 1], [0, 2]]
    [request] = seen
    assert list(request.models) == [str(one) for one in models[1:]]
    assert request.method.name == "task_arithmetic"
    assert all(len(step.inputs) == 3 for step in request.plan.steps)


# ---- the command -------------------------------------------------------------------------------------------


def test_what_the_command_prints_is_a_config(cli: Cli, models: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "cfg.yml"
    file.write_text(yaml.safe_dump(config(models), sort_keys=False))
    outcome = cli("coefficients", "metagpt", file)
    assert yaml.safe_load(outcome.out) == with_coefficients(config(models), "metagpt")[0]
    new = tmp_path / "new.yml"
    new.write_text(outcome.out)
    assert cli("merge", new, tmp_path / "out").code == 0
    assert cli("coefficients", "lines", file, "-p", "beta=0.5", "--json").out.startswith('{"merge_method"')
    assert "--parameter 'beta' is not NAME=VALUE" in cli("coefficients", "lines", file, "-p", "beta").err
    assert "write such as -p beta=0.3" in cli("coefficients", "lines", file, "-p", "beta").err
    copies = [tiny_model(tmp_path / f"copy{i}", seed=0) for i in range(2)]
    file.write_text(yaml.safe_dump(config([models[0], *copies])))
    assert "note: no model differs from the base" in cli("coefficients", "metagpt", file).err


# ---- the kit -----------------------------------------------------------------------------------------------


def fails(
    choose: Callable[[PolicyRequest, Any], Any], told: str, summary: str = "something", **more: Any
) -> None:
    with pytest.raises(AssertionError) as caught:
        check_policy(Policy(name="odd", choose=choose, params=NoParams, summary=summary), **more)
    assert told in str(caught.value)


def test_faults_of_policies_are_named() -> None:
    def plain(request: PolicyRequest, params: Any) -> Coefficients:
        return Coefficients([{"weight": 1.0}] * len(request.models))

    check_policy(Policy(name="odd", choose=plain, params=NoParams, summary="ones"))
    fails(plain, "nothing says what it does: say it by `summary`", "")
    fails(plain, "its summary has 60 characters; one line of at most 59", "x" * 60)
    counted = iter(range(99))
    fails(
        lambda request, params: Coefficients([{"weight": next(counted)}] * 3),
        "it chooses other numbers each time; let them depend on config, models and parameters",
    )

    def writes(request: PolicyRequest, params: Any) -> Coefficients:
        (Path(request.models[0]) / "notes.txt").write_text("x" * next(counted))
        return plain(request, params)

    fails(writes, "it writes into the folders of the models")
    fails(
        lambda request, params: Coefficients(shared={"normalize": 5}),
        "with the numbers that it chooses, the config is refused: ",
    )

    def refuse(request: PolicyRequest, params: Any) -> Coefficients:
        raise ConfigError("E105", "no config pleases it")

    fails(refuse, "it chooses no numbers for the configs that are tried: no config pleases it")
