"""The way of a user through the page of `mergecore ui`, in Chromium: from nothing to a merged model, with mishaps.

`walk` goes it and shows every state to `see`; the tests look at each, `python -m ui_walk FOLDER [DOCS]` takes pictures.
The folder holds the models and configs of `mergecore demo`; a merge method of a package that only tests have takes its
time, so that one can stop it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from browser import PHONE, WIDE, Browser, needed, started
from ui_server import served

SLOW = """
import time
from mergecore import MergeMethod, Params, hookimpl

def merge(group, params):
    time.sleep(0.15)
    return group.map(lambda block: block.x.mean(0))

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="slow_average", merge=merge, params=Params, family="Average models that are alike",
        summary="the mean, in no hurry", formula="sum_i X_i / n")
"""


def workshop(folder: Path) -> Path:
    """A folder as `mergecore demo` leaves it, before anything is merged."""
    spec = find_spec("mergecore_plugins.commands.demo")
    assert spec is not None
    assert spec.origin is not None
    assets = Path(spec.origin).with_name("assets")
    found = folder / "demo"
    shutil.copytree(assets / "models", found / "models")
    shutil.copytree(assets / "talk", found / "talk")
    for one in (assets / "configs").iterdir():
        shutil.copy(one, found)
    return found


def slow_method(folder: Path) -> Path:
    """The folder of a distribution that has the method `slow_average`."""
    facts = folder / "plugin" / "slow_average-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "entry_points.txt").write_text("[mergecore]\nslow_average = slow_average\n")
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: slow_average\nVersion: 1.0\n")
    (facts.parent / "slow_average.py").write_text(SLOW)
    return facts.parent


def choose(shown: Browser, method: str) -> None:
    """Choose a method in the dialog of a new config."""
    shown.click("#new")
    shown.wait("document.getElementById('new-dialog').open")
    shown.click(f'input[value="{method}"]')
    shown.wait(f"document.querySelector('#compose')?.dataset.method == '{method}'")


def judged(shown: Browser, state: str) -> None:
    """Wait until the page says that a config is `good` or `bad`."""
    shown.wait(f"document.getElementById('messages').dataset.state == '{state}'")


def is_state(state: str) -> str:
    """Whether the newest run is in a state, in JavaScript."""
    return f"document.querySelector('.run-row')?.dataset.state == '{state}'"


def walk(shown: Browser, see: Callable[[str], None]) -> None:
    """Compose, break, mend, run, stop, resume, reopen."""
    shown.wait("!!document.querySelector('#runs-list p')")
    see("empty")
    choose(shown, "ties")
    shown.click("#base")
    shown.type("models/base")
    for name in ("rotated", "mirrored", "negative"):
        shown.click(f'input[value="models/{name}"]')
    see("new")
    shown.click("#compose button")
    judged(shown, "good")
    assert shown.value("[document.getElementById('name').value, document.getElementById('out').value]") == [
        "ties-2.yml",  # there is a ties.yml
        "merged/ties-2",
    ]
    see("ready")
    shown.value(
        "mergecore.replace(mergecore.text().replace('density: 0.5', 'density: 1.5')"
        ".replace('models/mirrored', 'models/mirored'))"
    )
    shown.wait("document.querySelectorAll('#faults li').length == 2")
    judged(shown, "bad")
    shown.wait("!document.querySelector('#faults .stale')")
    see("broken")
    shown.click("#undo")
    judged(shown, "good")
    see("mended")
    run_slowly(shown, see)
    shown.click("#history [data-reopen]")
    shown.wait("mergecore.text().includes('slow_average')")
    judged(shown, "good")
    see("reopened")


def run_slowly(shown: Browser, see: Callable[[str], None]) -> None:
    """Run a merge that can be stopped, stop it, and resume it."""
    choose(shown, "slow_average")
    for name in ("rotated", "mirrored"):
        shown.click(f'#compose input[value="models/{name}"]')
    shown.click("#compose button")
    shown.wait("mergecore.text().includes('slow_average')")
    judged(shown, "good")
    shown.value("document.getElementById('out').select()")
    shown.type("merged/mine")
    shown.click("#go")
    shown.wait(f"{is_state('running')} && Number(document.querySelector('.run-row').dataset.share) > 0.05")
    see("running")
    shown.click(".run-row button")
    shown.wait(is_state("stopped"))
    see("stopped")
    shown.click(".run-row .primary")
    shown.wait(is_state("done"))
    shown.wait("!!document.querySelector('#history [data-reopen]')")
    see("done")


WINDOW = ("new", "ready")
"""States of which the window is shown, not all of the page."""
IN_THE_DOCS = {"ready-1600-light.png": "page.png"}


def pictures(target: Path) -> None:
    """Write a picture of each state, at both widths, light and dark."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, started(needed()) as shown:
        os.environ["PYTHONPATH"] = str(slow_method(Path(name)))
        with served(workshop(Path(name))) as (_, address):
            shown.wide(WIDE, 1000)
            shown.open(address)

            def see(state: str) -> None:
                shown.value("scrollTo(0, 0)")
                for width, height, scheme in (
                    (WIDE, 1000, "light"),
                    (WIDE, 1000, "dark"),
                    (PHONE, 844, "light"),
                ):
                    shown.wide(width, height)
                    shown.colours(scheme)
                    shown.picture(target / f"{state}-{width}-{scheme}.png", whole=state not in WINDOW)
                shown.wide(WIDE, 1000)

            walk(shown, see)


if __name__ == "__main__":
    pictures(Path(sys.argv[1]))
    for made, shown_as in IN_THE_DOCS.items() if sys.argv[2:] else ():
        shutil.copy(Path(sys.argv[1], made), Path(sys.argv[2], shown_as))
