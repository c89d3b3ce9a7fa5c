"""The kind of a tokenizer is what its files say: the same tokens give the same rows in any format."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from tiny import llama, llama_config, read_config, read_tensors, write_checkpoint
from tiny_transplant import EMBED

import mergecore
from mergecore.tokenizers.read import VocabularyReader
from mergecore.types import Checkpoint, Json, ModelReference
from mergecore_plugins.transplant.tokens.counterparts import Texts, counterparts, texts_of

Files: TypeAlias = "Mapping[str, bytes | Json]"

BYTES = ["<|endoftext|>", "##", "##y", "Copy", "ĠCopy", "▁y", "y", "Ġ##", "Ċ"]
MARKS = ["<unk>", "<s>", "</s>", "<0x0A>", "##", "##y", "▁Copy", "Copy", "y", "▁##"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "copy", "Copy", "##y", "y", "##Copy"]


def ids(tokens: list[str]) -> dict[str, Json]:
    return {token: number for number, token in enumerate(tokens)}


def sentencepiece(tokens: list[str]) -> bytes:
    """A model file: <unk> of type 2, other <…> of type 3, <0x…> of type 6, the rest ordinary."""
    data = b""
    for token in tokens:
        kind = 2 if token == "<unk>" else 6 if token.startswith("<0x") else 3 if token[0] == "<" else 1  # noqa: S105
        raw = token.encode()
        body = b"\x0a" + bytes([len(raw)]) + raw + b"\x15" + struct.pack("<f", -1.0) + b"\x18" + bytes([kind])
        data += b"\x0a" + bytes([len(body)]) + body
    return data


def document(kind: str, tokens: list[str], special: list[str], **parts: Json) -> Json:
    added: list[Json] = [
        {"id": i, "content": one, "special": True} for i, one in enumerate(tokens) if one in special
    ]
    return {"added_tokens": added, "model": {"type": kind, "vocab": ids(tokens), "merges": []}, **parts}


SPACES: Json = {
    "type": "Sequence",
    "normalizers": [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}],
}
FORMATS: dict[str, list[tuple[str, Files]]] = {
    "bytes": [
        ("gpt2", {"vocab.json": ids(BYTES)}),
        ("other", {"vocab.json": ids(BYTES), "merges.txt": "#version: 0.2\nC opy\n"}),
        (
            "other",
            {"tokenizer.json": document("BPE", BYTES, BYTES[:1], pre_tokenizer={"type": "ByteLevel"})},
        ),
        (
            "other",
            {
                "tokenizer.json": document(
                    "BPE",
                    BYTES,
                    BYTES[:1],
                    pre_tokenizer={
                        "type": "Sequence",
                        "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}],
                    },
                )
            },
        ),
    ],
    "marks": [
        ("mistral", {"tokenizer.model": sentencepiece(MARKS)}),
        ("other", {"tokenizer.json": document("BPE", MARKS, MARKS[:3], normalizer=SPACES)}),
        (
            "other",
            {"tokenizer.json": document("BPE", MARKS, MARKS[:3], pre_tokenizer={"type": "Metaspace"})},
        ),
        ("other", {"vocab.json": ids(MARKS), "source.spm": b""}),
    ],
    "words": [
        ("bert", {"vocab.txt": "\n".join(WORDS)}),
        ("other", {"tokenizer.json": document("WordPiece", WORDS, WORDS[:5])}),
    ],
}


def checkpoint(folder: Path, family: str, files: Files) -> Checkpoint:
    folder.mkdir(parents=True)
    for name, content in files.items():
        data = content if isinstance(content, (bytes, str)) else json.dumps(content)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    side = {name: folder / name for name in files}
    return Checkpoint(ModelReference(folder.name), folder, {}, (), {"model_type": family}, side)


def texts(folder: Path, family: str, files: Files) -> Texts:
    model = checkpoint(folder, family, files)
    table = VocabularyReader().read(model)
    assert table is not None
    return texts_of(model, table)


ROWS = {
    # the special token begins and ends texts, and is not taken for what nobody knows; "##" and "##y" are text;
    # ĠCopy is ▁Copy; ▁y of GPT-2 is no space and y
    ("bytes", "marks"): [-1, 0, 0, 8, 1, 2, 4, 3, 6, 7],
    ("marks", "bytes"): [2, 4, 5, 7, 6, -1, 8, 9, 3],
    # [CLS] and [SEP] do what the one token does; Copy begins a word, ##y and ##Copy continue one
    ("bytes", "words"): [-1, -1, 0, 0, -1, -1, 4, 6, -1, 3],
    ("words", "bytes"): [3, -1, -1, 9, 6, -1, 7, -1, -1],
}


@pytest.mark.parametrize(("mine", "theirs"), ROWS)
def test_the_same_tokens_give_the_same_rows_in_any_format(mine: str, theirs: str, tmp_path: Path) -> None:
    for i, (family, files) in enumerate(FORMATS[mine]):
        for j, (other, others) in enumerate(FORMATS[theirs]):
            model = texts(tmp_path / f"{i}{j}" / "model", family, files)
            donor = texts(tmp_path / f"{i}{j}" / "donor", other, others)
            assert counterparts(model, donor, 99).rows.tolist() == ROWS[mine, theirs], (i, j)


@pytest.mark.parametrize(
    ("family", "files", "kind"),
    [
        ("xlm", {"vocab.json": ids(["the</w>", "Ġ"]), "merges.txt": "t h\n"}, "plain"),
        ("xlm-roberta", {"tokenizer.json": document("Unigram", MARKS, [])}, "marks"),
        ("esm", {"vocab.txt": "<cls>\nA\n"}, "plain"),
        ("roberta", {"vocab.txt": "a\n", "bpe.codes": "a b\n"}, "plain"),
        ("wav2vec2", {"vocab.json": ids(["|", "A"])}, "plain"),
        ("other", {"vocab.json": ids(["Ġ", "a", "##a"])}, "bytes"),
        ("other", {"vocab.json": ids(["▁a", "##a"])}, "marks"),
        (
            "other",
            {"tokenizer.json": document("WordLevel", ["▁a"], [], pre_tokenizer={"type": "Whitespace"})},
            "plain",
        ),
    ],
)
def test_families_and_files_say_the_kind(family: str, files: Files, kind: str, tmp_path: Path) -> None:
    assert texts(tmp_path / "m", family, files).spelling.kind == kind


def test_the_prefix_of_what_continues_a_word_is_that_of_the_file(tmp_path: Path) -> None:
    made = document("WordPiece", ["@a", "#a", "a"], [])
    assert isinstance(made, dict)
    assert isinstance(made["model"], dict)
    made["model"]["continuing_subword_prefix"] = "@"
    found = texts(tmp_path / "m", "other", {"tokenizer.json": made})
    assert found.ordinary == {"@a": b"a", "#a": b" #a", "a": b" a"}


def test_an_id_in_config_json_makes_no_special_token_of_text(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", "gpt2", {"vocab.json": ids(["!", "Ġa", "<|endoftext|>"])})
    model = Checkpoint(model.reference, model.folder, {}, (), {"pad_token_id": 0}, model.side_files)
    table = VocabularyReader().read(model)
    assert table is not None
    found = texts_of(model, table)
    assert found.ordinary["!"] == b"!"
    assert "pad" not in found.roles


# ---- special tokens ----------------------------------------------------------------------------------------


def write(name: str, files: Files, rows: int, **config: Json) -> torch.Tensor:
    """A tied Llama whose row i is (i + 1) everywhere."""
    embed = torch.arange(1.0, rows + 1)[:, None].repeat(1, 4)
    tensors = llama(1, 1.0, tied=True) | {EMBED: embed}
    write_checkpoint(
        Path(name), tensors, llama_config(1, vocab_size=rows, tie_word_embeddings=True, **config)
    )
    for file, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        Path(name, file).write_bytes(data)
    return embed


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def transplanted(**asked: Json) -> mergecore.Plan:
    return mergecore.plan({"transplant": {"model": "a", "donor": "b", "method": "mean", **asked}})


def ends_of(plan: mergecore.Plan, name: str = "config.json") -> list[Json]:
    mergecore.execute(plan, f"out-{name}")
    config = json.loads(Path(f"out-{name}", name).read_text())
    return [config.get(f"{role}_token_id") for role in ("bos", "eos", "pad")]


BERT = document("WordPiece", WORDS, WORDS[:5])
NAMES: Json = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}


@pytest.mark.usefixtures("here")
def test_a_donor_that_says_nothing_of_ends_ends_texts_as_classifiers_read_them() -> None:
    files = {"tokenizer.json": FORMATS["marks"][1][1]["tokenizer.json"]}
    own = write("a", files, 10, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    Path("a/generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}')
    write("b", {"tokenizer.json": BERT, "tokenizer_config.json": NAMES}, 10)
    plan = transplanted()
    assert ends_of(plan) == [2, 3, 0]
    assert ends_of(plan, "generation_config.json") == [2, 3, 0]
    assert "no token of b is said to end texts: '[SEP]' does it, and is eos_token_id" in plan.warnings
    made = read_tensors(Path("out-config.json"))[EMBED]
    assert torch.equal(made[[2, 3]], own[[1, 2]])  # which begins and ends texts goes on doing so


@pytest.mark.usefixtures("here")
def test_config_and_tokenizer_name_the_same_padding() -> None:
    files = {"tokenizer.json": FORMATS["bytes"][2][1]["tokenizer.json"]}
    write("a", files, 9, eos_token_id=0, pad_token_id=0)
    write("b", {"tokenizer.json": BERT, "tokenizer_config.json": NAMES}, 10, pad_token_id=4)
    assert ends_of(transplanted())[2] == 0  # as the tokenizer says, not 4 as config.json does
    write("c", files, 9)
    plan = mergecore.plan({"transplant": {"model": "c", "donor": "b", "method": "mean"}})
    assert read_config(mergecore.execute(plan, "out"))["pad_token_id"] == 0


@pytest.mark.usefixtures("here")
def test_a_donor_without_padding_leaves_none() -> None:
    write("a", {"tokenizer.json": BERT, "tokenizer_config.json": NAMES}, 10, pad_token_id=0)
    write("b", {"tokenizer.json": FORMATS["bytes"][2][1]["tokenizer.json"]}, 9)
    plan = transplanted()
    assert ends_of(plan) == [0, 0, None]


@pytest.mark.usefixtures("here")
def test_a_donor_that_ends_nothing_is_told_of() -> None:
    write("a", {"tokenizer.json": FORMATS["marks"][1][1]["tokenizer.json"]}, 10, eos_token_id=2)
    write("b", {"tokenizer.json": document("BPE", ["y", "Copy"], [], pre_tokenizer={"type": "ByteLevel"})}, 2)
    told = transplanted().warnings
    assert any(
        one.startswith("no token of b ends a text, so generation stops at its longest") for one in told
    )


def test_a_token_that_does_several_things_gives_its_row_to_each(tmp_path: Path) -> None:
    """`<|endoftext|>` begins and ends texts; <s> and </s> both come from it."""
    mine = texts(tmp_path / "a", *FORMATS["bytes"][0])
    theirs = texts(tmp_path / "b", *FORMATS["marks"][0])
    assert counterparts(mine, theirs, 99).rows[1:3].tolist() == [0, 0]


# ---- pieces ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_parts_of_characters_are_made_of_the_rows_of_their_bytes() -> None:
    tokens = ["<unk>", "▁", "a", "\ufffd", *(f"<0x{number:02X}>" for number in range(256))]
    scores: list[Json] = [[one, -1.0] for one in tokens]
    model: Json = {"type": "Unigram", "vocab": scores, "unk_id": 0, "byte_fallback": True}
    metaspace: Json = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}
    own = write("a", {"tokenizer.json": {"version": "1.0", "pre_tokenizer": metaspace, "model": model}}, 260)
    donor = ["Ġ", "ä½", "aä", "ä¸Ń", "ï¿½"]  # two bytes; a and a byte; 中; � itself  # noqa: RUF001
    write("b", {"tokenizer.json": document("BPE", donor, [], pre_tokenizer={"type": "ByteLevel"})}, 5)
    made = read_tensors(mergecore.execute(transplanted(method="subword"), "out"))[EMBED]

    def mean(*rows: int) -> torch.Tensor:
        return own[list(rows)].mean(0)

    assert torch.equal(made[0], own[1])
    torch.testing.assert_close(made[1], mean(4 + 0xE4, 4 + 0xBD))
    torch.testing.assert_close(made[2], mean(2, 4 + 0xE4))
    torch.testing.assert_close(made[3], mean(4 + 0xE4, 4 + 0xB8, 4 + 0xAD))
    assert torch.equal(made[4], own[3])
