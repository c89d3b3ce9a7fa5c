"""The grid in Chromium: drawn by pointer, by touch and by keyboard, and typed in the text beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser import PHONE, WIDE, Browser, needed, started, violations
from ui_server import served

from mergecore.testing import tiny_model

TIES = """\
# ours
merge_method: ties
base_model: ./a   # the base
models:
  - {model: ./b, parameters: {weight: 0.5}}   # b
  - model: ./c
    parameters:
      weight: [0, 1]   # rising
"""
HOSTILE = "<img src=x onerror=hit=1>"


def renamed(tensors: dict[str, Any]) -> dict[str, Any]:
    """The same with a tensor whose name is HTML."""
    return {HOSTILE if name == "model.norm.weight" else name: one for name, one in tensors.items()}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("work")
    for seed, name in enumerate("abc"):
        tiny_model(folder / name, seed=seed, layers=4)
    for name in (HOSTILE, "odd"):
        tiny_model(folder / name, seed=7, layers=2, change=renamed)
    (folder / "ties.yml").write_text(TIES, encoding="utf8")
    with served(folder) as (_, found):
        yield found


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with started(needed()) as shown:
        yield shown


@pytest.fixture
def shown(tab: Browser, address: str) -> Browser:
    """The page with a config of three models, whose layers are shown."""
    tab.complaints.clear()
    tab.wide(WIDE, 1000)
    tab.open(address)
    tab.wait("window.mergecore")
    write(tab, TIES)
    tab.wait("!document.querySelector('#grid-body').hidden")
    tab.wait(f"{CELL.format(1, 1)}?.textContent")
    tab.value(f"({MODEL}.value = '0', {MODEL}.dispatchEvent(new Event('change')))")
    tab.wait(f"{CELL.format(1, 1)}.textContent == '0.5'")
    return tab


MODEL = "document.querySelector('#grid-model')"
CELL = 'document.querySelector(\'#grid-rows td[data-row="{}"][data-column="{}"]\')'


def write(tab: Browser, text: str) -> None:
    tab.value(f"mergecore.replace({text!r})")


def text_of(tab: Browser) -> str:
    return str(tab.value("mergecore.text()"))


def box(tab: Browser, row: int, column: int) -> tuple[float, float, float, float]:
    """Left, top, width and height of a cell."""
    found = tab.value(
        f"(one => [one.x, one.y, one.width, one.height])({CELL.format(row, column)}.getBoundingClientRect())"
    )
    return tuple(found)


def point(tab: Browser, row: int, column: int, share: float) -> tuple[float, float]:
    left, top, width, height = box(tab, row, column)
    return left + share * width, top + height / 2


def test_a_gradient_is_drawn_with_the_mouse_and_bent(shown: Browser) -> None:
    shown.drag([point(shown, 1, 1, 0.9), point(shown, 2, 1, 0.6), point(shown, 4, 1, 0.1)])
    shown.wait("mergecore.text().includes('role:attn')")
    assert "        - {filter: role:attn, value: [0.9, 0.1]}\n        - {value: 0.5}   # b\n" in text_of(
        shown
    )
    shown.wait(f"{CELL.format(2, 1)}.textContent == '0.63'")  # 0.9 - 0.8 / 3
    x, y = shown.middle("#grid-bend-handle")
    shown.drag([(x, y), (x - 15, y), (x - 20, y)])
    shown.wait("!mergecore.text().includes('[0.9, 0.1]')")
    assert text_of(shown).count("#") == TIES.count("#")
    shown.wait("document.querySelector('#messages').dataset.state == 'good'")
    assert shown.complaints == []


def test_a_click_sets_a_cell_and_undo_takes_it_back(shown: Browser) -> None:
    shown.drag([point(shown, 0, 0, 0.25)])
    shown.wait("mergecore.text().includes('role:embed')")
    assert "{filter: role:embed, value: 0.25}" in text_of(shown)
    shown.click("#undo")
    shown.wait(f"mergecore.text() == {TIES!r}")
    shown.wait(f"{CELL.format(0, 0)}.textContent == '0.5'")


def test_a_free_line_follows_the_pointer(shown: Browser) -> None:
    shown.click("input[value='free'] + span")
    shown.drag([point(shown, row, 2, share) for row, share in ((1, 0.1), (2, 0.8), (3, 0.3), (4, 1.0))])
    shown.wait("mergecore.text().includes('role:mlp')")
    assert "{filter: role:mlp, value: [0.1, 0.8, 0.3, 1]}" in text_of(shown)


def test_what_is_typed_in_the_text_shows_in_the_grid(shown: Browser) -> None:
    write(shown, TIES.replace("weight: 0.5", "weight: [{filter: role:norm, value: 0.75}, {value: [1, 0]}]"))
    shown.wait(f"{CELL.format(1, 3)}.textContent == '0.75'")
    assert shown.value(f"{CELL.format(1, 1)}.textContent + {CELL.format(4, 1)}.textContent") == "10"
    write(shown, TIES.replace("ties", "tiez"))
    shown.wait("document.querySelector('#grid-body').classList.contains('stale')")
    assert shown.value(f"{CELL.format(1, 3)}.textContent") == "0.75", "the last picture stays"
    write(shown, TIES)
    shown.wait("!document.querySelector('#grid-body').classList.contains('stale')")


def test_by_keyboard_cells_are_chosen_and_set(shown: Browser) -> None:
    shown.value(f"{CELL.format(1, 1)}.focus()")
    for key, shift in (("ArrowRight", False), ("ArrowDown", False), ("ArrowDown", True)):
        shown.press(key, shift=shift)
    assert shown.value("document.querySelector('#grid-chosen').textContent") == "mlp: layers 1 to 2"
    shown.press("0")
    shown.type(".2")
    shown.press("Enter")
    shown.wait("mergecore.text().includes('[0.5, 0.2, 0.2, 0.5]')")
    assert shown.value(f"document.activeElement == {CELL.format(2, 2)}"), "the focus stays where it was"
    shown.press("Escape")
    shown.press("ArrowLeft")
    shown.value("document.querySelector('#grid-head th:nth-child(3) button').click()")
    shown.value(
        "(document.querySelector('#grid-from').value = '1', document.querySelector('#grid-to').value = '0.25')"
    )
    shown.click("#grid-set")
    shown.wait("mergecore.text().includes('value: [1, 0.25]')")


def test_by_touch_a_gradient_is_drawn_on_a_phone(shown: Browser) -> None:
    shown.wide(PHONE)
    shown.value("document.querySelector('#grid-table').scrollIntoView({block: 'center'})")
    points = [point(shown, 1, 1, 0.98), point(shown, 3, 1, 0.5), point(shown, 4, 1, 0.02)]
    for kind, places in (
        ("touchStart", points[:1]),
        ("touchMove", points[1:2]),
        ("touchMove", points[2:]),
        ("touchEnd", []),
    ):
        shown.ask("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in places])
    shown.wait("mergecore.text().includes('role:attn')")
    assert "{filter: role:attn, value: [1, 0]}" in text_of(shown)


@pytest.mark.parametrize("width", [PHONE, WIDE])
def test_it_is_in_order_at_both_widths_and_in_both_colours(shown: Browser, width: int) -> None:
    shown.wide(width, 1000)
    assert shown.value("document.documentElement.scrollWidth") <= width
    for scheme in ("dark", "light"):
        shown.colours(scheme)
        assert violations(shown) == []
    assert shown.complaints == []


def test_nothing_moves_when_a_value_changes(shown: Browser) -> None:
    before = shown.value("JSON.stringify(document.querySelector('#grid').getBoundingClientRect())")
    shown.drag([point(shown, 1, 1, 0.9), point(shown, 4, 1, 0.1)])
    shown.wait("mergecore.text().includes('role:attn')")
    shown.wait("document.querySelector('#messages').dataset.state == 'good'")
    assert shown.value("JSON.stringify(document.querySelector('#grid').getBoundingClientRect())") == before


def test_names_that_look_like_a_page_are_text(shown: Browser) -> None:
    folder = shown.value("document.querySelector('.where').title")
    assert folder
    name = f"./{HOSTILE}"
    write(
        shown,
        f"merge_method: linear\nmodels:\n  - model: '{name}'\n  - model: ./odd\nparameters: {{weight: 1}}\n",
    )
    shown.wait(f"[...document.querySelector('#grid-model').options].some(one => one.text == {name!r})")
    assert shown.value("typeof hit") == "undefined"
    assert shown.complaints == []


def test_the_table_says_what_it_is(shown: Browser) -> None:
    """A reader with a screen reader hears a grid with rows, columns and which cells are selected."""
    tree: list[dict[str, Any]] = shown.ask("Accessibility.getFullAXTree")["nodes"]
    roles = [one.get("role", {}).get("value") for one in tree]
    assert roles.count("grid") == 1
    assert roles.count("gridcell") == 30
    assert {"rowheader", "columnheader"} <= set(roles)
    names = [
        one.get("name", {}).get("value") for one in tree if one.get("role", {}).get("value") == "gridcell"
    ]
    assert names.count("0.5") == 15
    assert names.count("nothing here") == 15
