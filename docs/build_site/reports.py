"""Pictures of the reports of a plan and of a merge: `python -m build_site.reports FOLDER`; needs Chromium."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from browser import Browser, chromium, started
from tiny import llama, llama_config, write_checkpoint

from mergecore.cli import main as mergecore

LAYERS = 8
WIDTH = 760
CONFIG = """
merge_method: ties
base_model: base
models:
  - model: code
    parameters: {weight: [{filter: mlp, value: 0.9}, {value: [0.2, 0.8]}], density: 0.4}
  - model: math
    parameters: {weight: 0.5, density: 0.4}
"""
PICTURES = {"plan": ("weight of code", 330), "merged": ("How far the result moved from the base", 340)}
"""The name of each picture, the heading that it begins with, and its height."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `plan.png` and `merged.png`; the exit code."""
    (folder,) = sys.argv[1:] if arguments is None else arguments
    target = Path(folder).absolute()
    program = chromium()
    if program is None:
        sys.stderr.write("no Chromium is installed; $CHROMIUM may name one\n")
        return 1
    with TemporaryDirectory() as place:
        os.chdir(place)
        write_models(Path(place))
        Path("merge.yml").write_text(CONFIG, encoding="utf8")
        run("plan", "merge.yml", "--html", "plan.html")
        run("merge", "merge.yml", "out", "--report", "merged.html", "--quiet")
        with started(program) as shown:
            for name, (heading, height) in PICTURES.items():
                shown.wide(WIDTH, height)
                take(shown, Path(place) / f"{name}.html", heading, target / f"{name}.png")
        os.chdir(target)
    return 0


def write_models(folder: Path) -> None:
    """A base, one model that learned in the middle layers, and one that learned in its feed-forward blocks."""
    base = llama(LAYERS)
    write_checkpoint(folder / "base", base, llama_config(LAYERS))
    for seed, name in enumerate(("code", "math"), 1):
        draw = torch.Generator().manual_seed(seed)
        moved = {
            key: one + strength(name, key) * torch.randn(one.shape, generator=draw)
            for key, one in base.items()
        }
        write_checkpoint(folder / name, moved, llama_config(LAYERS))


def strength(model: str, tensor: str) -> float:
    """How far a model moved a tensor."""
    parts = tensor.split(".")
    layer = int(parts[2]) if parts[1] == "layers" else 0
    if model == "code":
        return 0.02 + 0.3 * max(0.0, 1 - abs(layer - 4) / 3)
    return 0.25 if "mlp" in tensor else 0.05


def run(*words: str) -> None:
    """Run a command of mergecore, which has to work."""
    try:
        mergecore(words)
    except SystemExit as ended:
        if ended.code:
            raise


def take(shown: Browser, page: Path, heading: str, picture: Path) -> None:
    """A picture of a page from a heading on."""
    shown.colours("light")
    shown.open(page.as_uri())
    shown.value(
        f"[...document.querySelectorAll('h3')].find(one => one.textContent === {heading!r})"
        ".scrollIntoView({block: 'start', behavior: 'instant'}); scrollBy(0, -8)"
    )
    shown.picture(picture)


if __name__ == "__main__":
    sys.exit(main())
