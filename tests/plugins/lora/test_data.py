"""Tensors with adapters on them: any range has the numbers of the whole, and the whole those of one product."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import read_tensors
from torch import Tensor

import mergecore
from mergecore import RunOptions
from mergecore.types import Json

SHAPES = {"wide": (3, 200_001), "tall": (90_001, 7), "square": (700, 800), "row": (1, 300_000)}
"""More than one block each; rows that blocks cut, and one that stands alone at the end."""


def write(folder: Path, transposed: bool) -> dict[str, Tensor]:
    """A base without a config, an adapter on each of its tensors; the sums, by one product for each."""
    generator = torch.Generator().manual_seed(3)
    base: dict[str, Tensor] = {}
    adapter: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}
    for name, (rows, columns) in SHAPES.items():
        base[f"{name}.weight"] = torch.randn(rows, columns, generator=generator)
        out, into = (columns, rows) if transposed else (rows, columns)
        a, b = torch.randn(2, into, generator=generator), torch.randn(out, 2, generator=generator)
        adapter |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        product = (b @ a) * 1.5
        sums[f"{name}.weight"] = base[f"{name}.weight"] + (product.T if transposed else product)
    for name, tensors in (("base/model", base), ("ad/adapter_model", adapter)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / f"{name}.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "fan_in_fan_out": transposed}
    (folder / "ad" / "adapter_config.json").write_text(json.dumps(config))
    return sums


@pytest.mark.parametrize("transposed", [False, True])
def test_blocks_have_the_numbers_of_one_product(transposed: bool, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    wanted = write(tmp_path, transposed)
    config: dict[str, Json] = {
        "merge_method": "passthrough",
        "models": [{"model": f"{tmp_path}/base+{tmp_path}/ad"}],
    }
    made = []
    for threads in (1, 3):
        options = RunOptions(threads=threads, overwrite=True)
        made.append(read_tensors(mergecore.merge(config, tmp_path / "out", run_options=options)))
    for name, one in wanted.items():
        assert torch.equal(made[0][name], made[1][name])
        assert torch.allclose(made[0][name], one, rtol=0, atol=1e-6 if transposed else 0), name


def test_passes_of_a_method_see_the_same_numbers_in_any_blocks(tmp_path: Path) -> None:
    """Ties cuts by the size of differences: all differences to the merged model itself are zero."""
    sums = write(tmp_path, False)
    (tmp_path / "sums").mkdir()
    save_file(sums, tmp_path / "sums" / "model.safetensors")
    config: dict[str, Json] = {
        "merge_method": "ties",
        "base_model": str(tmp_path / "sums"),
        "models": [{"model": f"{tmp_path}/base+{tmp_path}/ad"}],
        "parameters": {"density": 0.3, "weight": 1},
    }
    made = read_tensors(mergecore.merge(config, tmp_path / "out"))
    assert all(torch.equal(made[name], sums[name]) for name in sums)
