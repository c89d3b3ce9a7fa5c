"""The command `mergecore coefficients`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mergecore.cli import common_options
from mergecore.errors import ConfigError

if TYPE_CHECKING:
    from mergecore.types import Json


@click.command()
@click.argument("policy")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="A parameter of POLICY."
)
@click.option("--offline", is_flag=True, help="Do not use the network; read hub models from the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, which is a config as well.")
@common_options
def coefficients(
    policy: str,
    config: Path,
    given: Sequence[str],
    offline: bool,
    as_json: bool,
    disabled: Sequence[str],
) -> None:
    """Print CONFIG with the numbers that POLICY chooses.

    CONFIG is a merge config; what is printed is one too, with plain numbers.  `mergecore plugins list` shows the
    policies, `mergecore plugins show NAME` their parameters.
    """
    import yaml

    from mergecore import PlanOptions, Registry, with_coefficients

    made, notes = with_coefficients(
        config,
        policy,
        registry=Registry.discover(disabled),
        options=PlanOptions(offline),
        **dict(map(_parameter, given)),
    )
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        click.echo(json.dumps(made))
    else:
        click.echo(yaml.safe_dump(made, sort_keys=False, allow_unicode=True), nl=False)


def _parameter(text: str) -> tuple[str, Json]:
    from mergecore.files import parse_documents

    name, equals, value = text.partition("=")
    if not (name.strip() and equals):
        raise ConfigError("E104", f"--parameter '{text}' is not NAME=VALUE", hint="write such as -p beta=0.3")
    return name.strip(), parse_documents(f"value: {value}", "--parameter")[0].data["value"]
