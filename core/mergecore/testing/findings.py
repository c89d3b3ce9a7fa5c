"""What a check consists of: properties with a name each, and what is found about them; read `Property` and `hold`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from mergecore.errors import MergecoreError, did_you_mean

C = TypeVar("C")
Outcome: TypeAlias = Literal["passed", "failed", "skipped"]


class NotCheckedError(Exception):
    """Why a property cannot be checked: it does not apply, or something is not given."""


@dataclass(frozen=True)
class Property(Generic[C]):
    """Something that every plugin of a kind keeps.

    name: one word, by which it can be left out.  says: what holds, for reports.
    check: raises an `AssertionError` that says what does not hold, for which case and what to do.
    """

    name: str
    says: str
    check: Callable[[C], None]


@dataclass(frozen=True)
class Finding:
    """What a check has found about one property."""

    subject: str
    property: str
    says: str
    outcome: Outcome
    text: str = ""
    """What does not hold, or why it was not checked."""


def hold(subject: str, properties: Sequence[Property[C]], case: C, without: Collection[str] = ()) -> None:
    """Raise for the first property that does not hold.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    for one in _chosen(properties, without):
        finding = _found(subject, one, case)
        if finding.outcome == "failed":
            raise AssertionError(f"{subject}: {finding.text}")


def survey(
    subject: str, properties: Sequence[Property[C]], case: C, without: Collection[str] = ()
) -> Iterator[Finding]:
    """What is found about every property."""
    left_out = set(without)
    for one in _chosen(properties, ()):
        if one.name in left_out:
            yield Finding(subject, one.name, one.says, "skipped", "left out")
        else:
            yield _found(subject, one, case)


def _found(subject: str, one: Property[C], case: C) -> Finding:
    try:
        one.check(case)
    except NotCheckedError as reason:
        return Finding(subject, one.name, one.says, "skipped", str(reason))
    except AssertionError as error:
        return Finding(subject, one.name, one.says, "failed", str(error))
    except Exception as error:  # noqa: BLE001 - a plugin is somebody else's code
        return Finding(subject, one.name, one.says, "failed", f"it raises {told(error)}")
    return Finding(subject, one.name, one.says, "passed")


def told(error: BaseException) -> str:
    """An exception in words, in one line."""
    kind = f"{type(error).__name__}: "
    code = f"{error.code}: " if isinstance(error, MergecoreError) else ""
    return " ".join(f"{kind}{code}{error}".split())


def demand(holds: object, text: str) -> None:
    """Raise an `AssertionError` with that text unless something holds."""
    if not holds:
        raise AssertionError(text)


def demand_sizes(kept: object, what: str) -> None:
    """Demand that something is two numbers of bytes."""
    sizes = isinstance(kept, tuple) and len(kept) == 2 and all(isinstance(n, int) and n >= 0 for n in kept)
    demand(sizes, f"{what} is {kept!r}; two numbers of bytes are expected: once, and for each worker")


def _chosen(properties: Sequence[Property[C]], without: Collection[str]) -> Iterator[Property[C]]:
    known = [one.name for one in properties]
    for word in without:
        if word not in known:
            raise ValueError(
                f"there is no property '{word}' to leave out{did_you_mean(word, known)}; "
                f"there are {', '.join(known)}"
            )
    return (one for one in properties if one.name not in without)
