"""Which weights of several adapters are the same, and what each adapter has for them; read `align`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mergecore.errors import Collector, InputError
from mergecore.types import TensorInfo
from mergecore_plugins.lora.combine_lora.reading import INSTEAD, Adapter, Factors, renamed
from mergecore_plugins.lora.lookup import Lookup


@dataclass(frozen=True)
class Aligned:
    """Adapters with one name for each weight."""

    adapters: tuple[Adapter, ...]
    changes: Mapping[str, Factors]
    """Of each weight what the first adapter has that changes it, by its name in the model."""
    biases: Mapping[str, TensorInfo]
    wholes: Mapping[str, TensorInfo]
    frozen: Mapping[str, tuple[int, ...]]
    """Weights of the base that lie in the files of these adapters."""
    notes: tuple[str, ...] = ()

    @property
    def partial(self) -> list[str]:
        """What was trained whole by some of the adapters only."""
        return [name for name in self.wholes if not all(name in one.wholes for one in self.adapters)]


def align(adapters: Sequence[Adapter]) -> Aligned:
    """The weights of all adapters by one name.

    Raises:
        InputError: E230 for weights of different shapes, E251 for what cannot stand in one adapter.
    """
    named, notes = _named(adapters)
    problems = Collector()
    changes: dict[str, Factors] = {}
    for one in named:
        for name, factors in one.changes.items():
            with problems.collecting():
                _check_same(name, changes.setdefault(name, factors), factors, _first(named, name), one.name)
    wholes = {name: tensor for one in reversed(named) for name, tensor in one.wholes.items()}
    biases = {name: tensor for one in reversed(named) for name, tensor in one.biases.items()}
    for error in _clashes(named, changes, biases):
        problems.add(error)
    problems.raise_any()
    frozen: dict[str, tuple[int, ...]] = {}
    for i, one in enumerate(named):
        for name in one.frozen:
            frozen[name] = (*frozen.get(name, ()), i)
    in_order = {name: wholes[name] for one in named for name in one.wholes}
    return Aligned(tuple(named), changes, dict(reversed(biases.items())), in_order, frozen, tuple(notes))


def _named(adapters: Sequence[Adapter]) -> tuple[list[Adapter], list[str]]:
    """The adapters with the names of the first that has a weight; versions of transformers call layers differently."""
    first, *others = adapters
    known = _tensors(first)
    named, notes = [first], []
    for one in others:
        lookup = Lookup(known, {})
        names = {
            name: found
            for name in _tensors(one)
            if name not in known and (found := lookup.find(name)) and found not in _tensors(one)
        }
        if names:
            was, now = next(iter(names.items()))
            notes.append(f"{one.name}: '{was}' is taken for '{now}'" + _more(len(names) - 1))
        named.append(renamed(one, names))
        known |= {name: tensor for name, tensor in _tensors(named[-1]).items() if name not in known}
    return named, notes


def _more(count: int) -> str:
    return f", and so are {count} more" if count else ""


def _tensors(adapter: Adapter) -> dict[str, TensorInfo]:
    return {**{name: one.a for name, one in adapter.changes.items()}, **adapter.wholes}


def _first(adapters: Sequence[Adapter], name: str) -> str:
    return next(one.name for one in adapters if name in one.changes)


def _check_same(name: str, one: Factors, other: Factors, first: str, second: str) -> None:
    if (one.kind, one.shape) != (other.kind, other.shape):
        what = f"shapes differ for '{name}': {first} {_said(one)}, {second} {_said(other)}"
        raise InputError("E230", what, tensor=name, hint="merge adapters of one base")


def _said(one: Factors) -> str:
    return f"{list(one.shape)} ({one.kind})"


def _clashes(
    adapters: Sequence[Adapter], changes: Mapping[str, Factors], biases: Mapping[str, TensorInfo]
) -> Iterator[InputError]:
    """What some adapters have in a way in which it cannot stand beside what others have."""
    known: dict[str, tuple[str, tuple[int, ...]]] = {}
    for one in adapters:
        for name, tensor in one.wholes.items():
            if name in changes:
                what = (
                    f"'{name}' was trained whole in {one.name}, and has factors in {_first(adapters, name)}"
                )
                yield InputError("E251", what, tensor=name, hint=INSTEAD)
            if name.endswith(".bias") and name.removesuffix(".bias") in biases:
                what = f"'{name}' was trained whole in {one.name}, and by 'lora_bias' in another adapter"
                yield InputError("E251", what, tensor=name, hint=INSTEAD)
            first, shape = known.setdefault(name, (one.name, tensor.shape))
            if shape != tensor.shape:
                shapes = f"{first} {list(shape)}, {one.name} {list(tensor.shape)}"
                what = f"shapes differ for '{name}': {shapes}"
                yield InputError("E230", what, tensor=name, hint="merge adapters of one base")
    unable = next((name for name, one in changes.items() if one.kind in ("embedding", "experts")), None)
    if biases and unable:
        what = f"'lora_bias' and factors of '{unable}' cannot stand in one adapter"
        yield InputError("E251", what, tensor=unable, hint=INSTEAD)
