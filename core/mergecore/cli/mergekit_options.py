"""Options of mergekit's commands on our command line: those that do no harm are left out or given their name here.

One that is written elsewhere here, or that belongs to another command, is an error that says where it goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from mergecore.cli.screen import GroupedCommand
from mergecore.config.leftovers import OPTIONS
from mergecore.errors import Collector, ConfigError

_WITH_VALUE = {
    "out_shard_size",
    "write_threads",
    "num_threads",
    "transformers_cache",
    "lora_merge_cache",
    "lora_merge_dtype",
    "storage_device",
}
_RENAMED = {
    "random_seed": "--seed",
    "num_threads": "--threads",
    "out_shard_size": "--shard-size",
    "max_shard_size": "--shard-size",
    "compute_device": "--device",
    "force": "--overwrite",
    "f": "--overwrite",
}
_HARMLESS = {
    **OPTIONS,
    "no_quiet": "all is told unless --quiet says otherwise",
    "no_allow_crimes": "models of different architectures are refused unless --allow-crimes says otherwise",
    "storage_device": "--max-memory bounds the memory",
    "load_to_compute": "--device chooses where to compute",
    **dict.fromkeys(("naive_count", "int8_mask"), "it never changed a result"),
    **dict.fromkeys(("no_bf16", "no_fp16"), "'dtype:' in the config says it"),
    "no_print_yaml": "no config is printed",
    "no_unsafe_truncate_embeddings": "nothing is ever cut off",
}
_IN_CONFIG = {
    "dtype": "the config says it: write 'dtype: {value}' there, or 'out_dtype:' for the output alone",
    "out_dtype": "the config says it: write 'out_dtype: {value}' there",
    "bf16": "the config says it: write 'dtype: bfloat16' there",
    "fp16": "the config says it: write 'dtype: float16' there",
    "method": "the config says it: write 'merge_method: {value}' there",
    "merge_method": "the config says it: write 'merge_method: {value}' there",
    "base_model": "the config says it: write 'base_model: {value}' there",
    "merge": "the config says it: write '- model: {value}' under 'models:' there",
    "model": "the config says it: write '- model: {value}' under 'models:' there",
    "m": "the config says it: write '- model: {value}' under 'models:' there",
    "weight": "the config says it: write 'weight: {value}' under 'parameters:' there",
    "w": "the config says it: write 'weight: {value}' under 'parameters:' there",
    "density": "the config says it: write 'density: {value}' under 'parameters:' there",
    "normalize": "the config says it: write 'normalize: true' or 'false' under 'parameters:' there",
    "tokenizer_source": "the config says it: write 'tokenizer_source: {value}' there",
    "chat_template": "the config says it: write 'chat_template: {value}' there",
    "print_yaml": "the config is the one that you write; `mergecore plan` shows what it does",
    "write_yaml": "the config is the one that you write; `mergecore plan` shows what it does",
    "dry_run": "`mergecore plan CONFIG` shows what a merge would do",
    "unsafe_truncate_embeddings": "nothing is cut off here: 'tokenizer_source:' in the config matches rows by token",
    "tensor_intersection": "write --missing skip or --unexpected drop",
    "i": "write --missing skip or --unexpected drop",
    "tensor_union": "write --missing skip and --unexpected copy",
    "u": "write --missing skip and --unexpected copy",
    "out_path": "write the folder of the output behind the config: mergecore merge CONFIG OUT",
    "output": "write the folder of the output behind the config: mergecore merge CONFIG OUT",
    "config": "write the config as the first word: mergecore merge CONFIG OUT",
    "full_random": "write the layers as 'slices:' in the config",
}
_OTHER_COMMANDS = {
    "mergekit-moe": "load_in_4bit load_in_8bit i_understand_this_is_not_useful_without_training",
    "mergekit-multi": "intermediate_dir I lazy require_nameless R",
    "mergekit-extract-lora": "max_rank distribute_scale embed_lora save_module exclude_regex include_regex e "
    "sv_epsilon skip_undecomposable",
    "mergekit-tokensurgeon": "k cosine_similarity c nc approximation_method a weight_scheme subword_method s "
    "batch_size prefix_match pm byte_match bm magikarp new_vocab_noise nvn new_vocab_scale nvs",
}
_DONE_BY = {
    "mergekit-moe": "which builds a mixture of experts; merge makes what the config says",
    "mergekit-multi": "which runs several configs; give each its own `mergecore merge`, in the order that they need",
    "mergekit-extract-lora": "which makes an adapter; merge makes a model",
    "mergekit-tokensurgeon": "which changes the tokenizer of a model, as `mergecore transplant` does",
}
_ELSEWHERE = _IN_CONFIG | {
    option: f"it is an option of {command}, {_DONE_BY[command]}"
    for command, options in _OTHER_COMMANDS.items()
    for option in options.split()
}


class MergeCommand(GroupedCommand):
    """A command that understands what people type for mergekit."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {option for parameter in self.get_params(ctx) for option in parameter.opts}
        kept: list[str] = []
        problems = Collector()
        words = iter(args)
        for word in words:
            if word == "--":
                kept += [word, *words]
                break
            name, _, value = word.partition("=")
            key, no = _key_of(name)
            if name in own or not key:
                kept.append(word)
            elif not no and key in _RENAMED and _RENAMED[key] in own:
                kept += _renamed(name, key, value, words)
            elif (told := _HARMLESS.get(f"no_{key}" if no else key) or _HARMLESS.get(key)) is not None:
                if key in _WITH_VALUE and not value:
                    next(words, None)
                click.echo(f"mergecore: {name} has no effect: {told}", err=True)
            elif key in _ELSEWHERE:
                what = f"{self.name} has no option {name}"
                shown = value or _next_value(args, word)
                problems.add(ConfigError("E115", what, hint=_ELSEWHERE[key].replace("{value}", shown)))
            else:
                kept.append(word)
        problems.raise_any()
        return super().parse_args(ctx, kept)


def _key_of(name: str) -> tuple[str, bool]:
    """What an option is called without its dashes, and whether it begins with `no`; nothing for other words."""
    if not re.fullmatch(r"--[a-z][\w-]*|-[A-Za-z]{1,3}", name):
        return "", False
    plain = name.lstrip("-").replace("-", "_")
    return (plain.removeprefix("no_"), True) if plain.startswith("no_") else (plain, False)


def _renamed(name: str, key: str, value: str, words: Iterator[str]) -> list[str]:
    """An option under the name that it has here, with its value."""
    if _RENAMED[key] == "--overwrite":
        click.echo(f"mergecore: {name} is --overwrite here", err=True)
        return ["--overwrite"]
    value = value or next(words, "")
    size = re.fullmatch(r"(\d+)([kmb]?)", value.lower()) if key == "out_shard_size" else None
    if size:
        value = str(int(size[1]) * {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}[size[2]])
    click.echo(f"mergecore: {name} is {_RENAMED[key]} {value} here", err=True)
    return [_RENAMED[key], value]


def _next_value(args: list[str], word: str) -> str:
    """The word behind an option, if it may be its value."""
    following = args[args.index(word) + 1 :][:1]
    return following[0] if following and not following[0].startswith("-") else "…"
