"""What goes wrong around the page, and windows that are small: it says so, loses nothing, and goes on by itself."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import DESK, PHONE, WIDE, Browser, needed, started, violations
from ui_server import served
from ui_walk import choose, is_state, judged, workshop

pytestmark = pytest.mark.slow

IN_VIEW = (
    "(one => { const box = one.getBoundingClientRect(); const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];"
    " return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight && one.contains("
    "document.elementFromPoint(x, y)) })(document.querySelector('%s'))"
)
BOTTOM = "document.querySelector('%s').getBoundingClientRect().bottom"
CONFIG = "merge_method: linear\nmodels:\n  - model: talk/animals\n  - model: talk/capitals\nparameters: {weight: 0.5}\n"


@pytest.fixture(scope="module")
def shown() -> Iterator[Browser]:
    with started(needed()) as one:
        yield one


@pytest.fixture
def page(shown: Browser, tmp_path: Path) -> Iterator[Browser]:
    with served(workshop(tmp_path)) as (_, address):
        shown.wide(WIDE, 1000)
        shown.open(address)
        shown.complaints.clear()
        yield shown
        shown.open("about:blank")


def test_a_page_outlives_its_server_and_says_so_without_being_asked(shown: Browser, tmp_path: Path) -> None:
    folder = workshop(tmp_path)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = f"--port={one.getsockname()[1]}"
    away = "document.getElementById('away')"
    with served(folder, port) as (process, address):
        shown.wide(WIDE, 1000)
        shown.open(address)
        shown.value(f"mergecore.fresh({CONFIG!r}, 'mine')")
        judged(shown, "good")
        process.kill()
    shown.wait(f"!{away}.hidden && {away}.textContent.includes('does not answer')")
    shown.value("document.getElementById('text').focus()")
    shown.type("# alone\n")
    shown.click("#go")
    shown.wait("document.getElementById('said').textContent.includes('does not answer')")
    assert shown.value("document.getElementById('verdict').textContent").startswith("Not looked at")
    assert violations(shown) == []
    with served(folder, port) as (_, address):
        shown.wait(f"{away}.textContent.includes('started anew')")
        other = shown.ask("Target.createTarget", url=address)["targetId"]
        shown.wait(f"{away}.hidden")
        shown.ask("Target.closeTarget", targetId=other)
        shown.ask("Page.bringToFront")
        judged(shown, "good")
        assert shown.value("mergecore.text()") == f"# alone\n{CONFIG}"
        kept = folder / ".mergecore-ui" / "draft.json"
        shown.wait("document.getElementById('said').textContent.includes('answers again')")
        shown.wait("new Promise(done => setTimeout(() => done(true), 800))")
        assert json.loads(kept.read_text())["text"] == f"# alone\n{CONFIG}"
        shown.open("about:blank")


def test_a_tab_keeps_its_own_text_while_another_one_writes(page: Browser) -> None:
    page.value("mergecore.replace('# mine\\n')")
    page.wait("performance.getEntriesByType('resource').some(one => one.name.endsWith('/draft'))")
    other = {"text": "# of another tab\n", "name": "other.yml", "out": "", "opened": ""}
    assert page.value(f"mergecore.post('/draft', {json.dumps(other)}).then(answer => answer.status)") == 204
    page.open(page.value("location.href"))
    page.wait("window.mergecore")
    assert page.value("mergecore.text()") == "# mine\n"


def test_the_way_goes_on_below_the_button_that_ran_the_merge(page: Browser) -> None:
    assert page.value(BOTTOM % "#ask-who") < 1000, "one sees that there is more"
    page.value(f"mergecore.fresh({CONFIG!r}, 'mine')")
    judged(page, "good")
    jumped = f"{BOTTOM % '#command'} + scrollY"
    before = page.value(jumped)
    page.click("#go")
    page.wait(is_state("done"))
    page.wait("!document.getElementById('next').hidden")
    assert page.value(jumped) == before, "nothing jumps"
    assert page.value("document.getElementById('next').innerText.split(/\\s+/).join(' ')").startswith(
        "Next: Ask Evaluate Write a report"
    )
    page.click("#next a[href='#ask']")
    page.wait("document.activeElement.id == 'ask-prompts'")
    page.wait(IN_VIEW % "#ask-form .primary")
    assert violations(page) == []
    page.click("#next-report")
    page.wait("document.querySelector('.run-row').dataset.title == 'report about merged/mine'")


def test_the_models_of_a_config_are_asked_though_they_are_the_first_below_the_folder(page: Browser) -> None:
    """What is offered is the same as before then, but not what is chosen."""
    names = ["base", "mirrored", "negative", "rotated"]
    page.wait("document.querySelectorAll('#ask-who input').length > 4")
    assert page.value("document.querySelectorAll('#ask-who input:checked').length") == 1
    lines = "".join(f"  - model: models/{name}\n" for name in names)
    page.value(f"mergecore.fresh({f'merge_method: model_stock{chr(10)}models:{chr(10)}{lines}'!r}, 'mine')")
    page.wait("document.querySelectorAll('#ask-who input:checked').length == 5")


def test_what_stands_together_on_a_wide_screen_does_on_a_desk(page: Browser) -> None:
    page.wide(DESK, 800)
    page.value(f"mergecore.fresh({CONFIG!r}, 'mine')")
    judged(page, "good")
    tops = page.value(
        "['new', 'name', 'save'].map(id => document.getElementById(id).getBoundingClientRect().top)"
    )
    assert max(tops) - min(tops) < 4
    too_wide = "[...document.querySelectorAll('.facts dd')].filter(one => one.scrollWidth > one.clientWidth)"
    assert page.value(f"{too_wide}.length") == 0


def test_a_phone_leads_from_the_config_to_the_merge(page: Browser) -> None:
    page.wide(PHONE, 844)
    assert page.value("(one => one.scrollWidth - one.clientWidth)(document.querySelector('.top nav'))") <= 0
    page.value(f"mergecore.fresh({CONFIG!r}, 'mine')")
    judged(page, "good")
    page.click("#onward")
    page.wait("document.activeElement.id == 'go'")
    page.wait(IN_VIEW % "#go")
    page.value("mergecore.say('ties.yml is there already, so this config is called ties-2.yml.')")
    assert page.value("document.getElementById('said').getBoundingClientRect().width") > 300


def test_the_button_of_a_new_config_is_in_view_where_everything_is_twice_as_large(page: Browser) -> None:
    """A window of 1280 x 800 at 200 % is one of 640 x 400."""
    page.wide(640, 400)
    choose(page, "ties")
    page.value("document.querySelector('#base').scrollIntoView({block: 'center'})")
    assert page.value(IN_VIEW % "#compose .primary")


def test_a_method_to_begin_with_is_chosen_by_a_button_and_what_is_rare_is_folded(page: Browser) -> None:
    page.click("#new")
    page.click("#method [data-method=ties]")
    page.wait("document.querySelector('#compose')?.dataset.method == 'ties'")
    assert page.value("document.querySelector('#method-list input:checked').value") == "ties"
    named = "[...document.querySelectorAll('#compose %s')].filter(one => one.checkVisibility()).map(one => one.name)"
    assert page.value(named % "input[name^=p-]") == ["p-weight", "p-density"]
    page.click("#compose .rare summary")
    assert set(page.value(named % "input[name^=p-]")) > {"p-weight", "p-density", "p-lambda", "p-normalize"}
    assert violations(page) == []
