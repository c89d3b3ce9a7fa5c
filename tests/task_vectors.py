"""For tests of methods that work on differences to the base: run one on a few numbers, and golden inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from mergecore import MergeMethod
from mergecore.testing import run_method

Numbers = Sequence[float] | Sequence[Sequence[float]] | Tensor


def method_called(name: str) -> MergeMethod[Any]:
    """The built-in method of that name."""
    module = import_module(f"mergecore_plugins.methods.{name}")
    [method] = module.mergecore_merge_methods()
    assert isinstance(method, MergeMethod)
    return method


def merged(name: str, *deltas: Numbers, **options: Any) -> Tensor:
    """What a method makes of models that are a base plus `deltas`.

    The options `base` (else zeros), `seed`, `tensor` (its name) and `order` (of blocks) are for the run, the
    others are parameters of the method; a lone weight is that of every model.
    """
    rows = [one if isinstance(one, Tensor) else torch.tensor(one) for one in deltas]
    base = options.pop("base", torch.zeros_like(rows[0]))
    run = {word: options.pop(key) for key, word in _RUN.items() if key in options}
    if not isinstance(options["weight"], Sequence):
        options["weight"] = [options["weight"]] * len(rows)
    method = method_called(name)
    params = method.params.model_validate(options)
    return run_method(method, params, [base + one for one in rows], base, **run)


_RUN = {"seed": "seed", "tensor": "name", "order": "order"}


def golden() -> tuple[Tensor, list[Tensor]]:
    """The base and three task vectors, 3 x 4, of rows that another implementation computed in float32."""

    def delta(k: int, p: int) -> float:
        factor = 4 if (k, p) == (1, 5) else 1
        return factor * 0.05 * (1 + 0.1 * k) * math.sin(1.7 * p + 2.3 * k + 0.4)

    base = [0.5 * math.cos(0.9 * p) for p in range(12)]
    models = [[base[p] + delta(k, p) for p in range(12)] for k in (1, 2, 3)]
    whole = torch.tensor(base).view(3, 4)
    return whole, [torch.tensor(one).view(3, 4) - whole for one in models]


GOLDEN_WEIGHTS = (0.5, 0.3, 0.4)


def close(found: Tensor, digits: str) -> bool:
    """Whether numbers agree with printed ones, row-major, to the six digits of those."""
    wanted = torch.tensor([float(word) for word in digits.split()]).view(found.shape)
    return torch.allclose(found, wanted, rtol=0, atol=1e-6)
