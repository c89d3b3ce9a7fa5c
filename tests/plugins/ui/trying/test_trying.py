"""Asking and evaluating on the page: the command lines, what becomes of their output, and what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient
from ui_server import CONFIG, HERE, KEY, PORT

from mergecore.files import parse_documents
from mergecore_plugins.ui.runs.run import Run
from mergecore_plugins.ui.server.app import make_app
from mergecore_plugins.ui.trying import ASK, EVALUATE
from mergecore_plugins.ui.trying.data import data_below, file_of
from mergecore_plugins.ui.trying.results import MERGE, Answer, answers, scores
from mergecore_plugins.ui.trying.words import Examination, Question, chat, evaluate


@pytest.fixture
def page(folder: Path) -> Iterator[TestClient]:
    """A server with these two parts."""
    app = make_app(folder, KEY, PORT, panels=(ASK, EVALUATE))
    with TestClient(app, base_url=HERE, client=("127.0.0.1", 50000), headers={"origin": HERE}) as client:
        assert client.get("/", params={"token": KEY}).status_code == 200
        yield client


ASKED: dict[str, Any] = {"text": CONFIG, "merge": True, "models": ["./a", "./b"]}


def test_a_question_is_the_command_that_one_would_type() -> None:
    asked = Question.model_validate({**ASKED, "prompts": ["-x", "two"], "tokens": 9})
    assert chat(asked) == [
        *("chat", "{config}", "./a", "./b", "--prompt=-x", "--prompt=two", "--max-tokens=9", "--offline")
    ]
    alone = Question.model_validate(
        {"text": "", "merge": False, "models": ["org/name"], "prompts": ["x"], "raw": True, "online": True}
    )
    assert chat(alone) == ["chat", "org/name", "--prompt=x", "--max-tokens=60", "--raw"]
    exam = Examination.model_validate({**ASKED, "data": "eval.yml", "limit": 5})
    assert evaluate(exam, "eval.yml") == [
        *("evaluate", "{config}", "./a", "./b", "--with=eval.yml", "--no-parents", "--limit=5", "--offline")
    ]


@pytest.mark.parametrize("name", ["--json", "", "a\0b"])
def test_what_is_no_model_is_not_asked(name: str) -> None:
    with pytest.raises(ValidationError, match="a model is a folder or a name on the hub"):
        Question.model_validate({**ASKED, "models": [name], "prompts": ["x"]})


def a_run(folder: Path, words: list[str], output: str) -> Run:
    (folder / "out.log").write_text(output, encoding="utf8")
    return Run(1, folder, words, "a run", state="running")


def test_answers_are_shown_as_far_as_they_are_there(tmp_path: Path) -> None:
    words = ["chat", "{config}", "./a", "--prompt=one", "--prompt=two=2", "--max-tokens=5"]
    said = [
        {"model": f"{tmp_path}/config.yml", "prompt": "one", "answer": "<b>", "complete": False},
        {"model": "./a", "prompt": "one", "answer": "A", "complete": True},
        {"model": f"{tmp_path}/config.yml", "prompt": "two=2", "answer": "", "complete": True},
    ]
    output = "".join(json.dumps(one) + "\n" for one in said) + '{"model": "./a", "pro'
    assert answers(a_run(tmp_path, words, output)) == [
        ("one", [Answer(MERGE, "<b>", complete=False), Answer("./a", "A")]),
        ("two=2", [Answer(MERGE, ""), Answer("./a", None)]),
    ]


def test_scores_are_shown_with_intervals_and_words(tmp_path: Path) -> None:
    merge = f"{tmp_path}/config.yml"
    result = {"samples": 40, "low": 7.5, "high": 8.5, "best": False}
    found = {
        "against": merge,
        "warnings": ["prose: ./a: 50% of the answers are cut off"],
        "evaluations": [
            {
                "name": "prose",
                "scores": [
                    {
                        "name": "perplexity",
                        "goal": "min",
                        "results": [
                            {"model": merge, "value": 8.0, **result},
                            {"model": "./a", "value": 7.0, **result, "best": True},
                            {"model": "./b", "value": None, "why": "it has no tokenizer"},
                        ],
                        "differences": [
                            {"model": "./a", "value": -1.0, "low": -1.5, "high": -0.5, "words": "better"},
                        ],
                    }
                ],
            }
        ],
    }
    [table], warnings = scores(a_run(tmp_path, ["evaluate"], json.dumps(found)))
    assert (table.title, table.about) == ("prose: perplexity", "40 samples; less is better")
    assert table.against == MERGE
    rows = [(one.model, one.value, one.interval, one.difference, one.words, one.best) for one in table.rows]
    minus = "\N{MINUS SIGN}"
    assert rows == [
        (MERGE, "8", "7.5 to 8.5", "", "compared with", False),
        ("./a", "7", "7.5 to 8.5", f"{minus}1 ({minus}1.5 to {minus}0.5)", "better", True),
        ("./b", "–", "", "", "it has no tokenizer", False),
    ]
    assert warnings == found["warnings"]
    assert scores(a_run(tmp_path, ["evaluate"], '{"evalu')) == ([], [])


def test_files_of_evaluators_come_first_and_those_of_models_not_at_all(folder: Path) -> None:
    (folder / "z.yml").write_text("# ours\nevaluators: []\n", encoding="utf8")
    (folder / "texts").mkdir()
    (folder / "texts" / "it's.txt").write_text("a\n", encoding="utf8")
    (folder / "empty.txt").write_text("", encoding="utf8")
    (folder / "a" / "notes.txt").write_text("a\n", encoding="utf8")
    (folder / ".hidden.txt").write_text("a\n", encoding="utf8")
    (folder / "link.txt").symlink_to(folder / "texts" / "it's.txt")
    (folder / "odd.yml").write_bytes(b"\xff\nevaluators:")
    found = data_below(folder)
    assert [(one.path, one.kind) for one in found] == [
        ("z.yml", "evaluators"),
        ("texts/it's.txt", "a text, for its perplexity"),
    ]
    assert file_of(folder, found[0]) == "z.yml"
    made = folder / file_of(folder, found[1])
    document: Any = parse_documents(made.read_text(encoding="utf8"))[0].data
    [one] = document["evaluators"]
    assert one["evaluator"] == "perplexity"
    assert (made.parent / one["texts"]).resolve() == folder / "texts" / "it's.txt"


REFUSED = [
    ("/ask", {**ASKED, "merge": False, "models": [], "prompts": ["x"]}, "choose who is to answer"),
    ("/ask", {**ASKED, "text": "merge_method: no", "prompts": ["x"]}, "the config cannot be merged yet"),
    ("/evaluate", {**ASKED, "merge": False, "models": [], "data": "x"}, "choose who is to be evaluated"),
    ("/evaluate", {**ASKED, "data": "../x"}, "choose what to evaluate with; it must lie below this folder"),
]


@pytest.mark.parametrize(("url", "asked", "message"), REFUSED)
def test_what_the_command_line_would_refuse_is_not_run(
    page: TestClient, url: str, asked: dict[str, Any], message: str
) -> None:
    answer = page.post(url, json=asked)
    assert answer.status_code == 422
    assert answer.json()["message"].startswith(message)
    assert "run-1" not in page.get("/runs").text


@pytest.mark.parametrize(
    "asked", [{}, {**ASKED, "prompts": []}, {**ASKED, "prompts": ["x"], "models": ["-x"]}]
)
def test_what_no_page_asks_is_refused(page: TestClient, asked: dict[str, Any]) -> None:
    assert page.post("/ask", json=asked).status_code == 400


def test_a_question_is_a_run_and_its_answers_are_only_asked_of_it(page: TestClient) -> None:
    hostile = "<script>alert(1)</script>"
    number = page.post("/ask", json={**ASKED, "prompts": [hostile]}).json()["number"]
    shown = page.get(f"/ask/{number}")
    assert hostile not in shown.text
    assert "&lt;script&gt;" in shown.text
    assert page.get(f"/evaluate/{number}").status_code == 404
    assert page.get("/ask/99").status_code == 404
    end = time.monotonic() + 120
    while 'data-live="yes"' in (text := page.get(f"/ask/{number}").text) and time.monotonic() < end:
        time.sleep(0.1)
    assert "That did not work." in text, "these models have no tokenizer"
    assert "mergecore chat .mergecore-ui/runs/1/config.yml ./a ./b" in text


def test_messages_speak_of_this_merge_and_not_of_a_file_of_the_page(tmp_path: Path) -> None:
    run = a_run(tmp_path, ["evaluate", "{config}"], "")
    (run.folder / "err.log").write_text(
        f"E271 {run.folder.as_posix()}/config.yml: no text\n", encoding="utf8"
    )
    assert run.told == "E271 this merge: no text\n"


def test_the_page_offers_what_to_evaluate_with(page: TestClient, folder: Path) -> None:
    (folder / "dev.txt").write_text("a text\n", encoding="utf8")
    assert page.get("/evaluate/data").json() == [{"path": "dev.txt", "kind": "a text, for its perplexity"}]
