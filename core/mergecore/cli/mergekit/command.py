"""Commands that understand what people type for mergekit: options that do no harm, and those with another name here.

One that is written elsewhere here, or that belongs to another command, is an error that says where it goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import click

from mergecore.cli.screen import GroupedCommand
from mergecore.errors import Collector, ConfigError

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class ForeignOptions:
    """Options of other programs that do what a command does.

    They are called without dashes, with `_` for each dash inside, and without `no_` unless that makes a difference.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    """What to write instead; `{value}` stands for the value of the option, which has one only then."""
    harmless: Mapping[str, str] = field(default_factory=dict)
    """Why an option has no effect."""
    with_value: Collection[str] = ()
    """Those of `harmless` that have a value."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """The hint of the error about an option; `{value}` stands for its value."""
    values: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    """How the values of options in `renamed` are written here."""
    program: str = ""
    """The command of the other program that this one stands for."""
    does: str = ""
    """What that does, such as "makes an adapter", for commands that do not have its options."""
    own: Collection[str] = ()
    """The options that this command of the other program has, and not all of them."""

    def extended(
        self,
        *,
        renamed: Mapping[str, str] = NOTHING,
        harmless: Mapping[str, str] = NOTHING,
        with_value: Collection[str] = (),
        elsewhere: Mapping[str, str] = NOTHING,
        values: Mapping[str, Callable[[str], str]] = NOTHING,
        program: str = "",
        does: str = "",
        same: Collection[str] = (),
    ) -> ForeignOptions:
        """These, and further ones, which come first.

        same: further options that are called here as they are there.
        """
        return ForeignOptions(
            {**self.renamed, **renamed},
            {**self.harmless, **harmless},
            {*self.with_value, *with_value},
            {**self.elsewhere, **elsewhere},
            {**self.values, **values},
            program,
            does,
            {*renamed, *harmless, *elsewhere, *same},
        )


class ForeignCommand(GroupedCommand):
    """A command that understands the options of other programs."""

    foreign = ForeignOptions()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {option for parameter in self.get_params(ctx) for option in parameter.opts}
        kept: list[str] = []
        problems = Collector()
        words = iter(args)
        for word in words:
            if word == "--":
                kept += [word, *words]
                break
            name, value = _parted(word, own)
            key, no = _key_of(name)
            if name in own or not key:
                kept.append(word)
            elif here := self._renamed(f"no_{key}" if no else key, own):
                kept += self._translated(name, key, value, words, here)
            elif (told := self._harmless(key, no)) is not None:
                if key in self.foreign.with_value and not value:
                    next(words, None)
                click.echo(f"mergecore: {name} has no effect: {told}", err=True)
            elif key in self.foreign.elsewhere:
                what = f"{self.name} has no option {name}"
                shown = value or _next_value(args, word)
                hint = self.foreign.elsewhere[key].replace("{value}", shown)
                problems.add(ConfigError("E115", what, hint=hint))
            elif hint := _of_another(key, ctx):
                problems.add(ConfigError("E115", f"{self.name} has no option {name}", hint=hint))
            else:
                kept.append(word)
        problems.raise_any()
        return super().parse_args(ctx, kept)

    def _renamed(self, key: str, own: Collection[str]) -> str | None:
        """What to write for an option, if the command has that."""
        here = self.foreign.renamed.get(key)
        return here if here and here.split()[0] in own else None

    def _harmless(self, key: str, no: bool) -> str | None:
        known = self.foreign.harmless
        return (known.get(f"no_{key}") if no else None) or known.get(key)

    def _translated(self, name: str, key: str, value: str, words: Iterator[str], here: str) -> list[str]:
        """An option as it is written here, with its value."""
        if "{value}" not in here:
            click.echo(f"mergecore: {name} is {here} here", err=True)
            return here.split()
        value = value or next(words, "")
        value = self.foreign.values.get(key, str)(value)
        click.echo(f"mergecore: {name} is {here.replace('{value}', value)} here", err=True)
        return [word.replace("{value}", value) for word in here.split()]


def _of_another(key: str, ctx: click.Context) -> str:
    """The hint about an option that another command understands; empty where none does."""
    root = ctx.find_root()
    commands = root.command if isinstance(root.command, click.Group) else click.Group()
    for name in commands.list_commands(root):
        other = commands.get_command(root, name)
        if isinstance(other, ForeignCommand) and key in other.foreign.own and other.foreign.program:
            program, does = other.foreign.program, other.foreign.does
            return f"it is an option of {program}, which {does}, as `mergecore {name}` does"
    return ""


def _parted(word: str, own: Collection[str]) -> tuple[str, str]:
    """An option and the value written behind it: after `=`, or right after its single letter."""
    name, _, value = word.partition("=")
    if re.fullmatch(r"-[A-Za-z][^A-Za-z=-].*", word) and word[:2] not in own:
        return word[:2], word[2:]
    return name, value


def _key_of(name: str) -> tuple[str, bool]:
    """What an option is called without its dashes, and whether it begins with `no`; nothing for other words."""
    if not re.fullmatch(r"--[a-z][\w-]*|-[A-Za-z]{1,3}", name):
        return "", False
    plain = name.lstrip("-").replace("-", "_")
    return (plain.removeprefix("no_"), True) if plain.startswith("no_") else (plain, False)


def _next_value(args: list[str], word: str) -> str:
    """The word after an option, if it may be its value."""
    following = args[args.index(word) + 1 :][:1]
    return following[0] if following and not following[0].startswith("-") else "…"
