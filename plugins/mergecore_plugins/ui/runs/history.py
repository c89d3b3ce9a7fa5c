"""Merges that lie below the folder, from their manifests, and the configs that they were made by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mergecore import MergecoreError, read_manifest
from mergecore.types import Json
from mergecore_plugins.ui.configs.finding import manifests_below
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
    tensors: int
    report: str
    """The path of the report about it; empty where there is none."""


def made_before(folder: Path) -> list[Made]:
    """The merges below a folder, the newest first."""
    found = []
    for path, when in manifests_below(folder)[:SHOWN]:
        try:
            manifest = read_manifest(path)
        except (MergecoreError, OSError):
            continue  # one that nobody can read is no history
        facts: dict[str, Any] = manifest.model_extra or {}
        document = facts.get("document")
        document = document if isinstance(document, dict) else {}
        models = facts.get("models")
        found.append(
            Made(
                path=path.relative_to(folder).as_posix(),
                when=when,
                method=str(document.get("merge_method") or document.get("recipe") or ""),
                models=[str(one.get("reference", "")) for one in models or () if isinstance(one, dict)],
                nbytes=sum(file.size for file in manifest.files),
                tensors=len(manifest.tensors),
                report=report_of(path.relative_to(folder).as_posix()) if _has_report(path) else "",
            )
        )
    return found


def report_of(out: str) -> str:
    """Where the report about a merge is written: beside its folder."""
    return f"{out.rstrip('/')}.html"


def _has_report(path: Path) -> bool:
    report = Path(report_of(str(path)))
    return report.is_file() and not report.is_symlink()


def reopened(path: Path, runs: Sequence[Run]) -> dict[str, Json]:
    """The config of a merge: that of its run, with all comments, or what the manifest says."""
    for run in runs:
        if run.out and Path(run.out) == path and run.state == "done" and run.config:
            return {"text": run.config, "out": run.out, "name": "", "message": ""}
    facts: dict[str, Any] = read_manifest(path).model_extra or {}
    document = facts.get("document")
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100) if document else ""
    message = "from the manifest, which keeps no comments, and no paths outside of the folder"
    return {
        "text": f"# {path}, as its manifest says\n{text}",
        "out": path.as_posix(),
        "name": "",
        "message": message,
    }
