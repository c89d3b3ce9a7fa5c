"""The winner of a search, written as any merge is; read `write_winner`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mergecore import RunOptions, execute, plan
from mergecore.types import Json
from mergecore_plugins.search.findings.results import LINEAGE

if TYPE_CHECKING:
    from mergecore_plugins.search.findings.results import Findings
    from mergecore_plugins.search.searching import Prepared


def write_winner(found: Findings, made: Prepared, folder: Path) -> Path | None:
    """The folder of the model that the search recommends; None where there is nothing to write.

    That is so where nothing could be scored, and where a model that was there before is better.

    Its card and its manifest hold the config, which says how it was found.
    """
    remove_winner(folder)  # of this search, before it went on
    if found.stronger is not None or (found.best is None and found.verdict is None):
        return None
    workshop = made.bench.workshop
    if found.best is not None and found.recommended == "best":
        config: object = found.documents_of(found.best)
    else:
        average = next(one for one in made.references if one.kind == "average")
        config = {LINEAGE: cast("Json", {**found.lineage(None), "average": True}), **average.config}
    written = plan(config, registry=workshop.place.registry, options=workshop.options)  # type: ignore[arg-type]
    return execute(
        written, folder, registry=workshop.place.registry, options=RunOptions(threads=workshop.threads)
    )


def remove_winner(folder: Path) -> None:
    """Remove a model that a search has written; a folder of anything else stays."""
    if (folder / "mergecore-manifest.json").is_file():
        shutil.rmtree(folder)
