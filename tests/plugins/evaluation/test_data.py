"""Wrong data: everything that is wrong, at its line, before any weight is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mergecore import Evaluator, InputError, MergecoreError, Registry
from mergecore.errors import Problems
from mergecore_plugins.evaluation.evaluators.data import FAULTS, texts

REGISTRY = Registry.discover()


def faults(name: str, path: Path, **more: Any) -> list[str]:
    evaluator: Evaluator[Any] = REGISTRY.get(Evaluator, name)
    key = "texts" if name == "perplexity" else "data"
    with pytest.raises(MergecoreError) as caught:
        evaluator.check(evaluator.params.model_validate({key: str(path), **more}), ())
    error = caught.value
    found = error.errors if isinstance(error, Problems) else [error]
    assert {one.code for one in found} <= {"E270"}
    return [str(one).removeprefix(f"{path}:") for one in found]


def lines(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in rows) + "\n")
    return path


GOOD = {"prompt": "a", "choices": ["b", "c"], "answer": 0}


def test_every_line_that_is_wrong_is_told(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "q.jsonl",
        GOOD,
        "{not json",
        [1],
        {**GOOD, "prompt": 3},
        {"promt": "a"},
        {**GOOD, "choices": "b"},
        {**GOOD, "choices": ["b", "b"]},
        {**GOOD, "answer": 2},
        {**GOOD, "answer": True},
        "",
        {**GOOD, "answer": "B"},
    )
    found = faults("choices", path)
    told = [
        ("2", "not valid JSON"),
        ("3", "the line is a list; an object is expected. Hint: write {…} on every line"),
        ("4", "'prompt' is a number; text is expected"),
        ("5", "there is no 'prompt'; did you mean 'promt'? Hint: each line needs 'prompt'"),
        ("6", '\'choices\' is not a list of two texts or more. Hint: write "choices": ["…", "…"]'),
        ("7", "two choices are the same, or one is empty. Hint: each choice needs a text of its own"),
        (
            "8",
            "'answer' is 2; a number from 0 to 1, or one of the choices, is expected. Hint: the first choice is 0",
        ),
        ("9", "'answer' is True; a number from 0 to 1"),
        ("11", "'answer' is 'B'; a number from 0 to 1"),
    ]
    assert len(found) == len(told)
    for one, (line, text) in zip(found, told, strict=True):
        assert one.startswith(f"{line}: ")
        assert text in one


def test_questions_that_cannot_be_compared_are_told(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "q.jsonl",
        {"prompt": "a", "answer": "none"},
        {"prompt": "a"},
        {"prompt": "a", "answer": []},
        {"messages": [], "answer": 1},
        {"messages": [{"role": "user"}], "answer": 1},
        {"prompt": "a", "answer": ["1", 2.5]},
    )
    found = faults("match", path, compare="numeric")
    assert found[0] == (
        "1: 'answer': 'none' holds no number. Hint: compare: numeric needs one; another way to compare may do"
    )
    wanted = '\'answer\' is not a text, a number, or a list of them. Hint: write "answer": "…"'
    assert found[1:3] == [f"2: {wanted}", f"3: {wanted}"]
    wanted = "'messages' is not a list of objects with 'role' and 'content', both texts."
    assert [one.partition(" Hint")[0] for one in found[3:]] == [f"4: {wanted}", f"5: {wanted}"]
    assert '[{"role": "user", "content": "…"}]' in found[3]
    path = lines(tmp_path / "q.jsonl", {"prompt": "a", "answer": "("})
    assert "'answer': not a regular expression" in faults("match", path, compare="regex")[0]


def test_files_that_are_not_there_or_say_nothing(tmp_path: Path) -> None:
    assert faults("perplexity", tmp_path / "none.txt") == [" missing"]
    empty = lines(tmp_path / "e.jsonl", "")
    assert faults("choices", empty) == [" there are no samples. Hint: name files that have some"]
    (tmp_path / "latin.txt").write_bytes(b"one\ntwo\nth\xe9\n")
    assert faults("perplexity", tmp_path / "latin.txt") == [
        "3: the file is not UTF-8. Hint: save it as UTF-8"
    ]
    blank = lines(tmp_path / "t.jsonl", {"text": " "}, {"text": None}, {"body": "x"})
    assert faults("perplexity", blank) == [
        "1: 'text' is empty. Hint: remove the line",
        "2: 'text' is nothing; text is expected",
        "3: there is no 'text'; it has body. Hint: each line needs 'text'",
    ]


def test_of_many_wrong_lines_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", *[[number] for number in range(FAULTS + 7)])
    found = faults("perplexity", path)
    assert len(found) == FAULTS + 1
    assert found[-1] == " 7 more lines are wrong"


def test_no_file_at_all_is_told() -> None:
    with pytest.raises(InputError, match="no file is named: there are no samples"):
        texts((), "text", "line")
