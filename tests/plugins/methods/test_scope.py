"""`scope: model`: selection by magnitude over the whole task vector."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from task_vectors import method_called
from tiny import listing, llama, read_tensors, write_checkpoint, write_llama
from torch import Tensor

import mergecore
from mergecore.errors import MergecoreError
from mergecore.output.storages.folder import Stage
from mergecore.testing import run_model
from mergecore.types import Json, StepResult
from mergecore.types.execution import RunOptions

METHODS: dict[str, dict[str, Any]] = {
    "ties": {"density": 0.3},
    "breadcrumbs": {"density": 0.3, "gamma": 0.1},
    "breadcrumbs_ties": {"density": 0.3, "gamma": 0.1},
}

every_method = pytest.mark.parametrize("name", METHODS)


def whole(name: str, *models: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
    """The merge of models that are task vectors, over a base of zeros."""
    method = method_called(name)
    params = method.params.model_validate({"scope": "model", "weight": [1] * len(models), **options})
    return run_model(method, params, models, {key: torch.zeros_like(one) for key, one in models[0].items()})


def in_a_row(model: dict[str, Tensor]) -> Tensor:
    return torch.cat([one.reshape(-1) for one in model.values()])


SMALL = {"a": torch.tensor([1.0, -2, 3]), "b": torch.tensor([[40.0, 5], [6, -7]]), "c": torch.tensor(8.0)}


def test_the_largest_of_the_whole_task_vector_are_kept() -> None:
    """Half of 8 are the 40, 6, -7 and 8, none of the first tensor."""
    found = whole("ties", SMALL, density=0.5)
    assert [one.tolist() for one in found.values()] == [[0, 0, 0], [[40, 0], [6, -7]], 8]


def test_bands_are_those_of_the_whole_task_vector() -> None:
    """The largest of 8 goes, the 4 next stay."""
    found = whole("breadcrumbs", SMALL, density=0.5, gamma=0.125)
    assert [one.tolist() for one in found.values()] == [[0, 0, 0], [[0, 5], [6, -7]], 8]


def test_of_equal_magnitudes_those_of_the_first_tensors_are_kept() -> None:
    ones = {key: torch.ones(3) for key in "abc"}
    found = whole("ties", ones, density=0.5)  # 4 of 9
    assert [one.tolist() for one in found.values()] == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_rescale_restores_the_norm_of_the_whole_task_vector() -> None:
    """72 over 61; the first tensor stays empty."""
    found = whole("ties", SMALL, density=0.5, rescale=True)
    assert found["a"].tolist() == [0, 0, 0]
    assert found["c"].item() == pytest.approx(8 * 72 / 61)
    assert in_a_row(found).abs().sum().item() == pytest.approx(72)


@every_method
@pytest.mark.parametrize("rescale", [False, True])
def test_it_is_the_merge_of_one_long_tensor(name: str, rescale: bool) -> None:
    models = [llama(2, seed=seed) for seed in range(3)]
    options = {"weight": [0.5, 0.3, 0.4], "rescale": rescale, **METHODS[name]}
    found = whole(name, *models, **options)
    wanted = whole(name, *({"all": in_a_row(one)} for one in models), **options, scope="tensor")
    assert torch.allclose(in_a_row(found), wanted["all"], rtol=1e-6, atol=0)


def test_densities_may_differ_between_models() -> None:
    models = [llama(1, seed=seed) for seed in range(2)]
    found = whole("breadcrumbs", *models, density=[0.2, 0.9], gamma=[0.3, 0], weight=[1, 0])
    assert int(torch.count_nonzero(in_a_row(found))) == int(0.2 * in_a_row(models[0]).numel())
    found = whole("breadcrumbs", *models, density=[0.2, 0.9], gamma=[0.3, 0], weight=[0, 1])
    assert int(torch.count_nonzero(in_a_row(found))) == int(0.9 * in_a_row(models[0]).numel())


@every_method
@pytest.mark.parametrize("density", [0, 1])
def test_all_or_nothing_can_be_kept(name: str, density: float) -> None:
    models = [llama(1, seed=0)]
    found = whole(name, *models, **METHODS[name] | {"density": density})
    assert torch.equal(in_a_row(found), density * in_a_row(models[0]))


# ---- through the pipeline ----------------------------------------------------------------------------------


def config(folder: Path, name: str = "ties", **parameters: Json) -> dict[str, Json]:
    """A merge of two tiny models with a base, all in bf16, so that many magnitudes are equal."""
    for seed, model in enumerate(("base", "a", "b")):
        if not (folder / model).exists():
            tensors = {key: one.bfloat16() for key, one in llama(3, seed=seed).items()}
            write_llama(folder / model, 3, seed=seed)
            write_checkpoint(
                folder / model, tensors, json.loads((folder / model / "config.json").read_text())
            )
    models: list[Json] = [
        {"model": str(folder / "a"), "parameters": {"weight": 0.5}},
        {"model": str(folder / "b"), "parameters": {"weight": 0.75}},
    ]
    base = str(folder / "base")
    shared: dict[str, Json] = {"scope": "model", **METHODS[name], **parameters}
    return {
        "merge_method": name,
        "base_model": base,
        "models": models,
        "parameters": shared,
        "dtype": "float32",
    }


@every_method
def test_threads_do_not_change_a_byte(name: str, tmp_path: Path) -> None:
    outs = [
        mergecore.merge(
            config(tmp_path, name, rescale=True),
            tmp_path / f"out{threads}",
            run_options=RunOptions(threads=threads),
        )
        for threads in (1, 2, 5)
    ]
    first, *others = [listing(out) for out in outs]
    assert all(one == first for one in others)
    manifest = json.loads((outs[0] / "mergecore-manifest.json").read_text())
    assert [one["model"] for one in manifest["prepared"][name]] == [1, 2]


def test_the_sum_of_what_is_kept_is_that_of_the_whole_model(tmp_path: Path) -> None:
    out = mergecore.merge(config(tmp_path, "breadcrumbs"), tmp_path / "out")
    base, a, b, merged = [read_tensors(tmp_path / one) for one in ("base", "a", "b", "out")]
    order = list(json.loads((out / "mergecore-manifest.json").read_text())["tensors"])
    deltas = [{key: one[key].float() - base[key].float() for key in order} for one in (a, b)]
    wanted = whole("breadcrumbs", *deltas, **METHODS["breadcrumbs"], weight=[0.5, 0.75])
    assert all(torch.equal(merged[key], base[key].float() + wanted[key]) for key in order)


def test_a_run_that_is_taken_up_again_has_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mergecore.merge(config(tmp_path), tmp_path / "whole", run_options=RunOptions(threads=1))
    finish: Callable[..., None] = Stage.finish
    finished: list[str] = []

    def stop_after_ten(stage: Stage, result: StepResult) -> None:
        if len(finished) == 10:
            finished.append("stop")
            raise KeyboardInterrupt
        finished.append(result.name)
        finish(stage, result)

    monkeypatch.setattr(Stage, "finish", stop_after_ten)
    with pytest.raises(KeyboardInterrupt):
        mergecore.merge(config(tmp_path), tmp_path / "cut", run_options=RunOptions(threads=1))
    assert not (tmp_path / "cut").exists()
    cut = mergecore.merge(config(tmp_path), tmp_path / "cut", run_options=RunOptions(mode="resume"))
    assert len(finished) == len(set(finished))
    assert listing(cut) == listing(whole)


# ---- what is refused ---------------------------------------------------------------------------------------


def refusal(folder: Path, name: str = "ties", **parameters: Json) -> str:
    with pytest.raises(MergecoreError) as caught:
        mergecore.plan(config(folder, name, **parameters))
    assert caught.value.code == "E105"
    return str(caught.value)


def test_a_density_is_one_for_all_tensors_of_a_model(tmp_path: Path) -> None:
    told = refusal(tmp_path, density=[{"filter": "mlp", "value": 0.5}, {"value": 0.25}])
    assert told.startswith(f"{tmp_path / 'a'}: density is 0.25 for '")
    assert "' and 0.5 for 'model.layers.0.mlp." in told
    assert "with scope: model it is a fraction of the whole task vector" in told
    assert told.endswith("Hint: write one density for the model, or scope: tensor")
    assert "gamma is 0.1 for" in refusal(tmp_path, "breadcrumbs", gamma=[0.1, 0.2, 0.3])


def test_a_scope_is_one_for_all_tensors(tmp_path: Path) -> None:
    told = refusal(tmp_path, scope=[{"filter": "mlp", "value": "tensor"}, {"value": "model"}])
    assert told.startswith("scope is 'model' for '")
    assert "it must be the same for all tensors. Hint: write one scope, without filters" in told


def test_in_tensors_they_may_differ(tmp_path: Path) -> None:
    plan = mergecore.plan(config(tmp_path, scope="tensor", density=[0.1, 0.9]))
    assert len({repr(step.params) for step in plan.steps}) > 1


def test_scopes_are_the_two(tmp_path: Path) -> None:
    assert "parameter 'scope' is 'row'; 'tensor' or 'model' is expected" in refusal(tmp_path, scope="row")
