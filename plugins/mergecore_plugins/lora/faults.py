"""What can be wrong between an adapter and its base, each as an error that says what to do; and what is to be said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mergecore.errors import InputError
from mergecore.files import DTYPES
from mergecore.types import TensorInfo
from mergecore_plugins.lora.config import MERGE_WITH_PEFT, NAME
from mergecore_plugins.lora.lookup import is_table
from mergecore_plugins.lora.names import AdapterTensor, Use

Shape = tuple[int, ...]
COPY = "copy the adapter again"


def lacks(place: str, module: str, use: Use) -> InputError:
    """A tensor of a module is not there without which the others mean nothing."""
    return InputError("E250", f"'{module}' has no {use.value}", place=place, hint=COPY)


def wrong_rank(module: str, a: TensorInfo, b: TensorInfo, rank: int, place: str) -> InputError:
    """The factors of a module are of another rank than the config says."""
    factors = f"A {list(a.shape)} and B {list(b.shape)}"
    what = f"'{module}': {factors} are not of rank {rank}, which {NAME} gives"
    return InputError("E250", what, place=place, hint="'r' and 'rank_pattern' must match the weights")


def groups_of(there: Shape, a: Shape, b: Shape) -> int:
    """The groups of a convolution whose factors have these shapes; 1 where there are none, or no such convolution."""
    if len(there) < 3 or len(a) != len(there) or len(b) != len(there) or not there[1] or not b[1]:
        return 1
    groups = a[1] // there[1]
    return groups if groups * there[1] == a[1] and groups * b[1] == a[0] else 1


def grouped(place: str, name: str, groups: int) -> InputError:
    """Factors that join what the groups of a convolution keep apart."""
    what = f"'{name}' is a convolution with {groups} groups, and the factors join them: no weight of it does the same"
    return InputError("E251", what, place=place, hint="load the adapter with PEFT beside the model")


def misfit(place: str, base: str | None, name: str, trained: Shape, there: Shape) -> InputError:
    """A tensor of the base has another shape than the one that was trained."""
    what = f"the adapter was trained on '{name}' {list(trained)}, the base has {list(there)}"
    hint = f"it belongs to another base{f': {base}' if base else ''}"
    if is_table(name) and trained[1:] == there[1:]:
        sizes = f"it was trained with {trained[0]} tokens, and the base has {there[0]}"
        hint = f"{sizes}; name the base, with the tokenizer, that it was trained on"
    return InputError("E252", what, place=place, hint=hint)


def unknown(place: str, base: str | None, names: Iterable[str]) -> InputError:
    """The base has no tensors of the names that the adapter changes."""
    absent = sorted(set(names))
    shown = ", ".join(f"'{name}'" for name in absent[:3])
    more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
    hint = f"it belongs to another base{f': {base}' if base else ''}"
    return InputError("E252", f"the base has no {shown}{more}", place=place, hint=hint)


def twice(place: str, parts: Sequence[AdapterTensor]) -> Iterator[InputError]:
    """Tensors that two names of the file stand for."""
    seen: dict[tuple[str, Use, int, str], str] = {}
    for part in parts:
        key = (part.module, part.use, part.depth, part.word)
        if key in seen:
            what = f"two tensors are the {part.use.value} of '{part.module}': '{seen[key]}', '{part.tensor.name}'"
            yield InputError("E250", what, place=place, hint="remove one of them from the file")
        seen.setdefault(key, part.tensor.name)


def not_numbers(place: str, parts: Sequence[AdapterTensor]) -> Iterator[InputError]:
    """Trained tensors that hold whole numbers."""
    for part in parts:
        if part.use not in (Use.WHOLE, Use.OTHER) and not DTYPES[part.tensor.dtype].floating:
            what = f"'{part.tensor.name}' is {part.tensor.dtype}, and what was trained is a floating-point number"
            yield InputError("E250", what, place=place, hint=COPY)


def not_read(place: str, part: AdapterTensor) -> InputError:
    """A tensor whose part in the adapter is not known."""
    what = f"'{part.tensor.name}' belongs to a kind of adapter that is not supported"
    return InputError("E251", what, place=place, hint=MERGE_WITH_PEFT)


def apart(names: Sequence[str]) -> str:
    """What to say of tables of tokens that the base stores once, and that get a tensor each."""
    what = f"the table that {' and '.join(names)} share is written once for each, as they were trained apart"
    return f"{what}; transformers reads them from version 5 on"
