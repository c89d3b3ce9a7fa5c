"""What whole merges keep that name a method: in a config, and of adapters; read `MERGING`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mergecore.compute import philox
from mergecore.config.parameters.declared import Parameter, parameters_of
from mergecore.errors import MergecoreError, MergeError
from mergecore.pipeline.folders import execute
from mergecore.pipeline.plans import plan
from mergecore.testing.checkpoints import tiny_model
from mergecore.testing.findings import NotCheckedError, Property, demand
from mergecore.testing.methods.cases import MethodCase, Tensors
from mergecore.testing.methods.running import Manner, Place, run_in
from mergecore.testing.registries import registry_with
from mergecore.types import MergeMethod, Plan
from mergecore.types.execution import RunOptions
from mergecore.types.params import for_inputs

Weights = dict[str, Tensor]


def _merges_by_a_config(case: MethodCase) -> None:
    """A merge of tiny models gives what the method makes of their tensors in memory; numbers are given as gradients."""
    method, registry = case.method, registry_with(MergeMethod, case.method)
    with TemporaryDirectory() as name:
        folders = [tiny_model(Path(name) / f"model-{seed}", seed=seed) for seed in range(case.n + 1)]
        models = [load_file(one / "model.safetensors") for one in folders]
        within = method.base == "required"
        config = _config(case, folders if within and method.base_apart else folders[:-1])
        try:
            planned = plan(config, registry=registry)
            wanted = _in_memory(case, models, planned)
            out = execute(planned, Path(name) / "out", registry=registry, options=RunOptions(threads=3))
        except MergeError as error:
            raise AssertionError(f"it refuses the numbers of a tiny model: {error}") from error
        except MergecoreError as error:
            raise AssertionError(f"a config that names it does not merge: {error}") from error
        made = load_file(out / "model.safetensors")
    for key in wanted:
        demand(
            key in made and torch.equal(made[key], wanted[key]),
            f"merged by a config, '{key}' is not what the method makes of the same tensors in memory; "
            "let it depend on its inputs and parameters alone, and on where the tensor stands in the model",
        )


def _in_memory(case: MethodCase, models: Sequence[Weights], planned: Plan) -> Weights:
    """What the method makes of these models; the base is the last where it is apart, else the first."""
    based = case.method.base == "required" and case.method.base_apart
    places = {step.name: Place(step.depth, step.role) for step in planned.steps}
    manner = Manner(places=places)
    return run_in(manner, case.method, case.params, models[:-1], models[-1] if based else None)


def _config(case: MethodCase, folders: Sequence[Path]) -> dict[str, Any]:
    method = case.method
    params = for_inputs(case.params, case.n)
    shared: dict[str, Any] = {}
    entries: list[dict[str, Any]] = [{"model": str(one), "parameters": {}} for one in folders]
    config: dict[str, Any] = {"merge_method": method.name, "parameters": shared}
    listed = entries
    if method.base == "required":
        base = entries[-1] if method.base_apart else entries[0]
        listed = [one for one in entries if one is not base]
        config["base_model"] = base["model"]
        if not method.base_apart:
            listed = entries
    for word, parameter in parameters_of(method.params).items():
        value = getattr(params, parameter.field)
        if value is None:
            continue
        if parameter.per_model:
            for entry, one in zip(listed, value, strict=True):
                entry["parameters"] |= {} if one is None else {word: one}
        elif value != parameter.default or parameter.required:
            shared[word] = _gradient(parameter, value)
    return {**config, "models": listed}


def _gradient(parameter: Parameter, value: object) -> object:
    """A number as a gradient from it to itself, which must change nothing."""
    return [value, value] if isinstance(value, float) and not parameter.per_model else value


# ---- adapters ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Products:
    """Inputs that are products of two factors each."""

    factors: Sequence[tuple[Tensor, Tensor]]
    name: str = "tensor"

    def uniform(self, count: int, purpose: str = "uniform") -> Tensor:
        """As `TensorGroup.uniform`."""
        key = philox.random_key(0, self.name, "", purpose)
        return torch.from_numpy(philox.uniform(philox.random_words(key, 0, count)))


def _drawn_factors(case: MethodCase) -> Iterator[tuple[str, list[tuple[Tensor, Tensor]]]]:
    generator = torch.Generator().manual_seed(2)
    mixed = [1 + i % 4 for i in range(case.n)]
    yield "rank 2", _overlapping([2] * case.n, generator)
    yield "ranks of many sizes", _overlapping(mixed, generator)
    yield "ranks of many sizes, at right angles", _apart(mixed, generator)
    yield "a model without a change", _overlapping([0, *[2] * (case.n - 1)], generator)
    yield "a model without a change, at right angles", _apart([0, *[2] * (case.n - 1)], generator)


def _overlapping(ranks: Sequence[int], generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Factors of matrices (12, 9), whose directions are neither those of other models nor apart from them."""
    return [(_orthonormal(12, rank, generator), _orthonormal(9, rank, generator).T) for rank in ranks]


def _apart(ranks: Sequence[int], generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Factors whose directions are at right angles, each of a strength of its own.

    A method that keeps the strongest of a model then has one choice, where equal ones leave it to rounding.
    """
    total = sum(ranks)
    strengths = torch.linspace(1, 2, total, dtype=torch.float64)
    first = _orthonormal(max(10, total), total, generator) * strengths
    second = _orthonormal(max(11, total), total, generator) * strengths
    return [
        (one, other.T)
        for one, other in zip(first.split(list(ranks), 1), second.split(list(ranks), 1), strict=True)
    ]


def _orthonormal(length: int, rank: int, generator: torch.Generator) -> Tensor:
    """Vectors that are their own basis, so that bases of the factors are those of the matrices."""
    drawn = torch.randn((length, rank), generator=generator, dtype=torch.float64)
    return torch.linalg.qr(drawn)[0] if rank else drawn


def _merges_factors(case: MethodCase) -> None:
    if case.method.merge_factors is None:
        raise NotCheckedError("it does not say how it merges factors")
    compared = [_merges_these(case, what, factors) for what, factors in _drawn_factors(case)]
    demand(any(compared), "whatever factors are drawn, its merge of their products hangs on rounding errors")


def _merges_these(case: MethodCase, what: str, factors: list[tuple[Tensor, Tensor]]) -> bool:
    """Demand that factors are merged as what they make; False where rounding alone decides what that is."""
    assert case.method.merge_factors is not None
    wanted = _of_products(case, what, factors)
    try:
        first, second = case.method.merge_factors(Products(factors), for_inputs(case.params, case.n))
    except MergeError:
        demand(wanted is None, f"it refuses factors of {what}, and not the matrices that they make")
        return True
    rank = sum(one.shape[1] for one, _ in factors)
    demand(
        first.shape[1] == second.shape[0] <= rank,
        f"of factors of {what}, it makes some of rank {first.shape[1]}; at most {rank} is the sum of all",
    )
    if (
        wanted is not None
        and not _close(first @ second, wanted)
        and _hangs_on_rounding(case, factors, wanted)
    ):
        return False
    demand(
        wanted is not None and _close(first @ second, wanted),
        f"its factors are those of another result for {what}: their product is not the merge of the products",
    )
    return True


def _of_products(case: MethodCase, what: str, factors: Sequence[tuple[Tensor, Tensor]]) -> Tensor | None:
    """What the method makes of the matrices; None where it refuses them."""
    products = [first @ second for first, second in factors]
    base = torch.zeros_like(products[0]) if case.method.base_apart else None
    return case.tried(Tensors(what, products, base))


def _hangs_on_rounding(case: MethodCase, factors: Sequence[tuple[Tensor, Tensor]], wanted: Tensor) -> bool:
    """Whether factors that differ by 1e-9 make something else: directions are equally strong, or parts are 0."""
    generator = torch.Generator().manual_seed(3)
    moved = [
        (first + 1e-9 * torch.randn(first.shape, generator=generator, dtype=first.dtype), second)
        for first, second in factors
    ]
    other = _of_products(case, "moved", moved)
    return other is None or not _close(other, wanted)


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-6, atol=1e-6 * max(float(other.abs().max()), 1e-30))


MERGING: Sequence[Property[MethodCase]] = (
    Property("merge", "a config that names it merges, numbers given as gradients", _merges_by_a_config),
    Property(
        "factors", "factors of adapters are merged as what they make, where it says how", _merges_factors
    ),
)
"""What every method keeps in merges."""
