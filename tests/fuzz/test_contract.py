"""Every built-in method against the reference, in all number formats, with random parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import registry

from fuzz import drawing
from fuzz.judging import judge
from fuzz.reference.arrays import Inputs
from fuzz.reference.formats import stored
from fuzz.reference.methods import METHODS
from mergecore import MergeError, MergeMethod
from mergecore.testing import run_method

DRAWS = 20
TORCH = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
SEEDS = {name: number for number, name in enumerate(METHODS)}


def test_every_built_in_method_is_in_the_reference() -> None:
    installed = registry()
    built_in = {
        one.name
        for one in installed.all(MergeMethod)
        if installed.provider(MergeMethod, one.name).distribution == "mergecore"
    }
    assert built_in == set(METHODS)


@pytest.mark.parametrize("formats", [*drawing.FORMATS, "mixed"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_agrees_with_the_reference_in_every_format(name: str, formats: str) -> None:
    random = np.random.default_rng([SEEDS[name], [*drawing.FORMATS, "mixed"].index(formats)])
    for draw in range(DRAWS):
        wrong = disagreement(name, formats, random, large=draw == 0 and formats in ("F32", "mixed"))
        assert not wrong, f"draw {draw}: {wrong}"


def disagreement(name: str, formats: str, random: drawing.Random, large: bool) -> str:
    """What differs in one random merge, or nothing."""
    known = METHODS[name]
    models = int(random.integers(known.fewest, known.most + 1))
    params = drawing.parameters(random, known, models)
    shape = tuple(max(1, n) for n in drawing.shape(random, large))  # merges copy what is empty
    based = known.base in ("delta", "first") or (known.base == "perhaps" and random.random() < 0.5)
    dtypes = [
        drawing.pick(random, drawing.FORMATS) if formats == "mixed" else formats for _ in range(models + 1)
    ]
    if formats == "mixed" and len(set(dtypes)) == 1:
        dtypes[0] = "F64" if dtypes[0] != "F64" else "BF16"
    base = drawing.origin(random, shape)
    spread = drawing.pick(random, (0.5, 0.02, 0.001))
    arrays = [stored(base + drawing.change(random, shape, spread), dtype) for dtype in dtypes[1:]]
    base = stored(base, dtypes[0])
    double = "F64" in (dtypes if based else dtypes[1:])
    inputs = Inputs("some.weight", arrays, base if based else None, double, seed=int(random.integers(99)))
    if known.base == "first":
        inputs = Inputs("some.weight", [base, *arrays], None, double, inputs.seed)
    result = known.compute(inputs, params)
    if result.hopeless:
        with pytest.raises(MergeError):
            run(name, params, inputs, dtypes if based else dtypes[1:])
        return ""
    merged = run(name, params, inputs, dtypes if based else dtypes[1:])
    verdict = judge(merged, result, "F64" if double else "F32", inputs.eps, inputs.base)
    return verdict.text and f"{verdict.text}; {params}, shape {shape}, stored as {dtypes}"


def run(name: str, params: dict[str, Any], inputs: Inputs, dtypes: list[str]) -> np.ndarray[Any, Any]:
    """What the product makes of them."""
    method = registry().get(MergeMethod, name)
    arrays = [*([] if inputs.base is None else [inputs.base]), *inputs.models]
    tensors = [torch.tensor(one).to(TORCH[dtype]) for one, dtype in zip(arrays, dtypes, strict=True)]
    base = None if inputs.base is None else tensors.pop(0)
    if base is not None and method.space == "weight":
        tensors, base = [base, *tensors], None
    made = run_method(
        method, method.params.model_validate(params), tensors, base, name=inputs.name, seed=inputs.seed
    )
    assert made.dtype == (torch.float64 if inputs.double else torch.float32)
    found: np.ndarray[Any, Any] = made.to(torch.float64).numpy()
    return found
