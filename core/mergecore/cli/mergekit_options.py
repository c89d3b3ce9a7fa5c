"""Options of `mergekit-yaml` on our command line: those that do no harm are left out, with a word about each."""

from __future__ import annotations

import click

from mergecore.cli.screen import GroupedCommand
from mergecore.config.leftovers import OPTIONS

_WITH_VALUE = {
    "out_shard_size",
    "write_threads",
    "num_threads",
    "transformers_cache",
    "lora_merge_cache",
    "lora_merge_dtype",
}


class MergeCommand(GroupedCommand):
    """A command that understands what people type for mergekit."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        kept: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                kept += [word, *words]
                break
            name, _, value = word.partition("=")
            known = name.removeprefix("--no-") if name.startswith("--no-") else name.removeprefix("--")
            key = known.replace("-", "_")
            if not name.startswith("--") or key not in OPTIONS:
                kept.append(word)
                continue
            if key in _WITH_VALUE and not value:
                next(words, None)
            click.echo(f"mergecore: {name} has no effect: {OPTIONS[key]}", err=True)
        return super().parse_args(ctx, kept)
