"""`mergecore tokenizer`: what two vocabularies have in common, and whether a chat template compiles.

The commands are here; `difference.py` and `template_check.py` are what they do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from mergecore import hookimpl
from mergecore.cli import common_options, show_text


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the group `tokenizer`."""
    yield tokenizer


@click.group()
def tokenizer() -> None:
    """Vocabularies and chat templates of models."""


@tokenizer.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--all", "everything", is_flag=True, help="List all tokens that differ, not only the first few."
)
@click.option("--offline", is_flag=True, help="Do not use the network; read hub models from the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@common_options
def diff(a: str, b: str, everything: bool, offline: bool, as_json: bool, disabled: Sequence[str]) -> None:
    """Compare the vocabularies of the models A and B.

    Counts the tokens they share, lists those that differ, and shows what each tokenizer strategy would do in
    a merge with A as the base.
    """
    from mergecore import Registry
    from mergecore_plugins.commands.tokenizer.difference import difference

    found = difference(a, b, Registry.discover(disabled), offline)
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        show_text(found.as_text(None if everything else 10))


@tokenizer.command("check-template")
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@common_options
def check_template(model: Path, disabled: Sequence[str]) -> None:
    """Check that the chat template of MODEL compiles.

    MODEL is a folder, or the file of a template.  The template is compiled in a process of its own, in the
    sandbox that transformers uses, with limits on time and memory.  It is not rendered.  Needs jinja2.
    """
    from mergecore_plugins.commands.tokenizer.template_check import check, template_in

    name, text = template_in(model)
    check(text, name)
    show_text(f"{name}: the chat template compiles ({len(text)} characters)")
