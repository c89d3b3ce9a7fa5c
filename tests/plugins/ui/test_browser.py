"""The page in a real Chromium: used as a person would, by mouse and by keyboard, on a phone and on a wide screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import DESK, PHONE, WIDE, Browser, needed, started, violations
from ui_server import served
from ui_walk import choose, is_state, judged, slow_method, walk, workshop

pytestmark = pytest.mark.slow

JUMPS = """
new PerformanceObserver(list => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.jumped = (window.jumped ?? 0) + one.value;
}).observe({type: "layout-shift", buffered: true});
"""
KEYSTROKE = """new Promise(done => {
  const list = document.getElementById("faults");
  const begin = performance.now();
  new MutationObserver((all, me) => { me.disconnect(); requestAnimationFrame(() => done(performance.now() - begin)); })
    .observe(list, {childList: true});
  document.execCommand("insertText", false, "%s");
})"""


@pytest.fixture(scope="module")
def shown() -> Iterator[Browser]:
    with started(needed()) as one:
        one.ask("Page.addScriptToEvaluateOnNewDocument", source=JUMPS)
        yield one


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page of the demo's folder, and a method that takes its time."""
    monkeypatch.setenv("PYTHONPATH", str(slow_method(tmp_path)))
    with served(workshop(tmp_path)) as (_, found):
        yield found


@pytest.fixture
def page(shown: Browser, address: str) -> Browser:
    """The page, opened in a wide window."""
    shown.open("about:blank")  # what the page before asks of its server, which is gone
    shown.complaints.clear()
    shown.colours("light")
    shown.wide(WIDE)
    shown.open(address)
    return shown


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "dark"), (WIDE, "light")])
def test_a_user_gets_from_nothing_to_a_merged_model(page: Browser, width: int, scheme: str) -> None:
    """Every state on the way fits the window, is well for a screen reader, and complains of nothing."""
    page.wide(width)
    page.colours(scheme)
    seen = []

    def see(state: str) -> None:
        seen.append(state)
        assert page.value("document.documentElement.scrollWidth") <= width, state
        assert violations(page) == [], state
        assert page.complaints == [], state

    walk(page, see)
    assert seen == ["empty", "new", "ready", "broken", "mended", "running", "stopped", "done", "reopened"]


def test_nothing_jumps_while_one_breaks_and_mends(page: Browser) -> None:
    page.value("mergecore.open('ties.yml')")
    judged(page, "good")
    page.value("window.jumped = 0")
    for old, new in (("ties", "tise"), ("density: 0.2", "density: 3"), ("models:", "models")):
        page.value(f"mergecore.replace(mergecore.text().replace('{old}', '{new}'))")
        judged(page, "bad")
        page.value("editor.undo()")
        judged(page, "good")
    assert page.value("window.jumped") < 0.01


def test_a_keystroke_is_answered_within_a_tenth_of_a_second(page: Browser) -> None:
    """From the key to the message on the screen; the median, for the machine has other things to do."""
    page.value("mergecore.open('ties.yml')")
    judged(page, "good")
    page.value("editor.area.focus(); editor.area.setSelectionRange(0, 0)")
    times = []
    for _ in range(11):
        page.value("editor.area.setSelectionRange(0, 0)")
        times.append(page.value(KEYSTROKE % "[\\n"))
        page.wait("document.getElementById('messages').dataset.state == 'bad'")
        page.value("editor.undo()")
        judged(page, "good")
    assert sorted(times)[5] < 100, times


def test_typing_in_a_long_config_is_not_slow(page: Browser) -> None:
    """The page itself takes a fraction of that time, in a config of two thousand lines too."""
    page.value(
        "mergecore.replace('merge_method: passthrough\\nslices:\\n' +"
        " '  - sources:\\n      - {model: models/base, layer_range: [0, 1]}\\n'.repeat(1000))"
    )
    page.wait("document.querySelectorAll('.gutter > div').length > 2000")
    spent = page.value(
        "(() => { editor.area.focus(); editor.area.setSelectionRange(30000, 30000);"
        " const begin = performance.now(); document.execCommand('insertText', false, 'x');"
        " document.body.offsetHeight; return performance.now() - begin })()"
    )
    assert spent < 100


def test_the_page_works_without_a_mouse(page: Browser) -> None:
    page.value("document.getElementById('new').focus()")
    page.press("Enter")
    page.wait("document.getElementById('new-dialog').open")
    page.value("document.querySelector('input[value=linear]').focus()")
    page.press(" ")
    page.wait("document.querySelector('#compose')?.dataset.method == 'linear'")
    page.value("document.querySelector('#compose input[value=\"talk/animals\"]').focus()")
    page.press(" ")
    page.press("Tab")
    page.value("document.querySelector('#compose input[value=\"talk/capitals\"]').focus()")
    page.press(" ")
    page.value("document.querySelector('#compose button').focus()")
    page.press("Enter")
    judged(page, "good")
    assert page.value("document.activeElement.id") == "text"
    page.press("Escape")
    page.press("Tab")
    assert page.value("document.activeElement.id") == "messages"
    for _ in range(30):
        if page.value("document.activeElement.id") == "go":
            break
        page.press("Tab")
    page.press("Enter")
    page.wait(is_state("done"))
    assert page.complaints == []


@pytest.mark.parametrize("width", [PHONE, WIDE])
def test_what_a_new_config_lacks_is_said_beside_a_button_in_view(page: Browser, width: int) -> None:
    page.wide(width, 800)
    choose(page, "ties")
    button = "document.querySelector('#compose .primary').getBoundingClientRect()"
    for base, words in (
        ("", "Choose a base model: the one that"),
        ("talk/base", "Choose at least one model."),
    ):
        page.value(f"document.querySelector('#base').value = {base!r}")
        page.click("#compose .primary")
        page.wait(f"document.querySelector('#compose-fault').textContent.startsWith({words!r})")
        assert page.value(f"{button}.top > 0 && {button}.bottom <= innerHeight")
        box = page.value(
            "(() => { const b = document.querySelector('#compose .primary').getBoundingClientRect();"
            "return document.elementFromPoint(b.x + b.width / 2, b.y + b.height / 2).textContent })()"
        )
        assert box == "Write the config"
    assert page.complaints == []


def test_ask_and_evaluate_do_not_move_when_a_run_begins_or_ends(page: Browser) -> None:
    """They stand before the list of runs, which grows."""
    order = page.value("[...document.querySelectorAll('.below > section')].map(one => one.id)")
    assert order == ["ask", "evaluate", "runs", "history"]
    assert page.value("[...document.querySelectorAll('.top nav a')].map(one => one.hash)").index("#ask") < 4


def test_tab_indents_and_escape_leaves_the_editor(page: Browser) -> None:
    page.value("editor.area.focus()")
    page.type("models:")
    page.press("Enter")
    page.type("- model: a")
    page.press("Enter")
    page.type("b")
    assert page.value("mergecore.text()") == "models:\n  - model: a\n    b"
    page.press("Tab", shift=True)
    assert page.value("mergecore.text()") == "models:\n  - model: a\n  b"
    page.press("Tab", shift=True)
    page.press("Tab")
    assert page.value("mergecore.text()").startswith("models:\n  - model: a\n")


def test_what_was_done_is_undone_step_by_step_and_done_again(page: Browser) -> None:
    """Also what takes the place of all of a long text, at once, which browsers are slow at."""
    page.value("editor.area.focus()")
    page.type("name: a")
    page.value("mergecore.replace('name: b\\n'.repeat(3000))")
    page.value("mergecore.fresh('name: c', 'c')")
    texts = []
    for step in ("undo", "undo", "undo", "undo", "redo", "redo", "redo", "redo"):
        page.value(f"editor.{step}()")
        texts.append(page.value("mergecore.text()")[:7])
    assert texts == ["name: b", "name: a", "", "", "name: a", "name: b", "name: c", "name: c"]
    page.value("editor.area.focus()")
    keys = {"key": "z", "code": "KeyZ", "windowsVirtualKeyCode": 90, "modifiers": 2}
    page.ask("Input.dispatchKeyEvent", type="keyDown", **keys)
    assert page.value("mergecore.text()")[:7] == "name: b"


def test_a_line_of_a_message_leads_to_the_line(page: Browser) -> None:
    page.value("mergecore.open('ties.yml')")
    judged(page, "good")
    page.value("mergecore.replace(mergecore.text().replace('density: 0.2', 'density: 3'))")
    judged(page, "bad")
    page.click("#faults button")
    at = page.value("editor.area.selectionStart")
    assert page.value("mergecore.text()")[at:].startswith("3}")
    assert page.value("document.activeElement.id") == "text"


def test_what_is_typed_survives_a_reload(page: Browser) -> None:
    page.value("mergecore.replace('# mine\\nmerge_method: linear\\n')")
    page.wait("performance.getEntriesByType('resource').some(one => one.name.endsWith('/draft'))")
    page.open(page.value("location.href"))
    assert page.value("mergecore.text()") == "# mine\nmerge_method: linear\n"


def test_buttons_edit_the_text_and_show_what_it_says(page: Browser) -> None:
    page.value("mergecore.open('ties.yml')")
    judged(page, "good")
    before = page.value("mergecore.text()")
    page.value(
        "(one => { one.value = 'float32'; one.dispatchEvent(new Event('change')) })"
        "(document.getElementById('dtype'))"
    )
    page.wait("mergecore.text().includes('dtype: float32')")
    assert page.value("mergecore.text()").startswith("# Keep the largest fifth")
    page.click("#undo")
    page.wait("!mergecore.text().includes('dtype')")
    page.wait("document.getElementById('dtype').value == ''")
    page.click("#add-model")
    page.wait("!!document.querySelector('#models-list input')")
    page.click('#models-list input[value="talk/base"]')
    page.click("#models-form button")
    page.wait("mergecore.text().includes('talk/base')")
    page.click("#undo")
    page.wait("!mergecore.text().includes('talk/base')")
    assert page.value("mergecore.text()") == before


def test_names_with_scripts_in_them_run_nothing(page: Browser, tmp_path: Path) -> None:
    name = "<img src=x onerror=document.title=1>"
    page.value(f"mergecore.replace('merge_method: {name}\\nmodels:\\n  - model: \"{name}\"\\n')")
    judged(page, "bad")
    assert name in page.value("document.getElementById('faults').innerText")
    page.value(f"mergecore.say('{name}')")
    page.value(f"document.getElementById('out').value = 'merged/{name}'; mergecore.open('{name}.yml')")
    page.wait("document.getElementById('said').innerText.includes('<img')")
    assert page.value("document.querySelectorAll('img').length") == 1
    assert page.value("document.title") != "1"


def test_a_server_that_is_gone_is_missed(page: Browser, address: str) -> None:
    with_port = address.partition("/?")[0]
    assert page.value("location.origin") == with_port
    page.value("window.fetch = () => Promise.reject(new TypeError('no server'))")
    page.value("editor.area.focus()")
    page.type("x")
    page.wait("document.getElementById('away').innerText.includes('does not answer')")
    assert page.value("mergecore.text()") == "x"


def test_a_desk_is_wide_enough(page: Browser) -> None:
    page.wide(DESK)
    choose(page, "ties")
    assert page.value("document.documentElement.scrollWidth") <= DESK
