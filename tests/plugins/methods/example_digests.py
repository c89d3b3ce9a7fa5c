"""Prints a digest of what every method makes of random tensors with the parameters of its example.

    python example_digests.py FOLDER

FOLDER holds the models of the examples.  The output is JSON, from the name of a method to a digest; methods that
promise the same bytes on one machine only are left out.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from examples import example_step
from torch import Tensor

from mergecore import MergeMethod
from mergecore.plugins.registry import Registry
from mergecore.testing import run_method

KINDS = (((37, 53), np.float32), ((37, 53), np.float64), ((1100, 250), np.float32))


def digest(method: MergeMethod[Any], registry: Registry, folder: Path) -> str:
    """Of the results for several shapes and precisions, to the last bit."""
    step = example_step(method, registry, folder)
    assert step.params is not None
    whole = hashlib.sha256()
    for shape, width in KINDS:
        tensors = [normal(shape, width, seed) for seed in range(len(step.inputs))]
        base = normal(shape, width, 9) if step.base else None
        whole.update(run_method(method, step.params, tensors, base).numpy().tobytes())
    return whole.hexdigest()


def normal(shape: tuple[int, ...], width: type[np.floating], seed: int) -> Tensor:
    """numpy draws the same numbers on every processor, torch does not."""
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(width))


def main() -> None:
    torch.set_num_threads(1)
    registry = Registry.discover()
    methods = [method for method in registry.all(MergeMethod) if method.reproducible == "bitwise"]
    digests = {method.name: digest(method, registry, Path(sys.argv[1])) for method in methods}
    sys.stdout.write(json.dumps(digests))


if __name__ == "__main__":
    main()
