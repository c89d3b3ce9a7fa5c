"""Goes through the weights of two models, perhaps beside a base, once and in bounded memory; read `compared`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mergecore import open_tensors
from mergecore.files import MERGEABLE
from mergecore.types import Checkpoint, Description, TensorFacts, TensorInfo, TensorInput
from mergecore_plugins.look.pairs import Pair, chunks, coarser, effective_rank, pair

if TYPE_CHECKING:
    from mergecore.types import Matrix


@dataclass(frozen=True)
class Measured:
    """A tensor that all models have in one shape."""

    name: str
    shape: tuple[int, ...]
    dtypes: tuple[str, ...]
    facts: TensorFacts
    pairs: tuple[Pair, ...]
    """The two models; or base and first, base and second."""
    between: Pair | None = None
    """The changes that both made to the base."""
    ranks: tuple[float, ...] = ()
    """The effective ranks of the changes of `pairs`, where they were asked for and the tensor is a matrix."""


@dataclass(frozen=True)
class Comparison:
    """What was found in the tensors of two models, and of a base where there is one."""

    names: tuple[str, ...]
    """Those of the models: first, second and base."""
    measured: tuple[Measured, ...]
    skipped: Mapping[str, str]
    """Tensors that all have and that cannot be compared number by number, and why."""
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By the label of a model, its tensors that not all have."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What texts call the models: A, B, and C for the base."""
        return tuple("ABC"[: len(self.names)])

    @property
    def with_base(self) -> bool:
        """Whether there is a base."""
        return len(self.names) > 2


def compared(
    models: Sequence[Checkpoint], description: Description, *, threads: int | None = None, rank: bool = False
) -> Comparison:
    """Compare two models, or two models and a base, which comes last.  Every tensor is read once.

    description: that of one of them, which says where tensors stand.
    rank: compute effective ranks too, for which the memory holds whole matrices.

    Raises:
        InputError: E234 to E236, when numbers cannot be read, or are not finite.
    """
    common = [name for name in models[0].tensors if all(name in one.tensors for one in models)]
    skipped = {name: why for name in common if (why := _unlike([one.tensors[name] for one in models]))}
    alike = [name for name in common if name not in skipped]
    reads = {
        f"{index}/{name}": TensorInput(index, model.tensors[name])
        for index, model in enumerate(models)
        for name in alike
    }
    with open_tensors(models, reads) as opened, ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        from mergecore.compute import one_thread_each

        def measure(name: str) -> Measured:
            each = [opened[f"{index}/{name}"] for index in range(len(models))]
            dtypes = tuple(one.tensors[name].dtype for one in models)
            return _measured(name, dtypes, description.tensors.get(name, TensorFacts()), each, rank)

        with one_thread_each():
            measured = tuple(pool.map(measure, alike))
    everywhere = {*common}
    only = {
        label: tuple(one for one in model.tensors if one not in everywhere)
        for label, model in zip("ABC", models, strict=False)
    }
    return Comparison(tuple(one.name for one in models), measured, skipped, only)


def _unlike(each: Sequence[TensorInfo]) -> str:
    """Why tensors of one name cannot be compared; empty where they can be."""
    if len({one.shape for one in each}) > 1:
        return f"shapes {', '.join(str(list(one.shape)) for one in each)}"
    formats = {one.dtype for one in each} - {*MERGEABLE}
    return f"{'/'.join(sorted(formats))} is not compared" if formats else ""


def _measured(
    name: str, dtypes: tuple[str, ...], facts: TensorFacts, each: Sequence[Matrix], rank: bool
) -> Measured:
    first, second, *base = each
    if base:
        pairs, between = [Pair(), Pair()], Pair()
        for a, b, c in chunks([first, second, base[0]]):
            pairs[0] += pair(c, a, coarser(dtypes[2], dtypes[0]))
            pairs[1] += pair(c, b, coarser(dtypes[2], dtypes[1]))
            between += pair(a - c, b - c)
        ranks = [_rank(base[0], one) for one in (first, second) if rank and len(one.shape) == 2]
        found = Measured(name, first.shape, dtypes, facts, tuple(pairs), between, tuple(ranks))
    else:
        alone = Pair()
        for a, b in chunks([first, second]):
            alone += pair(a, b, coarser(*dtypes))
        ranks = [_rank(first, second)] if rank and len(first.shape) == 2 else []
        found = Measured(name, first.shape, dtypes, facts, (alone,), None, tuple(ranks))
    for one in each:
        one.raise_faults()
    return found


def _rank(first: Matrix, second: Matrix) -> float:
    return effective_rank(second.whole().float() - first.whole().float())
