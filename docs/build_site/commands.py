"""Every command with its arguments and options, as click knows them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from build_site.tables import cell, code, table
from mergecore.cli.app import cli


def page() -> str:
    """A section for each command."""
    intro = "This page is made from the code, and so it is complete. [The command line](cli.md) explains it."
    return (
        "\n\n".join(["# Every command", intro, *sections(cli, click.Context(cli, info_name="mergecore"))])
        + "\n"
    )


def sections(command: click.Command, context: click.Context) -> Iterator[str]:
    """The command, then those inside it."""
    yield f"## {context.command_path}"
    yield f"```text\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```"
    yield help_of(command)
    rows = [
        [code(record[0]), cell(record[1])]
        for one in command.params
        if (record := one.get_help_record(context))
    ]
    if rows:
        yield table(["option", "meaning"], rows)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from sections(inner, click.Context(inner, info_name=name, parent=context))


def help_of(command: click.Command) -> str:
    """The help in Markdown; a paragraph that click does not wrap stays as it is."""
    paragraphs = []
    for one in (command.help or "").split("\n\n"):
        text = one.strip()
        paragraphs.append(f"```text\n{text[1:].strip(chr(10))}\n```" if text.startswith("\b") else cell(text))
    return "\n\n".join(paragraphs)
