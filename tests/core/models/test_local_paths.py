"""Paths of this machine are shortened to their last component."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergecore.models.local_paths import without_local_paths
from mergecore.types import AdapterReference, Checkpoint, Json, ModelReference

USERS, ROOT = "/Users", "/root"
"""Where homes lie."""


def shortened(text: Json, *models: Checkpoint) -> Json:
    return without_local_paths({"text": text}, models)["text"]


def model(path: str, folder: str = "/elsewhere/else", adapter: str | None = None) -> Checkpoint:
    reference = ModelReference(path, adapters=(AdapterReference(adapter),) if adapter else ())
    return Checkpoint(reference, Path(folder), {}, ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/models/a", "a"),
        ("/home/me/models/a/", "a"),
        ("~/models/a", "a"),
        ("./models/a", "./models/a"),
        ("owner/name", "owner/name"),
        ("see /data/me", "see /data/me"),  # no path of a model, and more than a path
        ("~me/models/a", "a"),
        ("../../me/models/a", "a"),
        ("models/../../me/a", "a"),
        ("../a/", "a"),
        ("..", "model"),
        (r"C:\Users\me\models\a", "a"),
        (r"\\server\me\a", "a"),
        ("D:/models/a", "a"),
        # within a text, what lies at somebody's home
        ("made from /home/me/models/a.", "made from a."),
        (f"{{# {USERS}/me/x.jinja #}}", "{# x.jinja #}"),
        (f"in '{ROOT}/secret/a'", "in 'a'"),
        ("of ~/models/a, and b", "of a, and b"),
        (r"see C:\Users\me\a b", "see a b"),
        (["/home/me/a", {"x": "~/b/c"}], ["a", {"x": "c"}]),
        # no paths of this machine
        ("and/or </s> a/b [/INST] <</SYS>>", "and/or </s> a/b [/INST] <</SYS>>"),
        ("https://example.org/home/x", "https://example.org/home/x"),
        ("about ~ 5 and ~approx", "about ~ 5 and ~approx"),
        ("re:(a|b)/../c", "re:(a|b)/../c"),
        ("a..b/c", "a..b/c"),
        ("/", "/"),
        ("", ""),
        (None, None),
        (3, 3),
    ],
)
def test_a_text_that_is_an_absolute_path_is_shortened(text: Json, expected: Json) -> None:
    assert shortened(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/m/base+/data/lora", "base+lora"),
        ("/data/m/base: no tokenizer", "base: no tokenizer"),
        ("/data/m/base2", "base2"),
        ("the files of /data/m/base2", "the files of /data/m/base2"),
        ("/data/m/base/config.json:3:1: bad", "base/config.json:3:1: bad"),
        ("/elsewhere/else", "else"),
        ({"/data/lora": ["/data/m/base", True]}, {"lora": ["base", True]}),
    ],
)
def test_the_path_of_a_model_is_shortened_within_a_text(text: Json, expected: Json) -> None:
    assert shortened(text, model("/data/m/base", adapter="/data/lora")) == expected


def test_the_longest_path_goes_first() -> None:
    assert shortened("/data/m/a", model("/data/m"), model("/data/m/a")) == "a"


def test_a_path_with_a_line_break_is_shortened_too() -> None:
    assert shortened("/data/x\n/a and", model("/data/x\n/a")) == "a and"


def test_a_model_above_is_called_as_its_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    above = Checkpoint(ModelReference("../.."), tmp_path / "inner" / "..", {}, ())
    assert shortened("weights of ../..", above) == f"weights of {tmp_path.name}"


def test_a_relative_path_of_a_model_is_shortened_within_a_text() -> None:
    assert shortened("../me/a: no tokenizer", model("../me/a")) == "a: no tokenizer"
    assert shortened("../me/a+../lora/b", model("../me/a", adapter="../lora/b")) == "a+b"
