"""`mergecore plugins test`: what is checked of an installed plugin, and what is found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergecore.cli.options import common_options
from mergecore.cli.screen import show_text
from mergecore.errors import PluginError
from mergecore.plugins.registry import Registry

if TYPE_CHECKING:
    from mergecore.testing.findings import Finding, Outcome

SIGNS: Mapping[Outcome, str] = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


@click.command("test")
@click.argument("name")
@click.option(
    "--kind", default="", metavar="KIND", help="Check things of this kind alone, such as 'merge method'."
)
@click.option(
    "--model", "models", multiple=True, metavar="MODEL", help="Check with this model; may be repeated."
)
@click.option(
    "--document",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A document for a recipe to compile, or parameters of an evaluator or a policy.",
)
@click.option("--without", multiple=True, metavar="WORD", help="Leave out a check; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@common_options
def check_plugin(name: str, disabled: Sequence[str], as_json: bool, **given: Any) -> int:
    """Check that the plugin NAME keeps what is asked of its kind.

    Tiny models are made, merged and removed. NAME may also be that of a package, of
    something that a plugin provides, or PLUGIN@PACKAGE.
    """
    from mergecore.cli.show_plugins import named
    from mergecore.testing.plugins import findings_of

    registry = Registry.discover(disabled)
    document = _document(given.pop("document"))
    found: list[Finding] = []
    for plugin in named(name, registry):
        for finding in findings_of(plugin, registry, document=document, **given):
            found.append(finding)
            if not as_json:
                _show(finding, found)
    counts = Counter(one.outcome for one in found)
    if as_json:
        rows = [{**vars(one)} for one in found]
        click.echo(json.dumps({"name": name, **{word: counts[word] for word in SIGNS}, "findings": rows}))
    else:
        click.echo("\n" + ", ".join(f"{counts[word]} {word}" for word in SIGNS))
    return PluginError.exit_code if counts["failed"] else 0


def _show(finding: Finding, before: list[Finding]) -> None:
    """A line for a property, under the name of what has it."""
    if len(before) < 2 or before[-2].subject != finding.subject:
        click.echo(("\n" if len(before) > 1 else "") + finding.subject)
    show_text(f"  {SIGNS[finding.outcome]:<7}  {finding.property:<10}  {finding.says}")
    if finding.text:
        show_text(f"{'':<9}  {'':<10}  {finding.text}")


def _document(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    from mergecore.files.yaml_document import parse_document
    from mergecore.files.yaml_text import read_text

    return dict(parse_document(read_text(path), str(path)).data)
