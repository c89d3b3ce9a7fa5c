"""Pickles walked step by step: what they describe becomes plain values, and nothing in them can run; read `walked`.

Nothing that a pickle names is imported or called.  A name that is not among those allowed is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mergecore.errors import InputError, MergecoreError, PolicyError

MAX_STEPS = 2_000_000

Make: TypeAlias = Callable[[tuple[Any, ...]], Any]
"""What stands for a call, made of what the pickle gives; it raises TypeError for what makes no sense."""


@dataclass(eq=False)
class Record:
    """An object that is described and not made: the name of its class, what it is made of, its state."""

    name: str
    given: tuple[Any, ...] = ()
    state: Any = None

    def get(self, key: str) -> Any:
        """An attribute that its state gives; None where it gives none."""
        return self.state.get(key) if isinstance(self.state, dict) else None


@dataclass(frozen=True)
class Global:
    """A name that the pickle imports; it stays a name."""

    name: str
    """With its module, such as `torch.float32`."""


@dataclass(frozen=True)
class Allowed:
    """What a pickle may name."""

    calls: Mapping[str, Make] = field(default_factory=dict)
    """Functions and classes by name, and what stands for their call; None for one that has no such."""
    names: frozenset[str] = frozenset()
    """Names that stand for themselves."""
    records: frozenset[str] = frozenset()
    """Classes whose objects become a `Record`."""
    persistent: Make | None = None
    """What stands for an object that is stored elsewhere."""
    steps: int | None = None
    """How many steps it may have; `MAX_STEPS` where nothing is said."""


def walked(data: bytes, place: str, allowed: Allowed) -> Any:
    """What the pickle describes.

    Raises:
        MergecoreError: E304 for a pickle that asks for anything else, E202 for a damaged one, E308 for one beyond all
            measure.
    """
    return _Machine(place, allowed).run(data)


def damaged(what: str, place: str) -> MergecoreError:
    """The error for a pickle that does not hold what it should."""
    return InputError("E202", what, place=place, hint="copy it again, or save it as safetensors")


def short(value: object) -> str:
    """A value in a few words, for messages."""
    text = repr(value) if isinstance(value, (str, int, float)) else "a value of another kind"
    return text if len(text) <= 60 else f"{text[:57]}..."


_MARK = object()


class _Machine:
    """A stack and a memo, as the pickle thinks of them."""

    def __init__(self, place: str, allowed: Allowed) -> None:
        self._place = place
        self._allowed = allowed
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        try:
            return self._run(data)
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise damaged("the pickle is damaged", self._place) from error

    def _run(self, data: bytes) -> Any:
        most = self._allowed.steps or MAX_STEPS
        for number, (step, value, _) in enumerate(pickletools.genops(data)):
            if number > most:
                what = f"the pickle has more than {most} steps"
                raise PolicyError("E308", what, place=self._place, hint="save it as safetensors")
            if step.name == "STOP":
                (found,) = self._stack
                return found
            self._step(step.name, value)
        raise ValueError

    def _step(self, name: str, value: Any) -> None:
        if name in _NOTHING:
            return
        if name in _VALUES:
            self._stack.append(value)
        elif name in _MADE:
            self._stack.append(_MADE[name]())
        elif name in _TUPLES:
            self._tuple(_TUPLES[name])
        elif (act := _ACTS.get(name)) and (name != "NEWOBJ" or self._allowed.records):
            act(self, value)
        else:
            what = f"the pickle asks for more than tensors (step {name})"
            raise PolicyError("E304", what, place=self._place, hint=_CONVERT)

    def _tuple(self, count: int) -> None:
        items = tuple(self._stack[-count:])
        if len(items) < count:
            raise IndexError
        self._stack[-count:] = [items]

    # ---- one step each ----

    def _get(self, value: int) -> None:
        self._stack.append(self._memo[value])

    def _put(self, value: int) -> None:
        self._memo[value] = self._stack[-1]

    def _memoize(self, _: object) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _global(self, value: str) -> None:
        module, _, name = value.partition(" ")
        self._import(module, name)

    def _stack_global(self, _: object) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError
        self._import(module, name)

    def _import(self, module: str, name: str) -> None:
        found = f"{module}.{name}"
        known = self._allowed
        if found not in known.calls and found not in known.names and found not in known.records:
            what = f"the pickle asks for {short(found)}, which does not belong to a tensor"
            raise PolicyError("E304", what, place=self._place, hint=_CONVERT)
        self._stack.append(Global(found))

    def _marked(self) -> list[Any]:
        """What lies above the last mark."""
        index = len(self._stack) - 1
        while self._stack[index] is not _MARK:
            index -= 1
            if index < 0:
                raise IndexError
        items = self._stack[index + 1 :]
        del self._stack[index:]
        return items

    def _mark(self, _: object) -> None:
        self._stack.append(_MARK)

    def _tuple_of_all(self, _: object) -> None:
        self._stack.append(tuple(self._marked()))

    def _set_items(self, _: object) -> None:
        items = self._marked()
        if len(items) % 2:
            raise ValueError
        self._fill(items)

    def _set_item(self, _: object) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._fill([key, value])

    def _fill(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int, Record)):
                raise TypeError
            target[key] = value

    def _append(self, _: object) -> None:
        value = self._stack.pop()
        self._stack[-1].append(value)

    def _append_all(self, _: object) -> None:
        items = self._marked()
        self._stack[-1].extend(items)

    def _stored(self, _: object) -> None:
        if self._allowed.persistent is None:
            raise TypeError
        self._stack.append(self._allowed.persistent(self._stack.pop()))

    def _called(self) -> tuple[str, tuple[Any, ...]]:
        given, called = self._stack.pop(), self._stack.pop()
        if not isinstance(called, Global) or not isinstance(given, tuple):
            raise TypeError
        return called.name, given

    def _call(self, _: object) -> None:
        name, given = self._called()
        made = self._allowed.calls[name](given) if name in self._allowed.calls else None
        if made is None:
            what = f"the pickle makes more than tensors (of {name})"
            raise PolicyError("E304", what, place=self._place, hint=_CONVERT)
        self._stack.append(made)

    def _new(self, _: object) -> None:
        name, given = self._called()
        if name not in self._allowed.records:
            raise TypeError
        self._stack.append(Record(name, given))

    def _build(self, _: object) -> None:
        """Attributes of a dictionary, such as `_metadata`, do not matter."""
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif not isinstance(target, dict):
            what = "the pickle sets the state of an object that is not a dictionary"
            raise PolicyError("E304", what, place=self._place, hint=_CONVERT)


_CONVERT = "no option allows it; whoever made the file can save it as safetensors"
_NOTHING = ("PROTO", "FRAME")
_VALUES = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "NONE"),
)
_MADE: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTS: dict[str, Callable[[_Machine, Any], None]] = {
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "MARK": _Machine._mark,
    "TUPLE": _Machine._tuple_of_all,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._append_all,
    "BINPERSID": _Machine._stored,
    "REDUCE": _Machine._call,
    "NEWOBJ": _Machine._new,
    "BUILD": _Machine._build,
}
