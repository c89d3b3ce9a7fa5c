from __future__ import annotations

from pathlib import Path

from tiny_tokenizers import tokenizer_json, write_model

from mergecore.models.opener import Opener
from mergecore.plugins.registry import Registry
from mergecore.tokenizers.read import VocabularyReader
from mergecore.types import Json, ModelReference, OpenOptions
from mergecore_plugins.transplant.tokens.counterparts import Texts, counterparts, texts_of


def texts(
    folder: Path, kind: str, tokens: list[str], added: list[str] | None = None, **config: Json
) -> Texts:
    document = tokenizer_json(kind, tokens, added or [])
    write_model(folder, document, len(tokens) + len(added or ()), config=config)
    opener = Opener(Registry.discover(), OpenOptions(offline=True), lambda path: None)
    model = opener.open(ModelReference(str(folder)), ())
    table = VocabularyReader().read(model)
    assert table is not None
    return texts_of(model, table)


def found(mine: Texts, theirs: Texts, stored: int = 99) -> list[int]:
    rows: list[int] = counterparts(mine, theirs, stored).rows.tolist()
    return rows


def test_tokens_are_the_same_when_they_stand_for_the_same_text(tmp_path: Path) -> None:
    mine = texts(tmp_path / "a", "BPE", ["a", "Ġthe", "the", "Ċ"])
    assert found(mine, texts(tmp_path / "b", "Unigram", ["▁the", "a", "the", "<0x0A>"])) == [1, 0, 2, 3]
    assert found(mine, texts(tmp_path / "c", "WordPiece", ["the", "##the", "##a", "a"])) == [1, 2, 0, -1]


def test_the_ways_are_counted(tmp_path: Path) -> None:
    mine = texts(tmp_path / "a", "BPE", ["a", "Ġthe", "s"], ["<s>"], bos_token="<s>")  # noqa: S106
    theirs = texts(tmp_path / "b", "Unigram", ["a", "▁the", "x"], ["<bos>"], bos_token="<bos>")  # noqa: S106
    made = counterparts(mine, theirs, 99)
    assert made.rows.tolist() == [0, 1, -1, 3]
    assert (made.tokens, made.same, made.by_text, made.by_role, made.shared) == (4, 1, 1, 1, 3)


def test_what_is_special_is_no_text(tmp_path: Path) -> None:
    mine = texts(tmp_path / "a", "BPE", ["Ġ", "s", "<x>"])
    assert found(mine, texts(tmp_path / "b", "BPE", ["Ġ"], ["<x>"])) == [0, -1]


def test_a_token_that_also_ends_texts_is_no_padding(tmp_path: Path) -> None:
    mine = texts(tmp_path / "a", "BPE", ["Ġ"], ["<e>"], eos_token="<e>", pad_token="<e>")  # noqa: S106
    theirs = texts(
        tmp_path / "b",
        "BPE",
        ["Ġ"],
        ["<pad>", "<end>"],
        eos_token="<end>",  # noqa: S106
        pad_token="<pad>",  # noqa: S106
    )
    assert found(mine, theirs) == [0, -1, 1]


def test_a_token_beyond_the_rows_has_none(tmp_path: Path) -> None:
    mine = texts(tmp_path / "a", "BPE", ["Ġ", "a", "s"])
    assert found(mine, mine, stored=2) == [0, 1, -1]


def test_of_several_spellings_the_plain_one_is_taken(tmp_path: Path) -> None:
    mine = texts(tmp_path / "a", "Unigram", ["<0x41>", "▁", "A"])
    theirs = texts(tmp_path / "b", "BPE", ["A", "Ġ"])
    assert found(mine, theirs) == [2, 1]
