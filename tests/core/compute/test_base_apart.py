"""Methods that are handed the tensors as they are, with the base apart: `space="apart"`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import llama_config, read_tensors, write_checkpoint
from torch import Tensor

import mergecore
from mergecore import MergeMethod, Params, Registry, TensorGroup
from mergecore.testing import check_method, run_method
from mergecore.types import Block, Merged


class NoParams(Params):
    """None."""


def farthest(group: TensorGroup, params: NoParams) -> Merged:
    """The model that is farthest from the base, entry by entry."""

    def block(block: Block) -> Tensor:
        base = torch.zeros_like(block.x[0]) if block.base is None else block.base
        at = (block.x - base).abs().argmax(0, keepdim=True)
        return block.x.gather(0, at)[0]

    return group.map(block)


def farthest_whole(group: TensorGroup, params: NoParams) -> Merged:
    return group.x[group.n - 1]


def method(merge: Any = farthest, base: Any = "required", **facts: Any) -> MergeMethod[Any]:
    return MergeMethod(
        name="farthest", merge=merge, params=NoParams, summary="far", space="apart", base=base, **facts
    )


MODELS = [torch.tensor([1e-9, 3.0, 0.1]), torch.tensor([1.0, 1e30, 0.2])]
BASE = torch.tensor([1.0, 2.0, 0.2])


def test_numbers_come_out_to_the_last_bit() -> None:
    """As differences in float32, 1e-9 - 1 + 1 is 0."""
    wanted = torch.tensor([1e-9, 1e30, 0.1])
    assert torch.equal(run_method(method(), NoParams(), MODELS, BASE), wanted)
    assert torch.equal(run_method(method(base="optional"), NoParams(), MODELS), torch.tensor([1, 1e30, 0.2]))
    whole = method(farthest_whole, needs_whole_tensors=True)
    assert torch.equal(run_method(whole, NoParams(), MODELS, BASE), MODELS[1])


@pytest.mark.parametrize(
    "one",
    [
        method(),
        method(base="optional"),
        method(result_by="map"),
        method(farthest_whole, needs_whole_tensors=True),
    ],
)
def test_it_keeps_what_is_asked_of_methods(one: MergeMethod[Any]) -> None:
    check_method(one, NoParams(), 2, without=("heard",) if one.merge is farthest_whole else ())


def stored(folder: Path) -> dict[str, dict[str, Tensor]]:
    name = "model.layers.0.mlp.up_proj.weight"
    found = {}
    for i, one in enumerate(("base", "a", "b")):
        generator = torch.Generator().manual_seed(i)
        found[one] = {name: torch.randn(8, 8, generator=generator) * 10.0 ** -(4 * i)}
        write_checkpoint(folder / one, found[one], llama_config(1))
    return found


def document(folder: Path, **more: Any) -> dict[str, Any]:
    models = [{"model": str(folder / one)} for one in "ab"]
    return {"merge_method": "farthest", "base_model": str(folder / "base"), "models": models, **more}


def test_a_merge_takes_the_base_apart(tmp_path: Path) -> None:
    tensors = stored(tmp_path)
    registry = Registry.discover().with_methods(method())
    made = read_tensors(mergecore.merge(document(tmp_path), tmp_path / "out", registry=registry))
    for name, base in tensors["base"].items():
        a, b = tensors["a"][name].double(), tensors["b"][name].double()
        wanted = torch.where((a - base).abs() >= (b - base).abs(), a, b).float()
        assert torch.equal(made[name], wanted)


def test_a_method_tells_its_version_in_the_manifest(tmp_path: Path) -> None:
    stored(tmp_path)
    found = []
    for version in ("", "one", "two"):
        registry = Registry.discover().with_methods(method(version=version))
        plan = mergecore.plan(document(tmp_path), registry=registry)
        found.append(plan.plugins["farthest"].partition(", ")[2])
    assert found == ["", "one", "two"]
