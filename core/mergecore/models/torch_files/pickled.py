"""What the pickle inside a file of `torch.save` says about its tensors, without unpickling; read `read_pickle`.

The steps of the pickle are walked one by one, and only those that describe tensors in dictionaries are understood.
Nothing that a pickle names is imported or called, so nothing in it can run.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mergecore.errors import InputError, MergecoreError, PolicyError

MAX_PICKLE = 2**24
MAX_STEPS = 2_000_000


@dataclass(frozen=True)
class Storage:
    """Numbers in a member of the archive."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class View:
    """A tensor: elements of a storage from `start` on."""

    storage: Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pickle(data: bytes, place: str) -> dict[Any, Any]:
    """What the pickle holds by keys: tensors as a `View`, numbers, text, lists and mappings of them.

    Raises:
        MergecoreError: E304 for a pickle that asks for anything else, E202 for a damaged one, E308 for one beyond all
            measure.
    """
    found = _Machine(place).run(data)
    if not isinstance(found, dict):
        raise _damaged("the pickle holds no tensors by name", place)
    return found


def only_tensors(found: Mapping[Any, Any], place: str) -> dict[str, View]:
    """The tensors by name, of a pickle that must hold nothing else.

    Raises:
        InputError: E202 when it does.
    """
    for name, one in found.items():
        if not isinstance(name, str) or not isinstance(one, View):
            raise _damaged(f"the pickle holds more than tensors: {_short(name)}", place)
    return dict(found)


def _damaged(what: str, place: str) -> MergecoreError:
    return InputError("E202", what, place=place, hint="copy it again, or save it as safetensors")


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, (str, int, float)) else "a value of another kind"
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class _Global:
    """A name that the pickle imports; it stays a name."""

    module: str
    name: str


_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
_KNOWN = {
    _Global("torch._utils", "_rebuild_tensor_v2"),
    _Global("torch._utils", "_rebuild_parameter"),
    _Global("collections", "OrderedDict"),
    *(_Global("torch", name) for name in _STORAGES),
}
_MARK = object()


class _Machine:
    """A stack and a memo, as the pickle thinks of them."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        try:
            return self._run(data)
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise _damaged("the pickle is damaged", self._place) from error

    def _run(self, data: bytes) -> Any:
        for number, (step, value, _) in enumerate(pickletools.genops(data)):
            if number > MAX_STEPS:
                what = f"the pickle has more than {MAX_STEPS} steps"
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
        elif act := _ACTS.get(name):
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
        found = _Global(module, name)
        if found not in _KNOWN:
            what = f"the pickle asks for {_short(f'{module}.{name}')}, which does not belong to a tensor"
            raise PolicyError("E304", what, place=self._place, hint=_CONVERT)
        self._stack.append(found)

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
            if not isinstance(key, (str, int)):
                raise TypeError
            target[key] = value

    def _append(self, _: object) -> None:
        value = self._stack.pop()
        self._stack[-1].append(value)

    def _append_all(self, _: object) -> None:
        items = self._marked()
        self._stack[-1].extend(items)

    def _stored(self, _: object) -> None:
        kind, storage, key, _location, count = self._stack.pop()
        if kind != "storage" or not isinstance(storage, _Global) or storage.name not in _STORAGES:
            raise TypeError
        if not isinstance(key, str) or not _is_size(count):
            raise TypeError
        self._stack.append(Storage(_STORAGES[storage.name], key, count))

    def _call(self, _: object) -> None:
        given, called = self._stack.pop(), self._stack.pop()
        if not isinstance(called, _Global) or not isinstance(given, tuple):
            raise TypeError
        if called.name == "OrderedDict" and not given:
            self._stack.append({})
        elif called.name == "_rebuild_parameter" and isinstance(given[0], View):
            self._stack.append(given[0])
        elif called.name == "_rebuild_tensor_v2":
            self._stack.append(_view(*given[:4]))
        else:
            what = f"the pickle makes more than tensors (of {called.module}.{called.name})"
            raise PolicyError("E304", what, place=self._place, hint=_CONVERT)

    def _build(self, _: object) -> None:
        """Attributes of a dictionary, such as `_metadata`, do not matter."""
        self._stack.pop()
        if not isinstance(self._stack[-1], dict):
            what = "the pickle sets the state of an object that is not a dictionary"
            raise PolicyError("E304", what, place=self._place, hint=_CONVERT)


def _view(storage: object, start: object, shape: object, strides: object) -> View:
    if not isinstance(storage, Storage) or not _is_size(start):
        raise TypeError
    for sizes in (shape, strides):
        if not isinstance(sizes, tuple) or len(sizes) > 64 or not all(map(_is_size, sizes)):
            raise TypeError
    return View(storage, start, shape, strides)  # type: ignore[arg-type]


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


_CONVERT = "no option allows it; whoever made the file can save it as safetensors"
_NOTHING = ("PROTO", "FRAME")
_VALUES = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "NONE", "NEWTRUE", "NEWFALSE"),
)
_MADE: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
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
    "BUILD": _Machine._build,
}
