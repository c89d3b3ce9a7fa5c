"""Everything a user can cause, as exceptions with a stable code; read the table first.

A message says where, what is wrong, what was expected, and what to do.  The class decides the exit code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = [
    "Collector",
    "ConfigError",
    "InputError",
    "MergeError",
    "MergecoreError",
    "OutputError",
    "Place",
    "PluginError",
    "PolicyError",
    "Problems",
    "counted",
    "did_you_mean",
    "printable",
    "some",
    "text_of",
]


@dataclass(frozen=True)
class Place:
    """A position in a text file, counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class MergecoreError(Exception):
    """An error the user can fix; printed in one line, without a traceback."""

    exit_code = 1

    def __init__(
        self,
        code: str,
        what: str,
        *,
        place: Place | str | None = None,
        tensor: str | None = None,
        plugin: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.code = code
        self.what = printable(what)
        self.place = place
        self.tensor = tensor
        self.plugin = plugin
        self.hint = printable(hint) if hint else None

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between processes with everything they say."""
        return _again, (type(self), self.code, self.what, dict(self.__dict__))

    def __str__(self) -> str:
        where = f"{printable(str(self.place))}: " if self.place else ""
        hint = f" Hint: {self.hint}" if self.hint else ""
        return f"{where}{self.what}{'' if self.what.endswith(('.', '?')) or not hint else '.'}{hint}"

    def as_json(self) -> dict[str, str | None]:
        """The error as plain values, one key per fact."""
        return {
            "code": self.code,
            "message": self.what,
            "path": str(self.place) if self.place else None,
            "tensor": self.tensor,
            "plugin": self.plugin,
            "hint": self.hint,
        }


def _again(kind: type[MergecoreError], code: str, what: str, facts: dict[str, object]) -> MergecoreError:
    error = kind.__new__(kind)
    MergecoreError.__init__(error, code, what)
    error.__dict__.update(facts)
    return error


class ConfigError(MergecoreError):
    """The config or the command line is wrong."""

    exit_code = 2


class InputError(MergecoreError):
    """A model, an adapter or a tokenizer is wrong."""

    exit_code = 3


class PolicyError(MergecoreError):
    """Refused; the message names the flag that would allow it, or says that none does."""

    exit_code = 4


class MergeError(MergecoreError):
    """The result would be wrong."""

    exit_code = 5


class OutputError(MergecoreError):
    """The output folder cannot be written."""

    exit_code = 6


class PluginError(MergecoreError):
    """A plugin cannot be used, or broke its contract."""

    exit_code = 7


class Problems(MergecoreError):
    """Several errors, reported together; the first one decides the exit code."""

    def __init__(self, errors: Sequence[MergecoreError]) -> None:
        super().__init__(errors[0].code, "; ".join(str(error) for error in errors))
        self.errors = tuple(errors)
        self.exit_code = errors[0].exit_code

    @property
    def first(self) -> MergecoreError:
        """The error that decides code and exit code."""
        return self.errors[0]


class Collector:
    """Gathers errors so that all of them are said at once."""

    def __init__(self) -> None:
        self.errors: list[MergecoreError] = []
        self._said: set[str] = set()

    def add(self, error: MergecoreError) -> None:
        """Keep `error`; a `Problems` is taken apart, and nothing is kept twice."""
        for one in error.errors if isinstance(error, Problems) else (error,):
            if str(one) not in self._said:
                self._said.add(str(one))
                self.errors.append(one)

    @contextmanager
    def collecting(self, only: Collection[str] = ()) -> Iterator[None]:
        """Keep what the body raises and go on after it; with `only`, drop what has none of these codes."""
        try:
            yield
        except MergecoreError as error:
            if not only or error.code in only:
                self.add(error)

    def raise_any(self) -> None:
        """Raise what was gathered, if anything was."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise Problems(self.errors)


@contextmanager
def placed(place: Place | str | None) -> Iterator[None]:
    """Give an error of the body that has no place the one where it was caused."""
    try:
        yield
    except MergecoreError as error:
        error.place = error.place or place
        raise


@contextmanager
def of_tensor(name: str) -> Iterator[None]:
    """Note with an error of the body which tensor it is about."""
    try:
        yield
    except MergecoreError as error:
        error.tensor = error.tensor or name
        raise


def class_of(code: str) -> type[MergecoreError]:
    """The error class, and with it the exit code, that belongs to `code`."""
    number = int(code[1:])
    if number in (106, 107) or 301 <= number <= 310:
        return PolicyError
    if number == 402 or number in (601, 602, 603, 604, 605, 607):
        return PluginError
    if number < 200 or number == 606:
        return ConfigError
    if number < 300 or 701 <= number <= 704:
        return InputError
    return MergeError if number < 500 else OutputError


def printable(text: str) -> str:
    """`text` with control characters escaped: names come from files and may hold terminal escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def some(names: Sequence[str], most: int = 8, *, mark: str = "'", joint: str = ", ") -> str:
    """The first few names as text, and how many there are beyond them; `mark` goes around each."""
    shown = joint.join(f"{mark}{name}{mark}" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def text_of(error: BaseException) -> str:
    """What an exception says; nothing where its own code fails to say it."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the text of somebody else's exception is somebody else's code
        return ""


def counted(number: int, thing: str) -> str:
    """How many of a thing there are, such as `1 model` and `2 models`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """` did you mean 'x'?` with a leading `;`, or nothing when no known word is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1, cutoff=0.6) or [
        name for name in known if name.replace("_", "") == word.replace("-", "").replace("_", "").lower()
    ]
    return f"; did you mean '{near[0]}'?" if near else ""
