"""Tables in Markdown, and the pages of the documentation that hold them.

A page has what a benchmark wrote between two marks; `with_tables` replaces it.
"""

from collections.abc import Iterable, Sequence

END = "<!-- The tables end here. -->"


def begin(command: str) -> str:
    """The mark above tables that `command` writes."""
    return f"<!-- The tables below are written by `{command}`. -->"


def with_tables(page: str, command: str, tables: str) -> str:
    """The page with what stands between its two marks replaced by what `command` wrote."""
    first = begin(command)
    before, _, rest = page.partition(first)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the page lacks the line {first!r} or, after it, {END!r}")
    return f"{before}{first}\n\n{tables}\n\n{END}{after}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    ruled = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in row) + " |" for row in ruled)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
