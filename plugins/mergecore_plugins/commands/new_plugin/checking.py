"""Refuses answers of which no plugin could be made that works; read `check`."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from mergecore import (
    Architecture,
    ConfigError,
    Evaluator,
    Executor,
    MergeMethod,
    ModelSource,
    MoeFamily,
    OutputWriter,
    Policy,
    Recipe,
    Registry,
    Sampler,
    SideFile,
    TokenizerStrategy,
)
from mergecore.errors import Collector
from mergecore_plugins.commands.new_plugin.baking import TEMPLATE

VALUES: Mapping[str, type[Any]] = {
    "method": MergeMethod,
    "source": ModelSource,
    "architecture": Architecture,
    "tokenizer": TokenizerStrategy,
    "writer": OutputWriter,
    "executor": Executor,
    "recipe": Recipe,
    "command": click.Command,
    "side-file": SideFile,
    "moe-family": MoeFamily,
    "evaluator": Evaluator,
    "policy": Policy,
    "sampler": Sampler,
}
"""What the hook of each kind yields; a reporter yields nothing."""


def check(answers: Mapping[str, str], disabled: Sequence[str]) -> None:
    """Raise E115 for everything that is wrong with the answers.

    The template brings the rules that cookiecutter goes by; what plugins that are installed yield comes on top.
    """
    problems = Collector()
    rules = runpy.run_path(str(TEMPLATE / "hooks" / "pre_gen_project.py"))
    for fault in rules["faults"](answers) or _claims(answers, disabled, rules["plain"]):
        problems.add(ConfigError("E115", fault))
    problems.raise_any()


def _claims(
    answers: Mapping[str, str], disabled: Sequence[str], plain: Callable[[str], str]
) -> Iterator[str]:
    """A sentence about the plugin that has the name of the new one, if one has; that of the same project is none."""
    name, kind = answers["name"], VALUES.get(answers["kind"])
    if kind is None:
        return
    registry = Registry.discover(disabled)
    for value in registry.all(kind):
        plugin = registry.provider(kind, value.name)
        if value.name == name and plain(plugin.distribution) != answers["__project"]:
            yield f"name '{name}': {plugin.origin} has a {answers['kind']} called so"
