"""Answers that models make and how they are compared; functions of the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scored_models import TALK, plain, scores, write_rows

from mergecore import ConfigError, InputError, PluginError
from mergecore.testing import tiny_model
from mergecore_plugins.evaluation.models import opened

# ---- match -----------------------------------------------------------------------------------------------


def answered(folder: Path, prompt: str, most: int) -> tuple[str, bool]:
    module, tokenizer = plain(folder)
    tokens = tokenizer(prompt, return_tensors="pt")
    with torch.inference_mode():
        made = module.generate(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            max_new_tokens=most,
            do_sample=False,
            pad_token_id=0,
        )
    new = made[0, tokens.input_ids.shape[1] :]
    ended = int(new[-1]) == module.generation_config.eos_token_id
    return str(tokenizer.decode(new, skip_special_tokens=True)).strip(), not ended


PROMPTS = ("the cow says", "the capital of france is", "the owl says", "the capital of italy is")


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("most", [1, 4])
def test_answers_are_those_of_a_plain_loop_however_they_are_padded(
    tmp_path: Path, batch: int, most: int
) -> None:
    said = [answered(TALK / "animals", one, most) for one in PROMPTS]
    rows = [{"prompt": one, "answer": text or "?"} for one, (text, _) in zip(PROMPTS, said, strict=True)]
    rows[0]["answer"] = "something else"
    data = write_rows(tmp_path / "q.jsonl", rows)
    given = {"data": str(data), "compare": "exact", "max_tokens": most, "batch": batch}
    found = scores("match", opened(TALK / "animals"), **given)["accuracy"]
    assert found.per_sample == (0.0, 1.0, 1.0, 1.0)
    assert found.truncated == sum(cut for _, cut in said) / 4
    assert found.empty == sum(not text for text, _ in said) / 4


def test_an_answer_ends_where_a_text_stops_it(tmp_path: Path) -> None:
    text, _ = answered(TALK / "animals", PROMPTS[0], 3)
    letter = text[1]
    rows = [{"prompt": PROMPTS[0], "answer": text.partition(letter)[0]}]
    data = write_rows(tmp_path / "q.jsonl", rows)
    given = {"data": str(data), "compare": "exact", "max_tokens": 3, "stop": letter}
    found = scores("match", opened(TALK / "animals"), **given)["accuracy"]
    assert (found.value, found.truncated) == (1.0, 0.0)


@pytest.mark.parametrize("stop", ["", ("a", "")])
def test_an_empty_text_stops_no_answer(stop: Any) -> None:
    with pytest.raises(ValueError, match="an empty text would end every answer before it begins"):
        scores("match", opened(TALK / "animals"), data="q.jsonl", stop=stop)


TEMPLATE = "{% for one in messages %}{{ one.content }} {% endfor %}"


def test_a_model_with_a_template_is_asked_through_it(tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "chats"
    shutil.copytree(TALK / "animals", folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    said = {
        text: answered(folder, text, 2)[0] for text in ("cow the cow says ", "the cow says ", "the cow says")
    }
    for row, more, text in (
        ({"prompt": "the cow says"}, {"system": "cow"}, "cow the cow says "),
        ({"prompt": "the cow says"}, {}, "the cow says "),
        ({"prompt": "the cow says"}, {"chat": "never"}, "the cow says"),
        (
            {"messages": [{"role": "user", "content": "cow"}, {"role": "user", "content": "the cow says"}]},
            {},
            "cow the cow says ",
        ),
    ):
        data = write_rows(tmp_path / "q.jsonl", [{**row, "answer": said[text]}])
        given = {"data": str(data), "compare": "exact", "max_tokens": 2, **more}
        assert scores("match", opened(folder), **given)["accuracy"].value == 1.0, text


@pytest.mark.parametrize(
    ("compare", "expected", "answer", "right"),
    [
        ("exact", "The Cat", " The Cat\n", True),
        ("exact", "The Cat", "the cat", False),
        ("normalised", "The cat.", "  CAT !", True),
        ("normalised", "\uff23afé", "cafe\u0301", True),
        ("normalised", "dog", "dogs", False),
        ("regex", "^ab+$", "abbb", True),
        ("regex", "^ab+$", "abc", False),
        ("numeric", "1,234.50", "so it is $1234.5 in all", True),
        ("numeric", "... #### 72", "it is 70, no, 72.", True),
        ("numeric", "72", "72 or 73", False),
        ("numeric", "-3", "\u22123", True),
        ("numeric", "3", "5-3", True),
        ("numeric", "0.1", ".1", True),
        ("numeric", "7", "none", False),
        ("numeric", "1e3", "1000", True),
    ],
)
def test_how_answers_are_compared(compare: Any, expected: str, answer: str, right: bool) -> None:
    from mergecore_plugins.evaluation.evaluators.answers import comparison

    text = " ".join(answer.split()) if compare == "exact" else answer
    assert comparison(compare, [expected])(text) is right


def test_models_that_cannot_be_asked_are_refused(tmp_path: Path) -> None:
    model = opened(TALK / "base")
    long = write_rows(tmp_path / "long.jsonl", [{"prompt": "the cow says", "answer": "moo"}])
    with pytest.raises(InputError, match="leaves no room for 100000 in") as caught:
        scores("match", model, data=str(long), max_tokens=100_000)
    assert caught.value.hint == "shorten it, or lower 'max_tokens'"
    with pytest.raises(
        InputError, match="it has no chat template, which a conversation or 'system' needs"
    ) as caught:
        scores("match", model, data=str(long), chat="always")
    assert caught.value.hint == "give the model one, or prompts without"


def test_a_template_that_refuses_a_conversation_is_told(tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "chats"
    shutil.copytree(TALK / "base", folder)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    data = write_rows(tmp_path / "q.jsonl", [{"prompt": "a", "answer": "b"}])
    with pytest.raises(
        InputError, match="its chat template refuses a conversation: roles must alternate"
    ) as caught:
        scores("match", opened(folder), data=str(data))
    assert caught.value.hint == "ask otherwise, or 'chat: never'"


def test_nothing_to_begin_with_is_told(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "bare")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    data = write_rows(tmp_path / "q.jsonl", [{"prompt": "", "answer": "b", "choices": ["a", "b"]}])
    with pytest.raises(InputError, match="a prompt is nothing to its tokenizer") as caught:
        scores("match", opened(folder), data=str(data), max_tokens=2)
    assert caught.value.hint == "write prompts that are not empty"
    with pytest.raises(
        InputError, match="its tokenizer has no token to begin a text with, and a prompt is empty"
    ):
        scores("choices", opened(folder), data=str(data))


# ---- python ----------------------------------------------------------------------------------------------


def test_a_function_of_a_file_says_how_good_a_model_is(sharp: Path, code: Path) -> None:
    model = opened(sharp)
    count = sum(one.numel() for one in plain(sharp)[0].parameters())
    found = scores("python", model, file=str(code), function="size", arguments={"more": 2}, goal="min")
    assert (found["size"].value, found["size"].goal) == (count + 2, "min")
    assert {
        name: one.value for name, one in scores("python", model, file=str(code), function="two").items()
    } == {
        "a": 1.0,
        "b": 2.5,
    }
    assert scores("python", model, file=str(code), function="own")["mine"].per_sample == (0.0, 1.0)


def test_a_function_of_an_installed_module(sharp: Path) -> None:
    found = scores("python", opened(sharp), function="operator:length_hint", arguments={})
    assert found["length_hint"].value == 0.0


@pytest.mark.parametrize(
    ("given", "what", "hint"),
    [
        ({"function": "sise"}, r"there is no function 'sise' in .*; did you mean 'size'\?", "it has "),
        ({"function": "mod:size"}, "'mod:size' does not name a function", "write 'python:FILE.py:NAME' or"),
        (
            {"function": "x", "file": "no.py"},
            "'no.py' cannot be imported: FileNotFoundError",
            "paths are relative to",
        ),
        (
            {"function": "x", "file": "lacks.py"},
            "line 2: ModuleNotFoundError: .* 'not_there'",
            "install 'not_there', or",
        ),
        (
            {"function": "x", "file": "slip.py"},
            "'slip.py' cannot be imported: SyntaxError",
            "correct 'slip.py'",
        ),
        (
            {"function": "not_there.x:y", "file": None},
            "'not_there.x' cannot be imported",
            "install the package",
        ),
        ({"function": "size", "data": "no.csv"}, "is to read 'no.csv', which is not there", "correct 'data'"),
    ],
)
def test_functions_that_are_not_there_are_told(
    given: dict[str, str | None],
    what: str,
    hint: str,
    sharp: Path,
    code: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(code.parent)
    Path("lacks.py").write_text("import json\nimport not_there.deep\n")
    Path("slip.py").write_text("def x(:\n")
    with pytest.raises(ConfigError, match=what) as caught:
        scores("python", opened(sharp), **({"file": str(code)} | given))
    assert (caught.value.hint or "").startswith(hint)


@pytest.mark.parametrize(
    ("name", "why"),
    [("fails", "ValueError: no luck"), ("odd", "TypeError: it returns a list that is not of scores")],
)
def test_a_function_that_fails_is_told(name: str, why: str, sharp: Path, code: Path) -> None:
    with pytest.raises(PluginError, match=f"the function '{name}' failed: {why}") as caught:
        scores("python", opened(sharp), file=str(code), function=name)
    assert caught.value.hint == "--debug shows where"
