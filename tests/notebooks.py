"""Notebooks of the examples: their cells run in one namespace, and what they print is compared with what is stored.

`python tests/notebooks.py` runs them and stores what comes out.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

Notebook = dict[str, Any]


def executed(notebook: Notebook) -> list[str]:
    """What each cell of code prints, its last value included, when all are run in order in the current folder."""
    space: dict[str, Any] = {"__name__": "__main__"}
    return [_run("".join(cell["source"]), space) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def stored(notebook: Notebook) -> list[str]:
    """What the notebook says that each cell of code printed."""
    return [
        "".join(
            "".join(one["text"] if "text" in one else one["data"]["text/plain"]) for one in cell["outputs"]
        )
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def _run(source: str, space: dict[str, Any]) -> str:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(tree, "cell", "exec"), space)  # noqa: S102
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), space)  # noqa: S307
            if value is not None:
                out.write(repr(value))
    return out.getvalue()


def store(path: Path) -> None:
    """Run a notebook and keep what comes out in it."""
    notebook = json.loads(path.read_text(encoding="utf8"))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        printed = executed(notebook)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, text) in enumerate(zip(cells, printed, strict=True), 1):
        stream = {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
        cell |= {"execution_count": number, "outputs": [stream] if text else []}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + os.linesep, encoding="utf8")


if __name__ == "__main__":
    for one in sorted(EXAMPLES.glob("*.ipynb")):
        store(one)
