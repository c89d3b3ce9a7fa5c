"""What is said where the arguments of a command on adapters stand in another order, or one of them is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mergecore.errors import ConfigError

CONFIG, ADAPTER, MANIFEST = "config.json", "adapter_config.json", "mergecore-manifest.json"


def check_order(base: str, adapters: Sequence[str], out: Path) -> None:
    """Raise E115 unless a model, adapters and a folder to write can be meant, in this order."""
    check_out(f"merge-lora {base}", adapters, out)
    if _holds(base, ADAPTER) and not _holds(base, CONFIG):
        models = [one for one in adapters if _holds(one, CONFIG) and not _holds(one, ADAPTER)]
        hint = "BASE, the model, comes first"
        if models:
            others = " ".join([*(one for one in adapters if one != models[0]), base])
            hint += f": mergecore merge-lora {models[0]} {others} {out}"
        raise ConfigError("E115", f"BASE is '{base}', which is an adapter", hint=hint)


def check_out(command: str, adapters: Sequence[str], out: Path) -> None:
    """Raise E115 where OUT was forgotten, so that the last adapter is in its place.

    An adapter that mergecore wrote may be written anew.
    """
    if _holds(str(out), ADAPTER) and not _holds(str(out), MANIFEST):
        hint = f"it comes last: mergecore {' '.join([command, *adapters, str(out)])} OUT"
        raise ConfigError("E115", f"OUT, the folder to write, is missing: '{out}' is an adapter", hint=hint)
    if not adapters:
        raise click.UsageError(
            f"ADAPTERS or OUT is missing: one adapter or more, then OUT, and only '{out}' was given"
        )


def _holds(folder: str, name: str) -> bool:
    return (Path(folder) / name).is_file()
