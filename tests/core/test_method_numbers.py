"""Merge methods as functions give the numbers of a merge on disk, and of an independent reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzz import drawing
from fuzz.judging import judge
from fuzz.reference.arrays import Inputs
from fuzz.reference.methods import METHODS
from safetensors.torch import load_file, save_file
from torch import Tensor

import mergecore
import mergecore.methods
from mergecore import MergeMethod, Registry
from mergecore.pipeline.signatures import arguments_of


def named(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(mergecore.methods, name)
    return function


class Drawn:
    """Random inputs of a method, and random values of its parameters."""

    def __init__(self, name: str, number: int, dtype: torch.dtype) -> None:
        random = np.random.default_rng([5, number])
        known = METHODS[name]
        count = int(random.integers(max(known.fewest, 2 if known.most > 1 else 1), min(known.most, 3) + 1))
        shape = ((6, 5), (41,), (3, 4, 2))[number % 3]
        origin = random.standard_normal(shape)
        self.base = torch.from_numpy(origin).to(dtype)
        self.models = [
            torch.from_numpy(origin + 0.1 * random.standard_normal(shape)).to(dtype) for _ in range(count)
        ]
        self.parameters = drawing.parameters(random, known, count)
        self.with_base = known.base in ("first", "delta")
        if known.base == "perhaps":
            self.with_base = bool(number % 2)

    def arguments(self, name: str) -> dict[str, Any]:
        """The parameters, and the base, as the function takes them."""
        called = {
            key: argument
            for argument, key in arguments_of(Registry.discover().get(MergeMethod, name)).items()
        }
        written = {called[key]: value for key, value in self.parameters.items() if value != [None]}
        return {**written, **({"base": self.base} if self.with_base else {})}

    def config(self, name: str, folder: Path) -> dict[str, Any]:
        """The same merge of files."""
        names = {"base": self.base} if self.with_base else {}
        names |= {f"m{i}": one for i, one in enumerate(self.models)}
        for key, one in names.items():
            save_file({"w": one.contiguous()}, folder / f"{key}.safetensors")
        own = {key: one for key, one in self.parameters.items() if isinstance(one, list)}
        shared = {key: one for key, one in self.parameters.items() if key not in own and one is not None}
        entries = [
            {
                "model": folder / f"m{i}.safetensors",
                "parameters": {key: one[i] for key, one in own.items() if one[i] is not None},
            }
            for i in range(len(self.models))
        ]
        config = {
            "merge_method": name,
            "models": entries,
            "parameters": shared,
            "seed": 3,
            "dtype": "float32",
        }
        return config | ({"base_model": folder / "base.safetensors"} if self.with_base else {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_function_gives_the_bits_of_a_merge_on_disk(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    for number in range(3):
        drawn = Drawn(name, number, dtype)
        folder = tmp_path / str(number)
        folder.mkdir()
        out = mergecore.merge(drawn.config(name, folder), folder / "out")
        wanted = load_file(out / "model.safetensors")["w"]
        found = named(name)(drawn.models, **drawn.arguments(name), seed=3, dtype="float32", name="w")
        assert torch.equal(found, wanted), (number, drawn.parameters)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_function_agrees_with_the_reference_in_float64(name: str) -> None:
    checked = 0
    for number in range(6):
        drawn = Drawn(name, number, torch.float64)
        merged = named(name)([one.numpy() for one in drawn.models], **_numpy(drawn.arguments(name)), seed=3)
        given = [one.numpy() for one in drawn.models]
        inside, base = given, drawn.base.numpy() if drawn.with_base else None
        if METHODS[name].base == "first":
            inside, base = [drawn.base.numpy(), *given], None
        result = METHODS[name].compute(Inputs("tensor", inside, base, True, 3), drawn.parameters)
        verdict = judge(merged, result, "F64", 2.0**-52, base)
        assert verdict.text == "", (number, drawn.parameters, verdict)
        checked += verdict.checked
    assert checked > 50  # the others hang on rounding errors


def _numpy(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: one.numpy() if isinstance(one, Tensor) else one for key, one in arguments.items()}


def test_every_built_in_method_is_a_function_and_nearly_all_are_compared() -> None:
    known = {one.name for one in Registry.discover((), {}).all(MergeMethod)}
    assert known <= {*dir(mergecore.methods)}
    assert len(set(METHODS) & known) >= 24
