"""The library of the page lies in the package as it was published, with its licence, and asks nobody for anything."""

from __future__ import annotations

import hashlib
from pathlib import Path

import mergecore_plugins.ui

HTMX = Path(mergecore_plugins.ui.__file__).parent / "static" / "htmx"
DIGESTS = {
    "htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    "LICENSE.md": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
}
"""Of htmx.org 4.0.1 on npm, `dist/htmx.min.js` and `LICENSE`."""


def test_it_is_what_was_published() -> None:
    assert {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in HTMX.iterdir()} == DIGESTS
    assert "Zero-Clause BSD" in (HTMX / "LICENSE.md").read_text()
    assert 'version="4.0.1"' in (HTMX / "htmx.min.js").read_text()
    assert "htmx" in (Path(__file__).parents[3] / "NOTICE").read_text()


def test_no_file_of_the_page_names_another_machine() -> None:
    for path in HTMX.parent.glob("*.*"):
        text = path.read_text(encoding="utf8")
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), path
        assert "https://" not in text, path
