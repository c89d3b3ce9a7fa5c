"""The documents of a file by their names, and which of them is the result; read `arranged`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from unicodedata import normalize

from mergecore.errors import Collector, ConfigError, Place, did_you_mean, some
from mergecore.files.yaml_document import Document


@dataclass(frozen=True)
class Arranged:
    """The documents of a file.

    named: those with a name, by which others may read them.  result: the one that is written as the output; None
    where it is the only one that no other reads, which is not known before all are read.
    """

    everyone: tuple[Document, ...]
    named: Mapping[str, Document]
    result: Document | None

    @property
    def readable(self) -> Mapping[str, Document]:
        """Those that others may read: none where there is one only, whose name is just a title."""
        return self.named if len(self.everyone) > 1 else {}


def arranged(documents: Sequence[Document], result: str = "") -> Arranged:
    """The documents of a file; `result`: the name of the one that is the output, where that was asked for.

    Raises:
        ConfigError: E118 for names that are missing, taken or none of the file; several as `Problems`.
    """
    problems = Collector()
    named: dict[str, Document] = {}
    unnamed: list[Document] = []
    for one in documents:
        name = name_of(one)
        if not isinstance(said := one.data.get("name"), str | None):
            what = f"'name' is {said!r}; text is expected"
            problems.add(ConfigError("E104", what, place=place_of(one), hint="write it in quotes"))
        elif name is None:
            unnamed.append(one)
        elif name in named:
            what = f"two documents are called '{name}'{_first(named[name])}"
            problems.add(_wrong(what, one, hint="give each a name of its own"))
        elif alike := next((other for other in named if _folded(other) == _folded(name)), None):
            what = f"two documents are called '{alike}' and '{name}', which some disks take for one name"
            problems.add(_wrong(what, one, hint="give them names that differ by more than capital letters"))
        else:
            named[name] = one
    for one in unnamed[1:]:
        what = f"two documents have no name{_first(unnamed[0])}"
        hint = "give a 'name:' to those that others read; the one without a name is the result"
        problems.add(_wrong(what, one, hint=hint))
    if result and result not in named:
        near = did_you_mean(result, list(named)) or f"; there are {some(list(named))}" if named else ""
        problems.add(ConfigError("E118", f"no document is called '{result}'{near}", place="--result"))
    chosen = named.get(result) if result else unnamed[0] if unnamed else None
    chosen = documents[0] if len(documents) == 1 and not result else chosen
    problems.raise_any()
    return Arranged(tuple(documents), named, chosen)


def _folded(name: str) -> str:
    """What names have in common that some disks do not tell apart."""
    return normalize("NFC", name).casefold()


def name_of(document: Document) -> str | None:
    """The name that a document gives itself; None where it has none that is text."""
    name = document.data.get("name")
    return name if isinstance(name, str) and name else None


_NAME = re.compile(r"\w([\w. -]{0,98}[\w-])?")


def check_name(name: str, document: Document) -> None:
    """Raise E118 when a document that others read has a name that cannot be that of a folder."""
    if not _NAME.fullmatch(name):
        what = f"'{name}' cannot be the name of a document that others read, which is also that of a folder"
        raise _wrong(what, document, hint="use letters, digits, '_', '-', '.' and spaces")


def place_of(document: Document) -> Place | str:
    """Where a document gives itself a name, or else begins; what messages call one that was never text."""
    return document.place(("name",)) or document.name


def _first(document: Document) -> str:
    place = place_of(document)
    return f"; the first is at line {place.line}" if isinstance(place, Place) else f"; the first is {place}"


def _wrong(what: str, document: Document, hint: str) -> ConfigError:
    return ConfigError("E118", what, place=place_of(document), hint=hint)
