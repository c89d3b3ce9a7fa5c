"""Reading vocabularies: every format, and what is wrong with files."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from tiny_tokenizers import KINDS, TOKENS, tokenizer_json

from mergecore.errors import InputError, MergecoreError, PolicyError
from mergecore.tokenizers import read
from mergecore.tokenizers.read import TokenizerFiles, VocabularyReader, same_vocabulary
from mergecore.tokenizers.sentencepiece import read_pieces
from mergecore.types import Checkpoint, Json, ModelReference


def model(folder: Path, config: Mapping[str, Json] | None = None, /, **files: object) -> Checkpoint:
    """A model with these tokenizer files, bytes or JSON; '__' in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    sides = {}
    for key, content in files.items():
        name = key.replace("__", ".")
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / name).write_bytes(data)
        sides[name] = folder / name
    return Checkpoint(ModelReference(folder.name), folder, {}, (), config or {}, sides)


def failure(one: Checkpoint) -> MergecoreError:
    with pytest.raises(MergecoreError) as caught:
        VocabularyReader().read(one)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_json_gives_its_tokens_and_the_added_ones(tmp_path: Path, kind: str) -> None:
    document = tokenizer_json(kind, added=["<one>", "<two>"])
    found = VocabularyReader().read(model(tmp_path / "m", tokenizer__json=document))
    assert found is not None
    assert found.kind == kind
    assert list(found.ids) == [*TOKENS[kind], "<one>", "<two>"]
    assert list(found.ids.values()) == list(range(len(found.ids)))
    assert found.special == {"<one>", "<two>"}
    assert found.added["<two>"]["special"] is True


def test_a_tokenizer_json_of_old_times_states_no_kind(tmp_path: Path) -> None:
    for kind in KINDS:
        document = tokenizer_json(kind)
        inner = document["model"]
        assert isinstance(inner, dict)
        del inner["type"]
        found = VocabularyReader().read(model(tmp_path / kind, tokenizer__json=document))
        assert found is not None
        assert found.kind == kind


def test_a_piece_that_is_there_twice_has_the_later_id(tmp_path: Path) -> None:
    document = {"model": {"type": "Unigram", "vocab": [["a", 0.0], ["b", -1.0], ["a", -2.0]]}}
    found = VocabularyReader().read(model(tmp_path / "m", tokenizer__json=document))
    assert found is not None
    assert found.ids == {"a": 2, "b": 1}


def test_tokens_that_only_tokenizer_config_states_are_added(tmp_path: Path) -> None:
    config = {"added_tokens_decoder": {"99": {"content": "<late>", "special": True}}, "eos_token": "a"}
    document = tokenizer_json("BPE")
    found = VocabularyReader().read(
        model(tmp_path / "m", tokenizer__json=document, tokenizer_config__json=config)
    )
    assert found is not None
    assert found.ids["<late>"] == 99
    assert found.special == {"<late>", "a"}


def test_vocab_json_and_added_tokens_json_make_a_vocabulary(tmp_path: Path) -> None:
    one = model(
        tmp_path / "m",
        vocab__json={"a": 0, "b": 1},
        added_tokens__json={"<x>": 2, "b": 1},
        special_tokens_map__json={"pad_token": {"content": "<x>"}, "additional_special_tokens": ["a"]},
    )
    found = VocabularyReader().read(one)
    assert found is not None
    assert (found.file, found.ids) == ("vocab.json", {"a": 0, "b": 1, "<x>": 2})
    assert found.special == {"a", "<x>"}


def test_the_lines_of_vocab_txt_are_tokens(tmp_path: Path) -> None:
    found = VocabularyReader().read(model(tmp_path / "m", vocab__txt=b"[UNK]\na\r\n##b\n"))
    assert found is not None
    assert found.ids == {"[UNK]": 0, "a": 1, "##b": 2}


def sentencepiece(*pieces: tuple[str, int]) -> bytes:
    """A model of these pieces and types, with a field of each other kind between them."""
    data = b""
    for text, kind in pieces:
        raw = text.encode()
        body = b"\x0a" + bytes([len(raw)]) + raw + b"\x15" + struct.pack("<f", -1.5) + b"\x18" + bytes([kind])
        data += b"\x0a" + bytes([len(body)]) + body
    return data + b"\x10\x96\x01" + b"\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x12\x02hi"


def test_the_pieces_of_a_sentencepiece_model_are_tokens(tmp_path: Path) -> None:
    data = sentencepiece(("<unk>", 2), ("<s>", 3), ("▁a", 1), ("<user>", 4))
    one = model(
        tmp_path / "m", tokenizer__model=data, tokenizer_config__json={"tokenizer_class": "LlamaTokenizer"}
    )
    found = VocabularyReader().read(one)
    assert found is not None
    assert found.ids == {"<unk>": 0, "<s>": 1, "▁a": 2, "<user>": 3}
    assert found.special == {"<s>", "<user>"}


def test_the_family_in_config_json_says_how_pieces_are_numbered(tmp_path: Path) -> None:
    found = VocabularyReader().read(
        model(tmp_path / "m", {"model_type": "t5"}, spiece__model=sentencepiece(("a", 1)))
    )
    assert found is not None
    assert found.ids == {"a": 0}


@pytest.mark.parametrize("name", ["tokenizer__model", "tekken__json"])
def test_files_whose_numbering_is_not_known_are_refused(tmp_path: Path, name: str) -> None:
    config: dict[str, Json] = {"tokenizer_class": "XLMRobertaTokenizer"}
    error = failure(model(tmp_path / "m", tokenizer_config__json=config, **{name: sentencepiece(("a", 1))}))
    assert str(error).startswith(
        f"m/{name.replace('__', '.')}: the ids of its tokens cannot be read from this"
    )
    assert "put a tokenizer.json beside it: transformers writes one when it loads" in str(error)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x10\x01", "it holds no pieces"),
        (b"\x0a\x05ab", "it ends early"),
        (b"\x0a", "it ends early"),
        (b"\x0a\x02\x18\x01", "a piece has no text"),
        (b"\x0b", "unknown kind of field at byte 1"),
        (b"\x10" + b"\xff" * 11, "a number has no end at byte 11"),
    ],
)
def test_a_damaged_sentencepiece_model_is_no_model(tmp_path: Path, data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_pieces(data)
    error = failure(model(tmp_path / "m", {"model_type": "llama"}, tokenizer__model=data))
    assert str(error) == f"m/tokenizer.model: not a sentencepiece model: {text}"


def test_a_model_without_tokenizer_files_has_no_vocabulary(tmp_path: Path) -> None:
    assert (
        VocabularyReader().read(model(tmp_path / "m", tokenizer_config__json={"model_max_length": 5})) is None
    )


def _vocab(**tokens: object) -> dict[str, object]:
    return {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, **tokens}, "merges": []}}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{", r"m/tokenizer\.json: not valid JSON"),
        (b"[]", r"m/tokenizer\.json: must be a JSON object"),
        ({"model": {"type": "BPE"}}, r"tokenizer\.json: not the tokenizer of the 'tokenizers' library"),
        (_vocab(zz=1), r"tokenizer\.json: id 1 stands for two tokens, 'b' and 'zz'"),
        (_vocab(zz=-1), r"tokenizer\.json: token 'zz' has id -1"),
        (_vocab(zz=1.5), r"token 'zz' has id 1\.5.*whole numbers"),
        (_vocab(zz=2**24), r"token 'zz' has id 16777216\. Hint: ids are whole numbers from 0 to 16777215"),
        ({**_vocab(), "added_tokens": [{"id": 7, "content": "b"}]}, "token 'b' has two ids, 1 and 7"),
        (
            {**_vocab(), "added_tokens": [{"content": "b"}]},
            "is not an added token: 'id' and 'content' are needed",
        ),
        ({"model": {"type": "Unigram", "vocab": [["a"]]}}, r"\[\"a\"\] is not a piece: \[text, score\]"),
    ],
)
def test_a_wrong_tokenizer_json_is_refused(tmp_path: Path, content: object, text: str) -> None:
    error = failure(model(tmp_path / "m", tokenizer__json=content))
    assert error.code == "E240"
    assert isinstance(error, InputError)
    with pytest.raises(InputError, match=text):
        raise error


def test_a_wrong_added_token_of_tokenizer_config_is_refused(tmp_path: Path) -> None:
    config = {"added_tokens_decoder": {"x": {"content": "<x>"}}}
    error = failure(model(tmp_path / "m", tokenizer__json=_vocab(), tokenizer_config__json=config))
    assert (
        'm/tokenizer_config.json: added_tokens_decoder: {"x": {"content": "<x>"}} is not an added token'
        in str(error)
    )


def test_vocab_txt_must_be_text(tmp_path: Path) -> None:
    assert "m/vocab.txt: not UTF-8 at byte 2" in str(failure(model(tmp_path / "m", vocab__txt=b"a\n\xff")))


@pytest.mark.parametrize("in_config", [True, False])
def test_a_tokenizer_class_of_its_own_is_never_read(tmp_path: Path, in_config: bool) -> None:
    classes: dict[str, Json] = {"auto_map": {"AutoTokenizer": ["evil.Tok", None]}}
    sides = {} if in_config else {"tokenizer_config__json": classes}
    error = failure(model(tmp_path / "m", classes if in_config else None, tokenizer__json=_vocab(), **sides))
    assert isinstance(error, PolicyError)
    assert error.code == "E305"
    assert "'auto_map' names a tokenizer class of its own" in str(error)
    assert "copied unread" in str(error)


def test_files_of_the_same_bytes_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    parse = read._from_tokenizer_json

    def counted(files: TokenizerFiles) -> tuple[str, dict[str, int], dict[str, Mapping[str, Json]]]:
        parsed.append(files)
        return parse(files)

    monkeypatch.setattr(read, "_from_tokenizer_json", counted)
    reader = VocabularyReader()
    first, second = (reader.read(model(tmp_path / name, tokenizer__json=_vocab())) for name in "ab")
    assert first is second
    assert len(parsed) == 1


def test_files_of_the_same_bytes_are_one_vocabulary_even_when_they_are_wrong(tmp_path: Path) -> None:
    one, other = (model(tmp_path / n, tokenizer__json=b"{", tokenizer_config__json=b"{") for n in "ab")
    assert same_vocabulary(one, other)


def test_what_a_tokenizer_config_says_beside_tokens_does_not_matter(tmp_path: Path) -> None:
    def one(name: str, **config: Json) -> Checkpoint:
        return model(tmp_path / name, tokenizer__json=b"{", tokenizer_config__json=config)

    assert same_vocabulary(one("a", chat_template="x"), one("b", chat_template="y"))
    assert not same_vocabulary(one("a"), one("c", added_tokens_decoder={"9": {"content": "<x>"}}))
    assert not same_vocabulary(one("a"), model(tmp_path / "d", tokenizer__json=b"{}"))
    assert not same_vocabulary(model(tmp_path / "e"), model(tmp_path / "f"))
