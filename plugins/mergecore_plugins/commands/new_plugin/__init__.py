"""`mergecore new-plugin`: writes the project of a plugin that works, to start one's own from.

The command is here.  `baking.py` fills the template, which is the folder `cookiecutter-plugin` of the project and lies
here as `template` where mergecore is installed from a wheel.  `checking.py` refuses answers that would not work.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from mergecore import ConfigError, hookimpl
from mergecore.cli import common_options
from mergecore_plugins.commands.new_plugin.baking import DEFAULTS, PROMPTS, TITLES

KINDS, LICENCES = list(DEFAULTS["kind"]), list(DEFAULTS["licence"])


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield the command `new-plugin`."""
    yield new_plugin


@click.command("new-plugin", epilog="\b\nKinds:\n" + "\n".join(f"  {title}" for title in TITLES))
@click.argument("name", required=False)
@click.option("--kind", type=click.Choice(KINDS), metavar="KIND", help="What it adds; by default a method.")
@click.option("--author", metavar="NAME", help="Who writes it; by default whom git knows.")
@click.option("--licence", "--license", type=click.Choice(LICENCES), help=f"By default {LICENCES[0]}.")
@click.option(
    "--output",
    default=".",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder to write the project into; by default the current one.",
)
@common_options
def new_plugin(name: str | None, output: Path, disabled: Sequence[str], **given: str | None) -> None:
    """Write the project of a new plugin.

    Makes the folder mergecore-NAME, which works as it is: a module of some 20 lines, its tests, and what it
    takes to publish it. Without NAME, asks for it, and for what the options do not say.
    """
    from mergecore_plugins.commands.new_plugin.baking import answered, baked, write
    from mergecore_plugins.commands.new_plugin.checking import check

    answers = answered(_asked(given) if name is None else {"name": name, "author": _author(), **_said(given)})
    check(answers, disabled)
    folder = output / answers["__project"]
    write(baked(answers), folder)
    click.echo(f"wrote {folder}: {_with_article(answers['__title'])} that works. What to do next:\n")
    click.echo(f"  cd {shlex.quote(str(folder))}\n  pip install --editable '.[dev]'\n  pytest")
    click.echo(f"\nThe plugin is in {answers['__module']}.py; README.md shows how it is used.")


def _asked(given: Mapping[str, str | None]) -> dict[str, str]:
    """The answers to what the options do not say."""
    if not sys.stdin.isatty():
        raise ConfigError("E115", "NAME is missing", hint="for example `mergecore new-plugin my-method`")
    answers = _said(given)
    if "kind" not in answers:
        click.echo("\n".join(["What a plugin can add:", *(f"  {title}" for title in TITLES), ""]))
        answers["kind"] = click.prompt(
            PROMPTS["kind"], default=KINDS[0], type=click.Choice(KINDS), show_choices=False
        )
    answers["name"] = click.prompt(PROMPTS["name"], default=f"my-{answers['kind']}")
    if "author" not in answers:
        answers["author"] = click.prompt(PROMPTS["author"], default=_author())
    if "licence" not in answers:
        answers["licence"] = click.prompt(
            PROMPTS["licence"], default=LICENCES[0], type=click.Choice(LICENCES)
        )
    return answers


def _said(given: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in given.items() if value is not None}


def _author() -> str:
    """Whom git knows, else what the template proposes."""
    import subprocess

    try:
        done = subprocess.run(["git", "config", "user.name"], capture_output=True, check=False)  # noqa: S607
    except OSError:  # there is no git
        return str(DEFAULTS["author"])
    try:
        name = done.stdout.decode()
    except UnicodeDecodeError:  # git keeps the bytes that it was given
        name = done.stdout.decode("latin-1")
    return name.strip() or str(DEFAULTS["author"])


def _with_article(title: str) -> str:
    return title[0].lower() + title[1:]
