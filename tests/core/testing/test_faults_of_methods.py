"""Each property of merge methods is broken by a method that keeps all others, and is named.

Where a fault cannot be made alone, the other properties that it breaks as well are named too.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import torch
from faulty_methods import (
    Made,
    Nothing,
    Some,
    Weights,
    breaks_at_the_end_of_a_range,
    cannot_be_made_later,
    computes_in_float32,
    depends_on_blocks,
    depends_on_order,
    divides_by_a_norm,
    factors_of_something_else,
    failed,
    keeps_no_equal_tensors,
    keeps_parameters,
    keeps_too_much,
    local_params,
    mean,
    method,
    minds_the_order_of_models,
    moves_the_base,
    not_finite_for_one_shape,
    of_blocks,
    overflows,
    random,
    reads_whole_tensors,
    refuses_everything,
    says_too_little_memory,
    scaled,
    shares_memory,
    undescribed,
    writes_to_models,
    writes_to_the_base,
)
from torch import Tensor

from mergecore import Block, ConfigError, MergeError, MergeMethod, Params, TensorGroup
from mergecore.testing import check_method
from mergecore.testing.methods.cases import MethodCase
from mergecore.testing.methods.checks import METHOD
from mergecore.types import Merged

# ---- what is wrong, beside what stands in `faulty_methods` ----------------------------------------


def is_refused_by_every_plan() -> MergeMethod[Any]:
    def refuse(steps: Any, models: Any) -> None:
        raise ConfigError("E105", "no plan pleases it")

    return method(check_plan=refuse)


def refuses_vectors() -> MergeMethod[Any]:
    return method(refusing(lambda shape: len(shape) == 1))


def refuses_three_axes() -> MergeMethod[Any]:
    return method(refusing(lambda shape: len(shape) == 3))


def refusing(which: Callable[[Sequence[int]], bool]) -> Made:
    def merge(group: TensorGroup, params: Any) -> Merged:
        if which(group.shape):
            raise MergeError("E402", "not of this shape")
        return mean(group, params)

    return merge


def takes_three_models() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: (block.x[0] + block.x[1] + block.x[2]) / 3))


def divides_by_a_weight() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Weights) -> Merged:
        """Each model by its share of the largest weight: 0 / 0 where all of them are 0."""

        def block(block: Block) -> Tensor:
            rows = [w * x / w for w, x in zip(params.weight, block.x, strict=True)]
            return torch.stack(rows).mean(0) * sum(params.weight)

        return group.map(block)

    return method(merge, params=Weights)


def computes_in_float16() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: block.x.half().mean(0).to(block.x.dtype)))


def computes_in_bfloat16() -> MergeMethod[Any]:
    def block(block: Block) -> Tensor:
        wide = block.x.dtype == torch.float64
        return block.x.mean(0) if wide else block.x.bfloat16().mean(0).float()

    return method(of_blocks(block))


def ignores_a_parameter() -> MergeMethod[Any]:
    return method(params=Some)


def ignores_a_weight() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Weights) -> Merged:
        return group.map(lambda block: block.x.mean(0) * params.weight[0] * params.mode)

    return method(merge, params=Weights)


def ignores_the_third_model() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: block.x[:2].mean(0)))


def ignores_the_base() -> MergeMethod[Any]:
    return method(space="apart", base="required")


def is_off_by_one_bit() -> MergeMethod[Any]:
    def block(block: Block) -> Tensor:
        made = block.x.amax(0)
        return torch.nextafter(made, made + 1)

    return method(of_blocks(block), keeps=("equal",))


def is_rounded_with_more_models() -> MergeMethod[Any]:
    return method(
        of_blocks(lambda block: block.x.amax(0) if len(block.x) < 4 else block.x.mean(0)), keeps=("equal",)
    )


def asks_for_the_hour() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Nothing) -> Merged:
        late = datetime.now(UTC).hour >= 24
        return group.map(lambda block: block.x.mean(0) * (2 if late else 1))

    return method(merge)


def asks_for_the_day() -> MergeMethod[Any]:
    return method(of_blocks(lambda block: block.x.mean(0) * (2 if time.localtime().tm_year < 2000 else 1)))


def goes_by_a_hash() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Nothing) -> Merged:
        drawn = torch.Generator().manual_seed(hash(group.name) % 2**31)
        noise = torch.rand(group.n, generator=drawn).tolist()
        return group.map(lambda block: sum(w * x for w, x in zip(noise, block.x, strict=True)))

    return method(merge)


def draws_from_the_system() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Nothing) -> Merged:
        factor = 1 + secrets.randbelow(1)
        return group.map(lambda block: block.x.mean(0) * factor)

    return method(merge)


def goes_by_the_thread() -> MergeMethod[Any]:
    known = threading.local()
    known.factor = 1.0  # in the thread that makes it

    def merge(group: TensorGroup, params: Nothing) -> Merged:
        factor = getattr(known, "factor", 2.0)
        return group.map(lambda block: block.x.mean(0) * factor)

    return method(merge)


def seeds_torch() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Nothing) -> Merged:
        torch.manual_seed(0)
        noise = torch.rand(group.n).tolist()
        return group.map(lambda block: sum(w * x for w, x in zip(noise, block.x, strict=True)))

    return method(merge)


def goes_by_the_seed_of_torch() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Nothing) -> Merged:
        factor = 1 + torch.initial_seed() % 2
        return group.map(lambda block: block.x.mean(0) * factor)

    return method(merge)


def sets_something_of_torch() -> MergeMethod[Any]:
    def merge(group: TensorGroup, params: Nothing) -> Merged:
        torch.set_default_dtype(torch.float64)
        return mean(group, params)

    return method(merge)


MUTANTS: list[tuple[Callable[[], MergeMethod[Any]], str, str]] = [
    (undescribed, "described", "nothing says what its parameter 't' means: Field(description=…)"),
    (local_params, "pickle", "define their class at the top of a module"),
    (not_finite_for_one_shape, "merges", "not finite for shape [7]"),
    (refuses_everything, "merges", "it refuses ordinary numbers"),
    (divides_by_a_norm, "edges", "not finite for tensors of zeros"),
    (overflows, "edges", "not finite for large numbers, up to 65504"),
    (breaks_at_the_end_of_a_range, "parameters", "with the parameters t=1.0"),
    (random, "same", "another result each time for shape []"),
    (depends_on_order, "order", "the order of blocks matters for shape [13, 11]"),
    (depends_on_blocks, "blocks", "depends on how shape [31, 17] is cut into blocks"),
    (shares_memory, "threads", "several threads make another result for shape [12, 10]"),
    (computes_in_float32, "float64", "float64 is computed in float32"),
    (writes_to_models, "inputs", "it writes into the tensors of the models"),
    (writes_to_the_base, "inputs", "writes into `block.base`"),
    (keeps_parameters, "gradients", "depends on the parameters of the tensor before"),
    (reads_whole_tensors, "whole", "say needs_whole_tensors=True"),
    (cannot_be_made_later, "later", "where it is made later, from the end to the beginning"),
    (moves_the_base, "base", "do not give the base"),
    (keeps_no_equal_tensors, "equal", "do not say keeps=('equal',)"),
    (minds_the_order_of_models, "models", "models in the order [3, 2, 1] give another result"),
    (keeps_too_much, "memory", "keep less from block to block, or say it by `extra_memory`"),
    (says_too_little_memory, "memory", "keep less from block to block, or say it by `extra_memory`"),
    (is_refused_by_every_plan, "merge", "a config that names it does not merge: no plan pleases it"),
    (refuses_vectors, "merges", "it refuses ordinary numbers, of shape [1]: not of this shape"),
    (refuses_three_axes, "merges", "models have tensors of every shape"),
    (takes_three_models, "counts", "for 1 models it raises IndexError"),
    (divides_by_a_weight, "parameters", "with the parameters weight=(0.0, 0.0, 0.0)"),
    (computes_in_float16, "edges", "not finite for numbers of 1e10"),
    (computes_in_bfloat16, "float32", "float32 is computed in less than float32 for shape [13, 11]"),
    (ignores_a_parameter, "used", "its parameter 't' changes nothing, whatever the value is"),
    (ignores_a_weight, "used", "its parameter 'weight' of model 2 alone changes nothing"),
    (ignores_the_third_model, "heard", "model 3 of 3 changes nothing, whatever its numbers are"),
    (ignores_the_base, "heard", "the base changes nothing"),
    (is_off_by_one_bit, "equal", "3 equal tensors do not come out as they are, but up to 2.4e-07 off"),
    (is_rounded_with_more_models, "equal", "5 equal tensors do not come out as they are"),
    (asks_for_the_hour, "asks", "it asks for the clock by datetime.now (test_faults_of_methods.py, line "),
    (asks_for_the_day, "asks", "it asks for the clock by time.localtime (test_faults_of_methods.py, line "),
    (
        draws_from_the_system,
        "asks",
        "it asks for random bytes by os.urandom (test_faults_of_methods.py, line ",
    ),
    (goes_by_a_hash, "asks", "it asks for hash(), which is another number for a text in each process"),
    (goes_by_the_thread, "thread", "another thread makes another result"),
    (seeds_torch, "shared", "it changes the random numbers of torch, which all code shares"),
    (goes_by_the_seed_of_torch, "shared", "depends on global random numbers"),
    (sets_something_of_torch, "shared", "it changes the default dtype of torch, which all code shares"),
    (factors_of_something_else, "factors", "its factors are those of another result"),
]
AS_WELL = {
    "computes_in_float16": {"parameters", "float32", "float64"},
    "goes_by_the_thread": {"merge"},
    "random": {"order", "blocks", "threads", "thread", "shared", "dtypes", "float32", "gradients", "merge"},
    "refuses_everything": {"counts", "merge"},
    "refuses_vectors": {"merge"},
    "seeds_torch": {"merge"},
    "sets_something_of_torch": {"memory"},
    "divides_by_a_norm": {"parameters", "heard"},
    "reads_whole_tensors": {"merge"},
    "depends_on_order": {"threads"},
}
"""What a fault breaks beside what it is about."""


@pytest.fixture(autouse=True)
def _torch_stays_as_it_is() -> Iterator[None]:
    with torch.random.fork_rng():
        yield
    torch.set_default_dtype(torch.float32)


def test_a_method_that_keeps_everything_passes() -> None:
    assert failed(method()) == {}
    assert failed(method(scaled, params=Some)) == {}


@pytest.mark.parametrize(("mutant", "name", "text"), MUTANTS, ids=[one.__name__ for one, *_ in MUTANTS])
def test_a_fault_is_found_and_named(mutant: Callable[[], MergeMethod[Any]], name: str, text: str) -> None:
    found = failed(mutant())
    assert text in found.get(name, ""), found
    assert set(found) <= {name} | AS_WELL.get(mutant.__name__, set())


def test_the_check_of_methods_raises_for_the_first_fault() -> None:
    with pytest.raises(
        AssertionError, match=r"^merge method 'odd': nothing says what its parameter 't' means"
    ):
        check_method(undescribed())


def test_every_property_of_methods_is_broken_by_some_fault() -> None:
    assert {name for _, name, _ in MUTANTS} >= {one.name for one in METHOD} - BROKEN_BELOW


# ---- what cannot be broken by a function alone ---------------------------------------------------------------

BROKEN_BELOW = {"class", "dtypes", "process"}


def test_parameters_of_another_kind_are_found() -> None:
    from pydantic import BaseModel

    class Other(BaseModel):
        t: float = 0.5

    found = failed(method(params=Other), Some())
    assert "`params` is no class of `Params`" in found["class"]


def test_parameters_without_a_default_get_plain_values() -> None:
    def weighted(group: TensorGroup, params: Weights) -> Merged:
        """The weighted sum."""
        weights = [params.mode * one for one in params.weight]
        return group.map(lambda block: sum(w * x for w, x in zip(weights, block.x, strict=True)))

    assert MethodCase.of(method(weighted, params=Weights), None, 2).params == Weights(weight=(0.5, 0.5))
    check_method(method(weighted, params=Weights, keeps=("order",)))


def test_parameters_that_nothing_fits_are_asked_for() -> None:
    def refuse(params: Params, n: int) -> None:
        raise MergeError("E105", "never")

    with pytest.raises(
        ValueError, match="no parameters of 'odd' are found that it accepts; give some by `params`"
    ):
        check_method(method(check_params=refuse))


def test_a_property_can_be_left_out_by_its_name() -> None:
    check_method(computes_in_float32(), without=("float64",))
    with pytest.raises(ValueError, match=r"no property 'flaot64' to leave out; did you mean 'float64'\?"):
        check_method(method(), without=("flaot64",))


def test_an_exception_of_a_method_is_told_with_its_case() -> None:
    def fail(group: TensorGroup, params: Some) -> Merged:
        return group.map(lambda block: block.x[9])

    with pytest.raises(
        AssertionError, match=r"for shape \[13, 11\] it raises IndexError: .*; merge tensors of every shape"
    ):
        check_method(method(fail))


def test_a_result_of_another_dtype_is_told() -> None:
    with pytest.raises(
        AssertionError, match=r"for shape \[13, 11\], it returned \[143\] of float16 for a block"
    ):
        check_method(method(of_blocks(lambda block: block.x[0].half())))


def test_numbers_are_what_they_are_in_every_format() -> None:
    seen = itertools.count()

    def merge(group: TensorGroup, params: Some) -> Merged:
        number = next(seen)
        return group.map(lambda block: block.x.mean(0) * (1 + number % 2))

    assert "give another result than the same numbers in" in failed(method(merge))["dtypes"]


def test_a_method_that_fails_for_some_shapes_is_not_said_to_ignore_its_parameters() -> None:
    def matrices(group: TensorGroup, params: Some) -> Merged:
        """The first matrix, its singular values scaled."""
        u, s, vt = torch.linalg.svd(group.x[0].double(), full_matrices=False)
        made: torch.Tensor = u * s * params.t @ vt
        return made.to(group.dtype)

    found = failed(method(matrices, params=Some, needs_whole_tensors=True))
    assert "used" not in found
    assert any("merge tensors of every shape somehow" in text for text in found.values()), found
