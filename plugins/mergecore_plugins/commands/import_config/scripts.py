"""Command lines of mergekit that say what a config says, as scripts have them: mergekit-legacy, -layershuffle.

Read `from_command`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mergecore import MergeMethod
from mergecore.errors import ConfigError, counted, some

if TYPE_CHECKING:
    from mergecore import Registry
    from mergecore.types import Json

_COMMAND = re.compile(r"(?:^|[/\s])(?P<name>(?:mergekit|mergekitty)-[a-z-]+|bakllama)(?=\s)")
_VALUED = (
    *("--transformers-cache", "--lora-merge-cache", "--lora-merge-dtype", "--device", "--out-shard-size"),
    *("--num-threads", "-j", "--write-threads", "--compute-device", "--storage-device"),
)
"""The options of all commands that have a value."""
_OURS = {
    "yaml": "mergecore merge CONFIG OUT",
    "pytorch": "mergecore merge CONFIG OUT",
    "moe": "mergecore merge CONFIG OUT",
    "multi": "mergecore merge CONFIG OUT",
    "mega": "mergecore merge CONFIG OUT",
    "extract-lora": "mergecore extract-lora FINETUNED BASE OUT",
    "merge-lora": "mergecore merge-lora BASE ADAPTER OUT",
    "tokensurgeon": "mergecore transplant MODEL DONOR OUT",
    "bakllama": "mergecore import-config CONFIG",
}
"""What does the same as a command whose config or models are read as they are."""


def commands_in(text: str) -> list[list[str]]:
    """The command lines of mergekit in a script, word by word; none in a text that is a config."""
    joined = re.sub(r"\\\r?\n", " ", text)
    found = []
    for line in joined.splitlines():
        bare = line.strip()
        match = _COMMAND.search(f"{bare} ")
        if match and not bare.startswith("#") and not re.match(r"-?\s*[\w.-]+\s*:", bare):
            found.append(_words(bare[match.start("name") :]))
    return found


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


def from_command(
    commands: Sequence[Sequence[str]], name: str, registry: Registry
) -> tuple[dict[str, Json], list[str]]:
    """The config that a command line of mergekit-legacy or mergekit-layershuffle stands for, and what to say of it.

    Raises:
        ConfigError: E104 for other commands, and for what cannot be said here.
    """
    if len(commands) > 1:
        which = some([words[0] for words in commands], 3, mark="")
        what = f"there are {len(commands)} command lines in it: {which}"
        raise ConfigError("E104", what, place=name, hint="put each into a file of its own")
    command, *words = commands[0]
    kind = command.removeprefix("mergekitty-").removeprefix("mergekit-")
    if kind == "legacy":
        return _from_legacy(words, name, registry)
    if kind == "layershuffle":
        return _from_layershuffle(words, name)
    if kind in _OURS:
        what = f"{command} has its config or its models in files, which need no script"
        raise ConfigError("E104", what, place=name, hint=f"`{_OURS[kind]}` does the same")
    if kind == "evolve":
        what = "mergekit-evolve searches for parameters, and has its config in a file"
        hint = "`mergecore import-config FILE` prints that as one for `mergecore search`"
        raise ConfigError("E104", what, place=name, hint=hint)
    raise ConfigError("E104", f"{command} is not a command of mergekit that mergecore knows", place=name)


def _parsed(
    command: str, words: Sequence[str], place: str, *options: click.Parameter
) -> tuple[dict[str, Any], list[str]]:
    """The values of the options of a command, and the words that are none of them; a seed is kept, others are not."""
    known = [*options, click.Option(["--random-seed"], type=int)]
    ignored = [click.Option([one], expose_value=False) for one in _VALUED]
    parser = click.Command(
        command,
        params=[*known, *ignored],
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        add_help_option=False,
    )
    try:
        context = parser.make_context(command, list(words))
    except click.ClickException as error:
        raise ConfigError("E104", f"{command}: {error.format_message().rstrip('.')}", place=place) from None
    return context.params, [word for word in context.args if word.startswith("-")]


# ---- mergekit-legacy ---------------------------------------------------------------------------------------


def _from_legacy(words: Sequence[str], name: str, registry: Registry) -> tuple[dict[str, Json], list[str]]:
    given, others = _parsed(
        "mergekit-legacy",
        words,
        name,
        click.Option(["--merge"], multiple=True),
        click.Option(["--density"], multiple=True, type=float),
        click.Option(["--weight"], multiple=True, type=float),
        click.Option(["--method"], default="ties"),
        click.Option(["--base-model"]),
        click.Option(["--normalize/--no-normalize"], default=True),
        click.Option(["--int8-mask/--no-int8-mask"]),
        click.Option(["--bf16/--no-bf16"]),
        click.Option(["--naive-count/--no-naive-count"]),
        click.Option(["--print-yaml/--no-print-yaml"]),
    )
    method: MergeMethod[Any] = registry.get(MergeMethod, given["method"])
    if given["naive_count"]:
        what = (
            "--naive-count cannot be kept: signs are elected by the sum of the entries, not by their number"
        )
        raise ConfigError("E104", what, place=name, hint="remove it, if that is what you want")
    names = list(given["merge"])
    if not names:
        raise ConfigError("E104", "mergekit-legacy: there is no --merge", place=name)
    base = given["base_model"]
    if base and base not in names:
        names.append(base)
    rows = _rows(method, given, names, base, name)
    config: dict[str, Json] = {"merge_method": method.name}
    config |= {"base_model": base} if base else {}
    config["models"] = [
        {"model": model, **({"parameters": row} if row else {})} for model, row in rows.items()
    ]
    shared: dict[str, Json] = {"t": given["weight"][0]} if method.name == "slerp" else {}
    shared |= {"normalize": given["normalize"]} if "normalize" in method.params.model_fields else {}
    config |= {"parameters": shared} if shared else {}
    config |= {"dtype": "bfloat16"} if given["bf16"] else {}
    return _with_seed(config, given), _notes(others, given)


def _rows(
    method: MergeMethod[Any], given: Mapping[str, Any], names: Sequence[str], base: str | None, place: str
) -> dict[str, dict[str, Json]]:
    """The parameters of each model: one value for all of them, or one for each in their order."""
    rows: dict[str, dict[str, Json]] = {model: {} for model in names}
    if method.name == "slerp":
        if len(given["weight"]) != 1:
            times = counted(len(given["weight"]), "time")
            what = f"mergekit-legacy: slerp needs --weight once, and it is given {times}"
            raise ConfigError("E104", what, place=place)
        if base:
            rows.pop(base, None)
        return rows
    for key, values in (("weight", given["weight"] or (1.0,)), ("density", given["density"])):
        if key not in method.params.model_fields or not values:
            continue
        values = values * len(names) if len(values) == 1 else values
        if len(values) > len(names):
            times = counted(len(values), "time")
            what = f"mergekit-legacy: --{key} is given {times} for {counted(len(names), 'model')}"
            raise ConfigError("E104", what, place=place)
        for model, value in zip(names, values, strict=False):
            rows[model][key] = value
    if base and method.base_apart:
        rows[base] = {}
    return rows


# ---- mergekit-layershuffle ---------------------------------------------------------------------------------


def _from_layershuffle(words: Sequence[str], name: str) -> tuple[dict[str, Json], list[str]]:
    given, others = _parsed(
        "mergekit-layershuffle",
        words,
        name,
        click.Option(["--model", "-m"], multiple=True),
        click.Option(["--weight", "-w"], multiple=True, type=float),
        click.Option(["--print-yaml/--no-print-yaml"]),
        click.Option(["--write-yaml"]),
        click.Option(["--dry-run"], is_flag=True),
        click.Option(["--fp16/--no-fp16"]),
        click.Option(["--full-random/--no-full-random"]),
    )
    models, weights = given["model"], given["weight"] or (1.0,) * len(given["model"])
    if not models or len(models) != len(weights):
        times = counted(len(weights), "time"), counted(len(models), "time")
        what = f"mergekit-layershuffle: --weight is given {times[0]}, --model {times[1]}"
        raise ConfigError("E104", what, place=name)
    listed: list[Json] = [
        {"model": model, "weight": weight} for model, weight in zip(models, weights, strict=True)
    ]
    shuffle: dict[str, Json] = {"models": listed}
    shuffle |= {"full_random": True} if given["full_random"] else {}
    config: dict[str, Json] = {"layershuffle": shuffle}
    config |= {"dtype": "float16"} if given["fp16"] else {}
    return _with_seed(config, given), _notes(others, given)


def _with_seed(config: dict[str, Json], given: Mapping[str, Any]) -> dict[str, Json]:
    return config | ({"seed": given["random_seed"]} if given["random_seed"] is not None else {})


def _notes(others: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """What to say of options that no config holds."""
    notes = ["'--int8-mask' is left out: it never changed a result"] if given.get("int8_mask") else []
    if others:
        notes.append(f"{some(others, 5)}: no part of a config; `mergecore merge CONFIG OUT` understands them")
    return notes
