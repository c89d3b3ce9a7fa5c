"""The terms under which the parts may be used are carried, all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from workshop import Workshop


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    made = Workshop(tmp_path)
    for name in "abc":
        made.model(name)
    return made


def texts(out: Path) -> dict[str, str]:
    return {
        one.name: one.read_text() for one in out.iterdir() if "LICENSE" in one.name or "NOTICE" in one.name
    }


def test_terms_of_all_models_are_carried_under_names_that_tell_them_apart(shop: Workshop) -> None:
    for name, file, text in (
        ("a", "LICENSE.txt", "one"),
        ("b", "LICENSE.txt", "two"),
        ("c", "LICENSE.txt", "one"),
        ("c", "NOTICE", "of c"),
        ("b", "license", "lower"),
        ("c", "LICENSE", "upper"),
    ):
        (shop.folder / name / file).write_text(text)
    assert texts(shop.merge(shop.config("abc"))) == {
        "LICENSE.txt": "one",
        "LICENSE-b.txt": "two",
        "NOTICE": "of c",
        "LICENSE-c": "upper",
    }
    assert (shop.folder / "out" / "license").read_text() == "lower"


def test_the_card_states_the_licence_of_the_models(shop: Workshop) -> None:
    for name in "ab":
        (shop.folder / name / "README.md").write_text("---\nlicense: mit\nlanguage: en\n---\n# hello")
    text = (shop.merge(shop.config()) / "README.md").read_text()
    assert "\nlicense: mit\nlanguage:\n- en\n" in text
    assert "hello" not in text


def test_terms_alone_do_not_make_a_config_necessary(shop: Workshop) -> None:
    (shop.folder / "b" / "NOTICE").write_text("of b")
    for file in (shop.folder / "b").iterdir():
        if file.name not in ("model.safetensors", "NOTICE"):
            file.unlink()
    assert texts(shop.merge(shop.config())) == {"NOTICE": "of b"}
