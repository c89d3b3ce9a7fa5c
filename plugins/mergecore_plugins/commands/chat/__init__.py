"""`mergecore chat`: ask models, or merges that are not written, one line at a time.

The command is here; `talking` opens the models and asks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from mergecore import hookimpl
from mergecore.cli import common_options


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    """Yield `chat`."""
    yield chat


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL|CONFIG…")
@click.option(
    "-p", "--prompt", "prompts", multiple=True, metavar="TEXT", help="Ask this, and end; repeatable."
)
@click.option(
    "--raw", is_flag=True, help="Continue the text: no chat template, no memory of the lines before."
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    metavar="N",
    default=200,
    show_default=True,
    help="Tokens of an answer at most.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    metavar="X",
    default=0.0,
    show_default=True,
    help="0: always the likeliest token.",
)
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="For temperatures above 0.")
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="cpu, cuda, auto, ...")
@click.option("--offline", is_flag=True, help="Do not use the network; read hub models from the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each answer, for programs.")
@common_options
def chat(models: Sequence[str], disabled: Sequence[str], prompts: Sequence[str], **given: Any) -> None:
    """Ask models, or merges that are not written.

    MODEL is named as in a config: a folder, a hub id, BASE+ADAPTER.  CONFIG is a file: it is merged in memory, and
    nothing is written.  With several, each line is answered by all of them.  Type a line, or /reset to begin anew;
    end with Ctrl-D.
    """
    from mergecore import Registry
    from mergecore_plugins.commands.chat.talking import Asked, talk

    if any(not one.strip() for one in prompts):
        raise click.UsageError("--prompt is empty")
    if words := [one for one in models if not prompts and _is_text(one)]:
        raise click.UsageError(
            f"'{words[0]}' is not a model, and nothing of that name is here; -p '{words[0]}' asks it"
        )
    registry = Registry.discover(disabled)
    talk(models, prompts, Asked(**given), registry)


def _is_text(word: str) -> bool:
    """Whether it is what to ask, and no model: it has blanks, or the form of no hub id, and is no path."""
    if Path(word).exists() or "+" in word:
        return False
    return len(word.split()) > 1 or not any(sign in word for sign in "/:.")
