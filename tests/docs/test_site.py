"""The site of the documentation is built without a warning, and has every page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("furo", reason="the site needs what `pip install '.[docs]'` brings")
pytest.importorskip("myst_parser", reason="the site needs what `pip install '.[docs]'` brings")

ROOT = Path(__file__).parents[2]


def build(out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "build_site", str(out)]
    environment = {"PYTHONPATH": str(ROOT / "docs"), "PATH": "/usr/bin:/bin", "HOME": str(out.parent)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs") / "site"
    done = build(out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return out


def test_the_site_has_every_page_and_what_searches_them(site: Path) -> None:
    pages = [one.relative_to(ROOT / "docs").with_suffix(".html") for one in (ROOT / "docs").rglob("*.md")]
    assert [str(page) for page in pages if not (site / page).is_file()] == []
    assert (site / "search.html").is_file()
    assert (site / "searchindex.js").is_file()


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=\"((?:https?:)?//[^\"]+)\"")
    found = {url for page in site.rglob("*.html") for url in loaded.findall(page.read_text(encoding="utf8"))}
    assert found == set()


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from build_site import __main__, sources

    def with_a_broken_link(project: Path, folder: Path) -> None:
        sources.write(folder / "index.md", "# One page\n\n[nothing](nowhere.md) and [no place](#none)\n")
        (folder / "_static").mkdir()

    monkeypatch.setattr(__main__, "write_sources", with_a_broken_link)
    assert __main__.build(tmp_path / "site") != 0
