"""Merge methods on tensors in memory; read `run_method`, then `Manner`, which says how blocks are worked on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mergecore.compute.deferred import DeferredGroup
from mergecore.compute.group import StreamedGroup, merge_group
from mergecore.compute.scratch import Scratch
from mergecore.compute.topk.whole_model import Groups
from mergecore.types import Json, MergeMethod, Workers
from mergecore.types.params import Params, for_inputs
from mergecore.types.steps import BLOCK, Depth


def run_method(
    method: MergeMethod[Any],
    params: Params,
    tensors: Sequence[Tensor],
    base: Tensor | None = None,
    *,
    name: str = "tensor",
    seed: int = 0,
    order: Callable[[int], Sequence[int]] = range,
) -> Tensor:
    """What `method` makes of `tensors`, before rounding: float64 if any of them is, else float32.

    `tensors` are the models beside `base`; a method in weight space that needs the base
    takes it as the first of `tensors`.  A `PerModel` parameter of one value counts for all of them, and an empty
    tensor is not handed to the method, both as in a merge.  `order` gives the order in which n blocks are worked on.
    """
    models = [{name: one} for one in tensors]
    bases = None if base is None else {name: base}
    return run_model(method, params, models, bases, seed=seed, order=order)[name]


def run_model(
    method: MergeMethod[Any],
    params: Params,
    models: Sequence[Mapping[str, Tensor]],
    base: Mapping[str, Tensor] | None = None,
    *,
    seed: int = 0,
    order: Callable[[int], Sequence[int]] = range,
) -> dict[str, Tensor]:
    """As `run_method`, for all tensors of whole models by name; what the method prepares, it prepares of them."""
    return run_in(Manner(crew=InOrder(order)), method, params, models, base, seed=seed)


class InOrder:
    """One block after the other, in an order of its own."""

    def __init__(self, order: Callable[[int], Sequence[int]] = range) -> None:
        self._order = order

    def for_each(self, count: int, work: Callable[[int], None]) -> None:
        """Call `work` with every index below `count`."""
        for index in self._order(count):
            work(index)


class TakingTurns:
    """Two blocks at once, each in a thread; after every operation of torch the other thread goes on.

    So functions that write to memory which they share are in each other's way, each time.
    """

    def for_each(self, count: int, work: Callable[[int], None]) -> None:
        """Call `work` with every index below `count`."""
        turns, indices = _Turns(), iter(range(count))

        def run(mine: int) -> None:
            try:
                with turns.of(mine):
                    for index in indices:
                        work(index)
            finally:
                turns.leave()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, range(2)))


class _Turns:
    """Whose turn it is of two threads; one that waits for something else, such as a lock, is not waited for."""

    PATIENCE = 0.01

    def __init__(self) -> None:
        self._changed = Condition()
        self._turn = 0
        self._left = False

    def of(self, mine: int) -> TorchDispatchMode:
        """While it lasts, the operations of this thread take turns."""
        return _Turn(self, mine)

    def pass_on(self, mine: int) -> None:
        """Let the other thread go on, and wait for it."""
        with self._changed:
            self._turn = 1 - mine
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._left or self._turn == mine, self.PATIENCE)

    def leave(self) -> None:
        """Wait for nobody any more."""
        with self._changed:
            self._left = True
            self._changed.notify_all()


class _Turn(TorchDispatchMode):
    def __init__(self, turns: _Turns, mine: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._turns = turns
        self._mine = mine

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self._turns.pass_on(self._mine)
        return made


@dataclass(frozen=True)
class Place:
    """Where a tensor stands in a model: in which layer, and what it does there."""

    depth: Depth | None = None
    role: str = ""


@dataclass(frozen=True)
class Manner:
    """How a method is run: with which groups, blocks of which size, and by which workers.

    block: the elements of a block; None for as many as in a merge.
    whole: whether whole tensors can be had by methods that do not say so.
    places: where tensors stand in a model, by their names.
    """

    kind: type[StreamedGroup] = StreamedGroup
    crew: Workers = InOrder()  # noqa: RUF009 - it has no state
    block: int | None = None
    whole: bool = True
    places: Mapping[str, Place] = field(default_factory=dict)


PLAIN = Manner()
"""As in a merge with one worker."""


def run_in(
    manner: Manner,
    method: MergeMethod[Any],
    params: Params | Mapping[str, Params],
    models: Sequence[Mapping[str, Tensor]],
    base: Mapping[str, Tensor] | None = None,
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Run a method on whole models; `params` may be those of each tensor."""
    made = {name: _memory([one[name] for one in (*models, *([base] if base else []))]) for name in models[0]}
    names = [name for name, one in made.items() if one.whole.numel()]  # merges copy what is empty
    given = {name: params[name] if isinstance(params, Mapping) else params for name in names}
    of = {name: for_inputs(one, len(models)) for name, one in given.items()}
    kind = _sized(manner.kind, manner.block)

    def group(index: int, state: Json = None) -> StreamedGroup:
        name = names[index]
        place = manner.places.get(name, Place())
        everyone = [one[name] for one in (*models, *([base] if base else []))]
        return kind(
            name=name,
            shape=tuple(everyone[0].shape),
            n=len(models),
            inputs=_InMemory(everyone),
            sink=made[name],
            crew=manner.crew,
            scratch=Scratch(torch.device("cpu")),
            dtype=made[name].whole.dtype,
            delta=base is not None,
            apart=method.space == "apart",
            seed=seed,
            depth=place.depth,
            role=place.role,
            index=index,
            models=range(len(models)),
            state=state,
            needs_whole_tensors=method.needs_whole_tensors or manner.whole,
        )

    groups, all_params = Groups(len(names), group), [of[name] for name in names]
    state = method.prepare(groups, all_params) if method.prepare else None
    for index, name in enumerate(names):
        made_of = group(index, state)
        merge_group(method, made_of, of[name])
        if isinstance(made_of, Later):
            made_of.make_all()
    return {name: one.whole for name, one in made.items()}


class Later(DeferredGroup):
    """A group whose result is made stretch by stretch, once the method has returned."""

    def make_all(self) -> None:
        """Make the result from the end to the beginning; blocks at the seams are made twice."""
        stretch = 3 * self.block_size // 2
        for start in reversed(range(0, self.count, stretch)):
            stop = min(start + stretch, self.count)
            self.make(start, stop, True, lambda first, numbers: self._sink.put(0, first, numbers))


def _sized(kind: type[StreamedGroup], size: int | None) -> type[StreamedGroup]:
    """A kind of groups with blocks of `size` elements."""
    if size is None:
        return kind
    return type(kind.__name__, (kind,), {"block_size": property(lambda self: min(size, BLOCK))})


def _memory(everyone: Sequence[Tensor]) -> _Memory:
    """Room for what is made of tensors."""
    wide = any(one.dtype == torch.float64 for one in everyone)
    return _Memory(everyone[0].shape, torch.float64 if wide else torch.float32)


class _InMemory:
    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._flat = [one.reshape(-1) for one in tensors]

    def load(self, start: int, stop: int, rows: Sequence[Tensor], check: bool = True) -> None:
        for flat, row in zip(self._flat, rows, strict=True):
            row.copy_(flat[start:stop])

    def raise_faults(self) -> None:
        pass


class _Memory:
    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        self.whole = torch.full(shape, float("nan"), dtype=dtype)

    def put(self, output: int, start: int, numbers: Tensor) -> None:
        self.whole.view(-1)[start : start + numbers.numel()] = numbers
