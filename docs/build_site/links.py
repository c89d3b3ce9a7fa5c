"""Finds links of a built site that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the names of its parts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.parts: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.parts.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)


def broken(site: Path) -> Iterator[str]:
    """A line for each link to a file or a part of a page that is not there."""
    pages = {path: Page(path.read_text(encoding="utf8")) for path in site.rglob("*.html")}
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = target in pages and (not parts.fragment or unquote(parts.fragment) in pages[target].parts)
            if not there and not (target.is_file() and target not in pages):
                yield f"{path.relative_to(site)}: {link}"
