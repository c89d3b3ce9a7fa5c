"""The commands `mergecore merge-lora` and `mergecore adapter show`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergecore import hookimpl
from mergecore.cli import GroupedCommand, Maker, common_options, making_options
from mergecore.errors import ConfigError, counted

if TYPE_CHECKING:
    from mergecore.types import Json


CONFIG, ADAPTER, MANIFEST = "config.json", "adapter_config.json", "mergecore-manifest.json"


@hookimpl
def mergecore_commands() -> Iterator[click.Command]:
    yield merge_lora
    yield adapter


@click.command("merge-lora", cls=GroupedCommand)
@click.argument("base")
@click.argument("adapters", nargs=-1)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--scale",
    "scales",
    type=float,
    multiple=True,
    metavar="X",
    help="Factor of an adapter's changes; once for all, or once for each.",
)
@click.option(
    "--dtype", metavar="NAME", help="Number format of the output, such as bfloat16; by default that of BASE."
)
@making_options()
def merge_lora(out: Path, **given: Any) -> None:
    """Merge ADAPTERS into the model BASE, as a new model OUT.

    Several adapters are applied one after the other.  BASE and each of ADAPTERS is a folder, or a hub id with or
    without @REVISION.
    """
    check_order(given["base"], given["adapters"], out)
    maker = Maker(given)
    document = _document(given["base"], given["adapters"], given["scales"], given["dtype"])
    doing = f"merging {counted(len(given['adapters']), 'adapter')} into a model"
    maker.show_or_execute(replace(maker.plan(document), doing=doing), out)


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


def _document(
    base: str, adapters: Sequence[str], scales: Sequence[float], dtype: str | None
) -> dict[str, Json]:
    """The config that says the same."""
    if len(scales) not in (0, 1, len(adapters)):
        what = f"{counted(len(scales), 'time')} --scale for {counted(len(adapters), 'adapter')}"
        raise click.UsageError(f"{what}: one for all, or one for each")
    given = list(scales) * len(adapters) if len(scales) == 1 else list(scales) or [1.0] * len(adapters)
    listed: list[Json] = [_scaled(one, scale) for one, scale in zip(adapters, given, strict=True)]
    model: Json = {"model": base, "adapters": listed}
    return {
        "merge_method": "passthrough",
        "models": [{"model": model}],
        **({"out_dtype": dtype} if dtype else {}),
    }


def _scaled(adapter: str, scale: float) -> Json:
    if scale == 1:
        return adapter
    from mergecore.config import exists_below, parse_reference

    named = parse_reference({"adapter": adapter}, exists_below(Path())).adapters[0]
    return {"path": named.path, "revision": named.revision, "scale": scale}


@click.group()
def adapter() -> None:
    """Adapters, such as LoRA."""


@adapter.command()
@click.argument("path")
@click.option("--offline", is_flag=True, help="Do not use the network; read hub adapters from the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@common_options
def show(path: str, offline: bool, as_json: bool, disabled: Sequence[str]) -> None:
    """Show kind, base, ranks, modules and size of the adapter PATH.

    Also shows whether it can be merged.
    """
    from mergecore import Registry
    from mergecore.cli import show_text
    from mergecore_plugins.lora.show import shown

    found = shown(path, Registry.discover(disabled), offline)
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        show_text(found.as_text())
