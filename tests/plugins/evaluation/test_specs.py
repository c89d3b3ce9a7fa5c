"""Files that say what to evaluate with: read, and everything that is wrong with them said at its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mergecore import ConfigError, MergecoreError, Registry
from mergecore.errors import Problems
from mergecore_plugins.evaluation.specs import read_file

REGISTRY = Registry.discover()


def write(folder: Path, text: str) -> Path:
    path = folder / "eval.yml"
    path.write_text(text)
    return path


def faults(folder: Path, text: str) -> list[str]:
    path = write(folder, text)
    with pytest.raises(MergecoreError) as caught:
        read_file(path, REGISTRY)
    error = caught.value
    found = error.errors if isinstance(error, Problems) else [error]
    return [f"{one.code} {one}".replace(f"{path}", "eval.yml") for one in found]


def test_evaluations_have_names_and_paths_from_the_folder_of_the_file(tmp_path: Path) -> None:
    for name in ("in/dev.txt", "in/a.jsonl", "in/own.py", "b.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    text = f"""evaluators:
- {{evaluator: perplexity, texts: dev.txt, name: prose, window: 32}}
- {{evaluator: choices, data: [a.jsonl, {tmp_path}/b.jsonl]}}
- {{evaluator: 'python:own.py:size'}}
- {{evaluator: 'python:package.module:size', goal: min}}
"""
    first, second, third, fourth = read_file(write(tmp_path / "in", text), REGISTRY)
    params: Any = first.params
    assert (first.name, params.texts, params.window) == ("prose", tmp_path / "in" / "dev.txt", 32)
    assert (second.name, [*second.files]) == ("choices", [tmp_path / "in" / "a.jsonl", tmp_path / "b.jsonl"])
    own: Any = third.params
    assert (third.name, own.file, own.function) == ("python:own.py:size", tmp_path / "in" / "own.py", "size")
    of_package: Any = fourth.params
    assert (of_package.file, of_package.function, of_package.goal) == (None, "package.module:size", "min")


def test_a_limit_is_the_least_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "a.py").touch()
    text = "evaluators:\n- {evaluator: perplexity, texts: a, limit: 5}\n- {evaluator: 'python:a.py:f'}\n"
    first, second = read_file(write(tmp_path, text), REGISTRY)
    limits: list[Any] = [first.limited(3).params, first.limited(9).params]
    assert [one.limit for one in limits] == [3, 5]
    with pytest.raises(
        ConfigError, match="--limit: the evaluator 'python' has no parameter 'limit'"
    ) as caught:
        second.limited(3)
    assert caught.value.hint == "leave it out, or evaluate that one by itself"


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).touch()
    text = """evaluators:
- {evaluator: perplexitty, texts: a}
- {evaluator: perplexity}
- {evaluator: perplexity, texts: a, windw: 3}
- {evaluator: perplexity, texts: a, nam: x}
- {evaluator: perplexity, texts: a, window: 1}
- {evaluator: perplexity, texts: a, split: word}
- {texts: a}
- perplexity
- {evaluator: kl, texts: a, name: 3}
- {evaluator: kl, texts: 3}
- {evaluator: choices, data: a}
- {evaluator: choices, data: b}
- {evaluator: none, data: b}
evaluaters: []
"""
    found = faults(tmp_path, text)
    told = [
        "E103 eval.yml:15:1: unknown key 'evaluaters' in a file of evaluators; did you mean 'evaluators'?",
        "E108 eval.yml:2:15: unknown evaluator 'perplexitty'; did you mean 'perplexity'?",
        "E105 eval.yml:3:15: missing required parameter 'texts' of the evaluator 'perplexity'. Hint: write 'texts: …'",
        "E109 eval.yml:4:37: the evaluator 'perplexity' has no parameter 'windw'; did you mean 'window'?",
        "E103 eval.yml:5:37: unknown key 'nam' in the evaluation; did you mean 'name'?",
        "E105 eval.yml:6:45: parameter 'window' is 1; a whole number at least 2 is expected",
        "E105 eval.yml:7:44: parameter 'split' is 'word'; 'paragraph' or 'line' or 'file' is expected",
        "E104 eval.yml:8:3: an evaluation needs the name of its evaluator. Hint: write '{evaluator: perplexity, …}'",
        "E104 eval.yml:9:3: an evaluation needs the name of its evaluator.",
        "E104 eval.yml:10:35: the name of an evaluation is not a text. Hint: put it in quotes",
        "E104 eval.yml:11:26: parameter 'texts' is 3; a path or a list of paths is expected",
        "E105 eval.yml:13:3: two evaluations are called 'choices'. Hint: give one of them another 'name'",
        "E606 eval.yml:14:15: evaluator 'none': no installed plugin provides it",
    ]
    for one, wanted in zip(found, told, strict=True):
        assert one.startswith(wanted)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "E101 eval.yml:1:1: the file is empty. Hint: begin with 'evaluators:', and a list below it"),
        (
            "- {evaluator: kl}\n",
            "E104 eval.yml:1:1: a config must be a mapping of keys to values; this is a list",
        ),
        (
            "evaluators: []\n",
            "E104 eval.yml:1:13: a list of evaluators is expected. Hint: write 'evaluators: [{evaluator: …}]'",
        ),
        ("evaluators: kl\n", "E104 eval.yml:1:13: a list of evaluators is expected"),
        (
            "evaluators: [{evaluator: kl, texts: a}]\n---\nevaluators: []\n",
            "E104 eval.yml: there are 2 documents; one",
        ),
    ],
)
def test_a_file_that_is_no_list_of_evaluators(text: str, what: str, tmp_path: Path) -> None:
    assert faults(tmp_path, text)[0].startswith(what)


def test_several_documents_are_refused_with_what_to_do(tmp_path: Path) -> None:
    [told] = faults(tmp_path, "evaluators: [{evaluator: kl, texts: a}]\n---\nevaluators: []\n")
    assert told.endswith("one is expected. Hint: write a file for each")


def test_files_that_are_not_there_are_told_with_their_places(tmp_path: Path) -> None:
    (tmp_path / "heard.txt").write_text("a")
    (tmp_path / "folder").mkdir()
    text = """evaluators:
- {evaluator: perplexity, texts: hear.txt}
- evaluator: choices
  data: nosuch.jsonl
- {evaluator: kl, texts: [heard.txt, folder]}
- {evaluator: 'python:mine.py:size'}
"""
    (tmp_path / "e.yml").write_text(text)
    with pytest.raises(Problems) as caught:
        read_file(tmp_path / "e.yml", Registry.discover())
    found = [(one.code, str(one.place), one.what) for one in caught.value.errors]
    file = tmp_path / "e.yml"
    assert found == [
        (
            "E270",
            f"{file}:2:34",
            f"'texts' names {tmp_path}/hear.txt, which is not there; did you mean 'heard.txt'?",
        ),
        ("E270", f"{file}:4:9", f"'data' names {tmp_path}/nosuch.jsonl, which is not there"),
        ("E270", f"{file}:5:26", f"'texts' names {tmp_path}/folder, which is no file"),
        ("E270", f"{file}:6:15", f"'file' names {tmp_path}/mine.py, which is not there"),
    ]
