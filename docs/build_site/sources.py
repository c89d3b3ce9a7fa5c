"""The Markdown that the site is built from: the pages of `docs/`, some of the project, and those made from code."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from build_site import commands, keys, methods, values
from mergecore import Registry

# Pages outside `docs/`, and where the site has them.
OTHERS = {
    "benchmarks/README.md": "explanation/benchmarks.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "LICENSE": "project/LICENSE",
    "examples/from-python.ipynb": "examples/from-python.ipynb",
}
# Pages that are completed by one made from the code.
COMPLETED = {
    "reference/config.md": ("keys", "Every key"),
    "reference/cli.md": ("commands", "Every command"),
    "reference/hooks.md": ("values", "Values of the hooks"),
}
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)]*)?\))")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def write_sources(project: Path, folder: Path) -> None:
    """Write every page below `folder`, with links that lead there, and the tree of all pages in `index.md`."""
    pages = {one.relative_to(project).as_posix(): "" for one in (project / "docs").rglob("*.md")}
    places = {page: page.removeprefix("docs/") for page in pages} | OTHERS
    registry = Registry.discover()
    made = dict(pages_from_code(registry))
    for page, place in places.items():
        text = with_links((project / page).read_text(encoding="utf8"), page, places)
        text = methods.with_links(text, registry) if place == "reference/methods.md" else text
        write(folder / place, text + (trees(text) if place == "index.md" else below(place, made)))
    for place, text in made.items():
        write(folder / place, text)
    shutil.copytree(Path(__file__).parent / "_static", folder / "_static")
    shutil.copytree(project / "docs" / "pictures", folder / "pictures")


def pages_from_code(registry: Registry) -> Iterator[tuple[str, str]]:
    """The place and the text of each page that nobody wrote."""
    yield "reference/keys.md", keys.page(registry)
    yield "reference/commands.md", commands.page()
    yield "reference/values.md", values.page()
    yield from methods.pages(registry)


def below(place: str, made: Iterable[str]) -> str:
    """What a page of the reference ends with: a link to the page from code that completes it, or several."""
    if place == "reference/methods.md":
        return tree(
            [one.removeprefix("reference/").removesuffix(".md") for one in made if "/methods/" in one]
        )
    if place not in COMPLETED:
        return ""
    name, said = COMPLETED[place]
    return f"\n## {said}\n\n[{said}]({name}.md), taken from the code.\n{tree([name])}"


def write(path: Path, text: str) -> None:
    """Write a page, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf8")


def with_links(text: str, page: str, places: dict[str, str]) -> str:
    """The text of `page`, its links to other pages as they are on the site; code is left alone."""

    def moved(match: re.Match[str]) -> str:
        target = os.path.normpath(PurePosixPath(page).parent / match[2])
        if target not in places:
            return match[0]
        return match[1] + os.path.relpath(places[target], PurePosixPath(places[page]).parent) + match[3]

    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def trees(index: str) -> str:
    """What puts the pages that `index.md` links to into the navigation, in its order; and those of the project."""
    found = []
    for section in index.split("\n## ")[1:]:
        title, _, rest = section.partition("\n")
        found.append(tree(re.findall(r"^\* \[[^]]*\]\(([^)]+)\.md\)", rest, re.MULTILINE), title))
    others = [place.removesuffix(".md") for place in OTHERS.values() if place.endswith(".md")]
    found.append(tree(others, "Project"))
    return "".join(found)


def tree(pages: list[str], caption: str = "") -> str:
    """A part of the navigation, which shows nothing on the page itself."""
    head = f":caption: {caption}\n" if caption else ""
    return "\n".join(["", "```{toctree}", f":hidden:\n{head}", *pages, "```", ""])
