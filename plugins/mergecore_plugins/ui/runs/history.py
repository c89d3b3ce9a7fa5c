"""Merges that lie below the folder, from their manifests, and the configs that they were made by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mergecore import MergecoreError, read_manifest
from mergecore.types import Json
from mergecore_plugins.ui.configs.finding import manifests_below
from mergecore_plugins.ui.runs.progress import made_bytes
from mergecore_plugins.ui.runs.run import Run

SHOWN = 100
"""Merges that are listed at most, the newest."""


@dataclass(frozen=True)
class Made:
    """A merged model."""

    path: str
    when: float
    method: str
    models: Sequence[str]
    nbytes: int
    report: str
    """The path of the report about it; empty where there is none."""


class History:
    """The merges below a folder; a manifest is read once, until it is written anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[Path, float], Made | None] = {}

    def merges(self) -> list[Made]:
        """All merges, the newest first."""
        found = manifests_below(self._folder)[:SHOWN]
        self._known = {key: self._known[key] if key in self._known else self._made(*key) for key in found}
        return [replace(one, report=self._report(one.path)) for one in self._known.values() if one]

    def get(self, path: str) -> Made | None:
        """The merge of a path that is one of them."""
        return next((one for one in self.merges() if one.path == path), None)

    def _made(self, path: Path, when: float) -> Made | None:
        try:
            manifest = read_manifest(path)
        except (MergecoreError, OSError):
            return None  # one that nobody can read is no history
        facts: dict[str, Any] = manifest.model_extra or {}
        document = facts.get("document")
        document = document if isinstance(document, dict) else {}
        models = facts.get("models")
        return Made(
            path=path.relative_to(self._folder).as_posix(),
            when=when,
            method=str(document.get("merge_method") or document.get("recipe") or ""),
            models=[str(one.get("reference", "")) for one in models or () if isinstance(one, dict)],
            nbytes=sum(file.size for file in manifest.files),
            report="",
        )

    def _report(self, path: str) -> str:
        report = self._folder / report_of(path)
        return report_of(path) if report.is_file() and not report.is_symlink() else ""


def report_of(out: str) -> str:
    """Where the report about a merge is written: beside its folder."""
    return f"{out.rstrip('/')}.html"


def reopened(made: Made, runs: Sequence[Run]) -> dict[str, Json]:
    """The config of a merge: that of its run, with all comments, or what the manifest says."""
    path = Path(made.path)
    for run in runs:
        if run.out and Path(run.out) == path and run.config and _made_by(run, made):
            return {"text": run.config, "out": run.out, "name": "", "message": ""}
    facts: dict[str, Any] = read_manifest(path).model_extra or {}
    document = facts.get("document")
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100) if document else ""
    message = "from the manifest, which keeps no comments, and no paths outside of the folder"
    return {
        "text": f"# {made.path}, as its manifest says\n{text}",
        "out": made.path,
        "name": "",
        "message": f"Opened {made.path} {message}.",
    }


def _made_by(run: Run, made: Made) -> bool:
    """Whether a run made what is there, or found that it would make the same."""
    if run.state != "done" or run.started is None or run.ended is None:
        return False
    return run.started <= made.when <= run.ended + 1 or (made_bytes(run) == 0 and made.when <= run.started)
