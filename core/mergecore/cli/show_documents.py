"""What `mergecore plan` prints of several documents: which reads which, and what becomes of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mergecore.errors import printable
from mergecore.files.sizes import size_text
from mergecore.types import Json, Plan
from mergecore.types.plans import DocumentFacts

RESULT = "the result"
_WORDS = {"computed": "computed while it is read", "reused": "made already", "written": "written"}
_WORDS = {"computed": "computed while it is read", "reused": "made already", "written": "written"}


def documents_as_text(plan: Plan, there: Collection[str]) -> Iterator[str]:
    """Two lines for each document; `there`: those that are made already."""
    width = max(len(one.name) for one in plan.documents)
    width = max(width, len(RESULT))
    for one in plan.documents:
        reads = f", reads {', '.join(one.reads)}" if one.reads else ""
        readers = ", ".join(name or RESULT for name in _readers(plan, one))
        yield printable(
            f"  {(one.name or RESULT).ljust(width)}  {one.made_by}, {size_text(one.nbytes)}{reads}"
        )
        if one.name:
            yield printable(
                f"  {'':{width}}  read by {readers}; {_WORDS[_what_becomes(one, there)]}: {_why(one, there)}"
            )


def documents_as_json(plan: Plan, there: Collection[str]) -> list[Json]:
    """The same as plain values."""
    return [
        {
            "name": one.name or None,
            "title": one.title,
            "made_by": one.made_by,
            "reads": [*one.reads],
            "read_by": [name or None for name in _readers(plan, one)],
            "bytes": one.nbytes,
            "how": _what_becomes(one, there) if one.name else "result",
            "why": _why(one, there) if one.name else "",
        }
        for one in plan.documents
    ]


def _readers(plan: Plan, read: DocumentFacts) -> list[str]:
    return [one.name for one in plan.documents if read.name in one.reads]


def _what_becomes(one: DocumentFacts, there: Collection[str]) -> str:
    """One word for what becomes of an intermediate result."""
    return "computed" if one.fused else "reused" if one.name in there else "written"


def _why(one: DocumentFacts, there: Collection[str]) -> str:
    return "it is there, and nothing has changed" if one.name in there else one.why
