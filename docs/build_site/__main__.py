"""`python -m build_site OUT`: the site in the folder OUT; every warning is an error."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

from build_site.sources import write_sources

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]


def build(out: Path) -> int:
    """Write the site anew into `out`, and its sources beside it; the exit code."""
    from sphinx.cmd.build import main

    sources = out.with_name(f"{out.name}-source")
    for folder in (out, sources):
        shutil.rmtree(folder, ignore_errors=True)
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--nitpicky"]
    with patch.dict(os.environ, {"MERGECORE_PLUGINS": "mergecore"}):  # not what else is installed here
        write_sources(PROJECT, sources)
        return main([*options, "-c", str(HERE), "-d", str(sources / ".trees"), str(sources), str(out)])


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]).absolute()))
