"""Runs in memory that take over what an earlier one has made: the same bytes, and no step twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import registry, write_llama

from mergecore import Kept, MergeMethod, plan, run
from mergecore.types.plans import PlanOptions

Config = dict[str, Any]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "a", "b")):
        write_llama(tmp_path / name, layers=3, seed=seed)


def config(method: str, a: object = 0.5, *, top: Config | None = None, **more: object) -> Config:
    entries = [
        {"model": "./a", "parameters": {"weight": a}},
        {"model": "./b", "parameters": {"weight": 0.5}},
    ]
    parameters = {"parameters": top} if top else {}
    return {"merge_method": method, "base_model": "./base", "models": entries, **parameters, **more}


def merged(one: Config, kept: Kept | None = None, **options: Any) -> dict[str, torch.Tensor]:
    return run(plan(one, registry=registry(), options=PlanOptions(**options)), registry=registry(), kept=kept)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(
        torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8)) for name in a
    )


CHAIN: list[Config] = [
    config("ties", 0.5),
    config("ties", [0.1, 0.9, 0.9]),  # layer 0 and what has no layer change, then layers 1 and 2 stay
    config("ties", [0.1, 0.9, 0.2]),
    config("ties", [{"filter": "mlp", "value": 0.7}, {"value": 0.1}], top={"density": 0.5}),
    config("dare_ties", 0.3, top={"density": 0.5}),
    config("dare_ties", 0.3, top={"density": 0.5}, seed=3),
    config("dare_ties", 0.3, top={"density": [0.5, 0.9, 0.9]}, seed=3),
    config("linear", 0.3),
    config("linear", 0.3, dtype="bfloat16"),
    config("linear", 0.3, exclude=["mlp"]),
    config("sce", 0.3),
    config("ties", 0.3, top={"density": 0.4, "lambda": [0.5, 0.5, 0.6]}),
    {"merge_method": "passthrough", "models": [{"model": "./a"}]},
    {"merge_method": "passthrough", "models": [{"model": "./b"}]},
    config("ties", 0.3, top={"density": 0.4, "lambda": [0.5, 0.5, 0.7]}),
]


@pytest.mark.usefixtures("models")
def test_what_is_taken_over_is_what_a_whole_merge_makes() -> None:
    kept = Kept()
    for i, one in enumerate(CHAIN):
        assert same(merged(one, kept), merged(one)), i


@pytest.mark.usefixtures("models")
def test_every_method_gives_the_same_after_one_weight_has_changed() -> None:
    tried = 0
    for method in registry().all(MergeMethod):
        least, most = method.models
        if "weight" not in method.params.model_fields or not (least or 1) <= 2 or (most or 2) < 2:
            continue
        kept = Kept()
        for weight in (0.5, [0.5, 0.5, 0.8], [0.5, 0.5, 0.9], 0.5):
            one = config(method.name, weight)
            assert same(merged(one, kept), merged(one)), (method.name, weight)
        tried += 1
    assert tried > 10


@pytest.mark.usefixtures("models")
def test_only_tensors_whose_parameters_changed_are_merged_again() -> None:
    kept = Kept()
    everything = merged(config("ties", [0.1, 0.9, 0.9]), kept)
    assert kept.changed == everything.keys()
    again = merged(config("ties", [0.1, 0.9, 0.2]), kept)
    assert kept.changed == {name for name in everything if ".layers.2." in name}
    assert all((again[name] is everything[name]) == (name not in kept.changed) for name in again)
    merged(config("ties", [0.1, 0.9, 0.2]), kept)
    assert kept.changed == frozenset()


@pytest.mark.usefixtures("models")
def test_what_a_method_takes_of_all_tensors_counts_for_each_of_them() -> None:
    kept = Kept()
    for weight, density, changed in (
        (0.5, 0.5, ("0", "1", "2")),
        ([0.5, 0.5, 0.9], 0.5, ("2",)),  # the cuts through the whole model are as they were
        ([0.5, 0.5, 0.9], 0.4, ("0", "1", "2")),
    ):
        one = config("ties", weight, top={"density": density, "scope": "model"})
        assert same(merged(one, kept), merged(one))
        assert {name.split(".")[2] for name in kept.changed if ".layers." in name} == {*changed}


@pytest.mark.usefixtures("models")
def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    kept = Kept()
    merged(config("linear"), kept)
    write_llama(tmp_path / "a", layers=3, seed=9)
    assert same(merged(config("linear"), kept), merged(config("linear")))
    assert kept.changed


@pytest.mark.usefixtures("models")
def test_results_of_earlier_documents_are_kept_too(tmp_path: Path) -> None:
    file = tmp_path / "two.yml"
    for fuse in ("never", "always"):
        kept = Kept()
        for weight in ("0.5", "[0.5, 0.5, 0.7]"):
            file.write_text(
                "name: half\nmerge_method: linear\nmodels:\n- {model: ./a, parameters: {weight: 1}}\n"
                "- {model: ./b, parameters: {weight: 1}}\n---\n"
                f"merge_method: task_arithmetic\nbase_model: ./base\nmodels:\n"
                f"- {{model: half, parameters: {{weight: {weight}}}}}\n"
            )
            made = plan(file, registry=registry(), options=PlanOptions(fuse=fuse))
            assert same(run(made, registry=registry(), kept=kept), run(made, registry=registry()))
        assert {name for name in kept.changed if ".layers.0." in name} == set()
        assert {name for name in kept.changed if ".layers.2." in name}
