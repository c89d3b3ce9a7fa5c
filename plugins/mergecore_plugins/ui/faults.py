"""What is wrong with a config, as the page shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from mergecore import MergecoreError
from mergecore.errors import Place, Problems
from mergecore.types import Json


@dataclass(frozen=True)
class Fault:
    """An error of the command line, with its line in the editor, if it has one."""

    code: str
    message: str
    hint: str | None = None
    line: int | None = None
    column: int | None = None

    def as_json(self) -> dict[str, Json]:
        """Plain values."""
        return asdict(self)


def faults_of(errors: Iterable[MergecoreError], name: str) -> list[Fault]:
    """The errors as the page shows them; `name`: the file that the text in the editor is called."""
    return [_fault(one, name) for error in errors for one in _single(error)]


def _single(error: MergecoreError) -> Iterator[MergecoreError]:
    yield from error.errors if isinstance(error, Problems) else (error,)


def _fault(error: MergecoreError, name: str) -> Fault:
    place = error.place
    if isinstance(place, Place) and place.file == name:
        return Fault(error.code, error.what, error.hint, place.line, place.column)
    where = f"{place}: " if place and str(place) != name else ""
    return Fault(error.code, f"{where}{error.what}", error.hint)
