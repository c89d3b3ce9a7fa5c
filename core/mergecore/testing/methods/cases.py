"""A method with parameters and tensors for it, which the properties of methods are checked on; read `MethodCase`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mergecore.errors import MergecoreError, MergeError
from mergecore.testing.findings import demand
from mergecore.testing.methods.drawing import default_params
from mergecore.testing.methods.running import PLAIN, Manner, run_in
from mergecore.types import MergeMethod
from mergecore.types.params import Params

SHAPES = ((), (1,), (7,), (5, 3), (1, 9), (9, 1), (3, 4, 5), (3, 2, 2, 2), (2, 3, 1, 2, 2))
"""Of norms, matrices, experts and patches of pictures; and some that few models have."""
LARGE = (600, 700)
"""More than one block."""


@dataclass(frozen=True)
class Tensors:
    """Tensors to merge, and the base beside them where there is one."""

    what: str
    """In words, for messages."""
    models: Sequence[Tensor]
    base: Tensor | None

    def like(self, what: str, *tensors: Tensor) -> Tensors:
        """Others of that many; a base is the last of them."""
        return Tensors(what, tensors[: len(self.models)], None if self.base is None else tensors[-1])

    @property
    def everyone(self) -> list[Tensor]:
        """All of them, the base last."""
        return [*self.models, *([] if self.base is None else [self.base])]

    def to(self, *kinds: torch.dtype) -> Tensors:
        """The same in other dtypes, one after the other."""
        moved = [one.to(kinds[i % len(kinds)]) for i, one in enumerate(self.everyone)]
        return self.like(self.what, *moved)


@dataclass(frozen=True)
class MethodCase:
    """A method with parameters, and how many tensors it gets beside the base."""

    method: MergeMethod[Any]
    params: Params
    n: int

    @classmethod
    def of(cls, method: MergeMethod[Any], params: Params | None, n: int | None) -> MethodCase:
        """What is not given is chosen: three tensors, or as near to it as the method allows; the defaults."""
        n = n or inputs(method)
        return cls(method, params if params is not None else default_params(method, n), n)

    @property
    def bases(self) -> tuple[bool, ...]:
        """Whether there is a base beside the tensors; both where the method takes it or leaves it."""
        return (True, False) if self.method.base == "optional" else (self.method.base_apart,)

    def normal(self, shape: Sequence[int], seed: int = 0) -> Iterator[Tensors]:
        """Tensors of normal numbers, with a base and without where the method takes both."""
        for with_base in self.bases:
            generator = torch.Generator().manual_seed(seed)
            base = torch.randn(tuple(shape), generator=generator) if with_base else None
            models = [torch.randn(tuple(shape), generator=generator) for _ in range(self.n)]
            said = f"shape {list(shape)}"
            yield Tensors(said + (", with a base" if with_base and len(self.bases) > 1 else ""), models, base)

    def with_params(self, params: Params) -> MethodCase:
        """The same with other parameters."""
        return replace(self, params=params)

    def merge(
        self, given: Tensors, manner: Manner = PLAIN, *, seed: int = 0, params: Params | None = None
    ) -> Tensor:
        """What the method makes of tensors.

        Raises:
            MergeError: when it says that these numbers cannot be merged.
        """
        models = [{"tensor": one} for one in given.models]
        bases = None if given.base is None else {"tensor": given.base}
        try:
            return run_in(manner, self.method, params or self.params, models, bases, seed=seed)["tensor"]
        except (MergeError, AssertionError):
            raise
        except MergecoreError as error:
            raise AssertionError(f"for {given.what}, {error}") from error
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise AssertionError(
                f"for {given.what} it raises {text}; merge tensors of every shape somehow, and raise a MergeError "
                "for numbers that cannot be merged"
            ) from error

    def tried(self, given: Tensors, manner: Manner = PLAIN, **how: Any) -> Tensor | None:
        """What the method makes of tensors; None where it says that they cannot be merged."""
        try:
            return self.merge(given, manner, **how)
        except MergeError:
            return None

    @property
    def ordinary(self) -> list[Tensors]:
        """Matrices of normal numbers, made anew: a method may have spoiled them."""
        return list(self.normal((13, 11)))


def inputs(method: MergeMethod[Any]) -> int:
    """Three, or as near to it as the method allows; a base that it takes as its first input is one more."""
    least, most = method.models
    beside = max(least, min(3, most or 3))
    return beside + (method.base == "required" and method.space == "weight")


def same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two results are the same to the last bit; None is that of tensors which are refused."""
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)


def finite(merged: Tensor, what: str) -> None:
    """Demand that all numbers are finite."""
    demand(
        bool(torch.isfinite(merged).all()),
        f"the result is not finite for {what}; raise a MergeError for numbers that cannot be merged",
    )
