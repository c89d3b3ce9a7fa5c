"""A merge in memory is asked and evaluated in Chromium, beside the models that it is made of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import PHONE, WIDE, Browser, needed, started, violations
from ui_server import served

from mergecore.testing import tiny_model

CONFIG = "merge_method: linear\nmodels:\n  - model: ./a\n  - model: ./b\nparameters: {weight: 0.5}\n"
EVALUATORS = "evaluators:\n  - {evaluator: perplexity, texts: dev.txt}\n"
HOSTILE = "<img src=x onerror=hit=1>"
TIME = 180.0
"""Seconds that a command may take while others run."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The page of a folder with two models and a text."""
    folder = tmp_path_factory.mktemp("work")
    for seed, name in enumerate("ab"):
        tiny_model(folder / name, seed=seed)
    (folder / "dev.txt").write_text("she sat on a tin\n\nthe hint is a tin\n" * 8, encoding="utf8")
    (folder / "eval.yml").write_text(EVALUATORS, encoding="utf8")
    (folder / "aside").mkdir()
    (folder / "aside" / "eval.yml").write_text(EVALUATORS, encoding="utf8")
    (folder / "ties.yml").write_text(CONFIG, encoding="utf8")
    with served(folder) as (_, address), started(needed()) as tab:
        tab.wide(WIDE, 1000)
        tab.open(address)
        tab.wait("window.mergecore")
        tab.value(f"mergecore.replace({CONFIG!r})")
        tab.wait("document.querySelectorAll('#ask-who input:checked').length == 3")
        yield tab


def state(shown: Browser, panel: str) -> str:
    """What has become of what was asked last."""
    over = ["done", "failed", "stopped"]
    shown.wait(f"{over}.includes(document.querySelector('#{panel}-result .tried')?.dataset.state)", TIME)
    return str(shown.value(f"document.querySelector('#{panel}-result .tried').dataset.state"))


def test_the_merge_answers_beside_its_parents(shown: Browser) -> None:
    shown.click("#ask-prompts")
    shown.type(f"the hint\n{HOSTILE}")
    shown.value("document.querySelector('#ask-tokens').value = 4")
    shown.click("#ask-form button.primary")
    assert state(shown, "ask") == "done"
    assert shown.value("[...document.querySelectorAll('#ask-result h3')].map(one => one.textContent)") == [
        "the hint",
        HOSTILE,
    ]
    assert shown.value("[...document.querySelectorAll('#ask-result dt')].map(one => one.textContent)") == [
        *("this merge", "./a", "./b") * 2
    ]
    answers = shown.value("[...document.querySelectorAll('#ask-result dd')].map(one => one.textContent)")
    assert all(one.strip() not in ("", "…", "no answer") for one in answers)
    assert "mergecore chat" in shown.value("document.querySelector('#ask-command').textContent")
    assert shown.value("typeof hit") == "undefined"


def test_a_file_of_evaluators_is_chosen_before_texts_are(shown: Browser) -> None:
    shown.wait("document.querySelector('#evaluate-data').value == 'eval.yml'")
    assert shown.value("[...document.querySelector('#evaluate-data').options].map(one => one.value)") == [
        *("", "aside/eval.yml", "eval.yml", "dev.txt")
    ], "what lies beside other models is offered, and not chosen"


def test_a_new_config_says_why_it_has_another_name_than_its_method(shown: Browser) -> None:
    shown.value(f"mergecore.fresh({CONFIG!r}, 'ties')")
    assert shown.value("document.querySelector('#said').textContent") == (
        "ties.yml is there already, so this config is called ties-2.yml."
    )


def evaluate(shown: Browser) -> None:
    """Evaluate with the text, once in each browser."""
    if shown.value("!!document.querySelector('#evaluate-result tbody')"):
        return
    shown.wait("document.querySelector('#evaluate-data').value == 'eval.yml'")
    shown.value("document.querySelector('#evaluate-data').value = 'dev.txt'")
    shown.click("#evaluate-form button.primary")
    assert state(shown, "evaluate") == "done", shown.value(
        "document.querySelector('#evaluate-result').textContent"
    )


def test_the_merge_is_evaluated_with_a_text(shown: Browser) -> None:
    evaluate(shown)
    rows = shown.value(
        "[...document.querySelector('#evaluate-result tbody').rows]"
        ".map(row => [...row.cells].map(one => one.textContent))"
    )
    assert [row[0] for row in rows] == ["this merge", "./a", "./b"]
    assert all(float(row[1].replace(" (best)", "")) > 1 for row in rows), "the perplexity of each"
    assert rows[0][4] == "compared with"
    assert {row[4].partition(":")[0] for row in rows[1:]} <= {"better", "worse", "within noise"}
    assert "mergecore evaluate" in shown.value("document.querySelector('#evaluate-command').textContent")
    assert shown.value("document.querySelector('#now-words').textContent") == "No run yet.", (
        "no merge was run"
    )


@pytest.mark.parametrize("width", [PHONE, WIDE])
def test_both_are_in_order_at_both_widths_and_in_both_colours(shown: Browser, width: int) -> None:
    evaluate(shown)
    shown.wide(width, 1000)
    assert shown.value("document.documentElement.scrollWidth") <= width
    beyond = "[...document.querySelectorAll('#evaluate-result .wide')].map(one => one.scrollWidth - one.clientWidth)"
    assert max(shown.value(beyond)) <= 1, "differences and verdicts are in view, but for a rounded pixel"
    for scheme in ("dark", "light"):
        shown.colours(scheme)
        assert violations(shown) == []
    assert shown.complaints == []
