"""What looks at pages sees what is wrong with them, and uses them as a person would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import PHONE, Browser, needed, served, started, violations

PAGE = """<!doctype html><html lang="en"><head><title>A page</title></head><body><main><h1>A page</h1>
<label>Name <input id="name"></label><button onclick="said.textContent = document.querySelector('#name').value">
Say</button><p id="said">nothing</p><div id="pad" style="width:100px;height:40px"></div></main>
<script>pad.onpointerdown = e => pad.from = e.offsetX; pad.onpointerup = e => pad.to = e.offsetX</script>
</body></html>"""


@pytest.fixture(scope="module")
def shown() -> Iterator[Browser]:
    with started(needed()) as one:
        yield one


def test_a_page_is_used_by_mouse_and_keyboard(shown: Browser, tmp_path: Path) -> None:
    (tmp_path / "favicon.ico").write_bytes(b"")
    (tmp_path / "page.html").write_text(PAGE)
    with served(tmp_path) as address:
        shown.open(f"{address}/page.html")
        shown.click("#name")
        shown.type("Ada")
        shown.press("Tab")
        shown.press("Enter")
        assert shown.wait("said.textContent == 'Ada'") is True
        x, y = shown.middle("#pad")
        shown.drag([(x - 40, y), (x, y), (x + 40, y)])
        assert shown.value("[Math.round(pad.from), Math.round(pad.to)]") == [10, 90]
    assert shown.complaints == []
    with pytest.raises(TimeoutError, match="is still False"):
        shown.wait("1 > 2", seconds=0.1)
    with pytest.raises(RuntimeError, match="nothing is not defined"):
        shown.value("nothing")


def test_axe_finds_what_a_screen_reader_would_miss(shown: Browser, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.html", tmp_path / "bad.html"
    good.write_text(PAGE)
    bad.write_text(PAGE.replace("<h1>", "<img src='data:,'><h1>").replace("Name ", ""))
    shown.open(good.as_uri())
    assert violations(shown) == []
    shown.open(bad.as_uri())
    assert [one.split(": ")[:2] for one in violations(shown)] == [
        ["critical", "image-alt"],
        ["critical", "label"],
    ]


def test_a_picture_is_as_large_as_it_was_asked_for(shown: Browser, tmp_path: Path) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text("<body style='margin:0'><div style='height:3000px'></div></body>")
    shown.wide(PHONE)
    shown.open(page.as_uri())
    for whole, height in ((False, 844), (True, 3000)):
        shown.picture(picture, whole=whole)
        size = picture.read_bytes()[16:24]
        assert (int.from_bytes(size[:4], "big"), int.from_bytes(size[4:], "big")) == (PHONE, height)
