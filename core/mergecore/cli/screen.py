"""How tables, errors and help look on a screen; in a pipe they are plain lines, one for each row and error.

`rich` is imported where a terminal is there, and nowhere else.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TextIO

import click

OPTION_GROUPS: Mapping[str, tuple[str, ...]] = {
    "What the result is": (
        "--seed",
        "--missing",
        "--unexpected",
        "--allow-crimes",
        "--allow-nonfinite",
        "--strict",
        "--shard-size",
    ),
    "How it is run": ("--threads", "--max-memory", "--device", "--executor", "--offline", "--no-plugin"),
    "Several documents in a config": ("--result", "--fuse", "--intermediate", "--remove-intermediate"),
    "After an interruption, or over an earlier output": ("--resume", "--restart", "--recheck", "--overwrite"),
    "What is printed": ("--report", "--json", "--verbose", "--quiet", "--error-format", "--debug", "--help"),
}
"""The headings of long helps, and the options below each; what is in none of them comes first."""


class GroupedCommand(click.Command):
    """A command whose help shows its options by what they are for."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        rows: dict[str, list[tuple[str, str]]] = {"Options": [], **{name: [] for name in OPTION_GROUPS}}
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        for option in sorted(options, key=_place_of):
            if record := option.get_help_record(ctx):
                rows[_group_of(option)].append(record)
        for name, records in rows.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def _group_of(option: click.Option) -> str:
    return next((name for name, known in OPTION_GROUPS.items() if set(option.opts) & set(known)), "Options")


def _place_of(option: click.Option) -> int:
    known = [name for names in OPTION_GROUPS.values() for name in names]
    return min((known.index(name) for name in option.opts if name in known), default=-1)


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody watches a stream that can do more than print lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns; on a terminal the last column is wrapped at words."""
    if not rows:
        return
    if is_terminal(sys.stdout):
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2, 0, 0))
        for column in range(len(rows[0])):
            grid.add_column(no_wrap=column < len(rows[0]) - 1, overflow="fold")
        for row in rows:
            grid.add_row(*(Text(cell) for cell in row))
        Console(file=sys.stdout, highlight=False).print(grid)
    else:
        click.echo(_aligned(rows))


def show_text(text: str) -> None:
    """Print text; on a terminal, lines are wrapped at words and go on where their text begins."""
    if is_terminal(sys.stdout):
        width = shutil.get_terminal_size().columns
        text = "\n".join(_wrapped(line, width) for line in text.split("\n"))
    click.echo(text)


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    label = _LABEL.match(line)
    indent = label.end() if label else len(line) - len(line.lstrip()) + 2
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * min(indent, width // 3),
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


_LABEL = re.compile(r" *\S+(?: \S+)?  +(?=\S)")
"""The label of a line such as `  comes with mergecore`, up to the text after it."""


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]
        ).rstrip()
        for row in rows
    )


def show_error(line: str) -> None:
    """Print an error to standard error: in one line, but on a terminal wrapped at words, where a bar may stand."""
    if is_terminal(sys.stderr):
        from rich.console import Console
        from rich.text import Text

        sys.stderr.write("\r\x1b[K")
        Console(file=sys.stderr, highlight=False).print(Text(line))
    else:
        click.echo(line, err=True)
