"""Looks at the built site in Chromium: `python -m build_site.looking SITE [--pictures FOLDER] [PAGE ...]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from browser import DESK, PHONE, Browser, chromium, served, started

from build_site.links import broken

TIME = 30.0  # seconds for a search; it takes less than one


def faults(shown: Browser, address: str, pages: Sequence[str]) -> Iterator[str]:
    """What is wrong with pages: too wide for a phone, complaints, colours, the search."""
    for page in pages:
        before = len(shown.complaints)
        shown.open(f"{address}/{page}")
        for width in (PHONE, DESK):
            shown.wide(width)
            if (wide := shown.value("document.documentElement.scrollWidth")) > width:
                yield f"{page}: {wide} wide, in a window of {width}"
        brightness = {scheme: _brightness(shown, scheme) for scheme in ("light", "dark")}
        if brightness["light"] < 200 or brightness["dark"] > 60:
            yield f"{page}: the brightness of the page is {brightness}"
        yield from (f"{page}: {one}" for one in shown.complaints[before:])


def _brightness(shown: Browser, scheme: str) -> float:
    """How bright the page is, 0 to 255."""
    shown.colours(scheme)
    colour = shown.value("getComputedStyle(document.body).backgroundColor")
    numbers = [float(one) for one in colour.partition("(")[2].strip(")").split(",")[:3]]
    return sum(numbers) / 3


SEARCHES = {
    "ties": "methods/ties.html",
    "E230": "errors.html",
    "layer_range": "config.html",
}


def search_faults(shown: Browser, address: str) -> Iterator[str]:
    """Words whose page the search does not find."""
    for words, place in SEARCHES.items():
        shown.open(f"{address}/search.html?q={words}")
        done = False
        end = time.monotonic() + TIME
        while not done and time.monotonic() < end:
            done = shown.value(
                "/finished|did not match/.test(document.querySelector('#search-results')?.innerText)"
            )
            time.sleep(0.05)
        found = shown.value("[...document.querySelectorAll('#search-results li a')].map(one => one.href)")
        if not done or not any(place in one for one in found):
            yield f"the search for '{words}' finds {found}, not {place}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is wrong; the exit code."""
    parser = argparse.ArgumentParser(prog="build_site.looking", description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("pages", nargs="*", help="places of pages; by default all")
    parser.add_argument("--pictures", type=Path, help="also write a PNG of each page, narrow and wide")
    given = parser.parse_args(arguments)
    program = chromium()
    if program is None:
        parser.error("no Chromium is installed; $CHROMIUM may name one")
    site = given.site.absolute()
    pages = given.pages or sorted(one.relative_to(site).as_posix() for one in site.rglob("*.html"))
    wrong = [*broken(site)]
    with served(site) as address, started(program) as shown:
        wrong += faults(shown, address, pages)
        wrong += search_faults(shown, address)
        wrong += search_faults(shown, site.as_uri())
        if given.pictures:
            given.pictures.mkdir(parents=True, exist_ok=True)
            take_pictures(shown, address, pages, given.pictures)
    sys.stdout.write("".join(f"{line}\n" for line in wrong) + f"{len(pages)} pages, {len(wrong)} faults\n")
    return bool(wrong)


def take_pictures(shown: Browser, address: str, pages: Sequence[str], folder: Path) -> None:
    """Two PNGs of each page: light and wide, dark and narrow."""
    for page in pages:
        for width, scheme in ((PHONE, "dark"), (DESK, "light")):
            shown.wide(width)
            shown.colours(scheme)
            shown.open(f"{address}/{page}")
            name = page.removesuffix(".html").replace("/", "-")
            shown.picture(folder / f"{name}-{width}.png")


if __name__ == "__main__":
    sys.exit(main())
