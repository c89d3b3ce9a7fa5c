"""Every relation of two vocabularies under every strategy: each row of the output is traced to where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import read_config, read_tensors, registry
from tiny_tokenizers import CORPUS, KINDS, TOKENS, tokenizer_json, write_model
from tokenizers import Tokenizer

from mergecore import merge
from mergecore.errors import InputError
from mergecore.types import Json

FOREIGN = {
    "BPE": ["Z", "Y", "X", "ZY"],
    "Unigram": ["Z", "Y", "▁X", "ZY"],
    "WordPiece": ["Z", "Y", "##X", "ZY"],
}
RELATIONS = ("identical", "special", "padded", "disjoint", "permuted", "sub", "none")
STRATEGIES = ("copy", "base", "union", "model")
PADDING = 5


@dataclass(frozen=True)
class Side:
    """A model of the pair: its tokenizer, if it has one, and the rows of its tensors."""

    tokens: Sequence[str]
    added: Sequence[str]
    rows: int
    tokenizer: Mapping[str, Json] | None

    @property
    def ids(self) -> dict[str, int]:
        return {token: number for number, token in enumerate([*self.tokens, *self.added])}


def side(
    kind: str, tokens: Sequence[str], added: Sequence[str], padding: int = 0, known: bool = True
) -> Side:
    tokenizer = tokenizer_json(kind, tokens, added) if known else None
    return Side(tokens, added, len(tokens) + len(added) + padding, tokenizer)


def pair(kind: str, relation: str) -> tuple[Side, Side]:
    tokens = TOKENS[kind]
    padding = PADDING if relation == "padded" else 0
    other: tuple[Sequence[str], Sequence[str]] = {
        "special": (tokens, ["<end>", "<|user|>", "<|bot|>"]),
        "disjoint": (FOREIGN[kind], ["<other>"]),
        "permuted": (tokens[::-1], ["<end>"]),
        "sub": ([token for token in tokens if token not in ("th", "▁hat", "##at", "in")], ["<end>"]),
    }.get(relation, (tokens, ["<end>"]))
    return side(kind, tokens, ["<end>"], padding), side(kind, *other, padding, known=relation != "none")


def expected(strategy: str, relation: str, a: Side, b: Side) -> dict[str, int]:
    """The vocabulary of the output."""
    if strategy == "model":
        return b.ids
    if strategy != "union":
        return a.ids
    new = [token for token in [*b.tokens, *b.added] if token not in a.ids]
    return a.ids | {token: len(a.ids) + number for number, token in enumerate(new)}


def value(token: str, a: Side, b: Side, known: bool) -> float:
    """What the embedding of a token is when a row of A is its number and one of B is 1000 times that."""
    ids_b = b.ids if known else a.ids
    mine, theirs = a.ids.get(token, -1) + 1, (ids_b.get(token, -1) + 1) * 1000
    if mine and theirs:
        return float(mine + theirs)
    return 2.0 * (mine or theirs)  # the model that lacks it gets the row of the other


def config(tmp_path: Path, strategy: str) -> dict[str, Json]:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    made: dict[str, Json] = {
        "merge_method": "linear",
        "base_model": a,
        "models": [{"model": a, "parameters": {"weight": 1}}, {"model": b, "parameters": {"weight": 1}}],
        "parameters": {"normalize": False},
        "dtype": "float32",
    }
    if strategy != "copy":
        made["tokenizer_source"] = b if strategy == "model" else strategy
    return made


def refusal(strategy: str, relation: str) -> str | None:
    """What the error says where the pair cannot be merged so."""
    if strategy == "copy" and relation in ("disjoint", "permuted", "sub"):
        return r"the vocabularies of .*/a and .*/b differ: \d+ tokens? shared.* only in .*/b"
    if strategy in ("union", "model") and relation == "none":
        return "it has no tokenizer"
    return None


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_comes_from_its_token(
    tmp_path: Path, kind: str, relation: str, strategy: str, tied: bool
) -> None:
    a, b = pair(kind, relation)
    write_model(tmp_path / "a", a.tokenizer, a.rows, tied=tied)
    write_model(tmp_path / "b", b.tokenizer, b.rows, unit=1000.0, tied=tied)
    if text := refusal(strategy, relation):
        with pytest.raises(InputError, match=text) as caught:
            merge(config(tmp_path, strategy), tmp_path / "out", registry=registry())
        assert caught.value.code == "E240"
        return
    out = merge(config(tmp_path, strategy), tmp_path / "out", registry=registry())
    ids = expected(strategy, relation, a, b)

    wanted = [value(token, a, b, known=b.tokenizer is not None) for token in ids]
    if strategy == "copy":
        wanted += [1001.0 * (row + 1) for row in range(len(wanted), a.rows)]
    tensors = read_tensors(out)
    assert ("lm_head.weight" in tensors) != tied
    for name, sign in (("model.embed_tokens.weight", 1), ("lm_head.weight", -1)):
        if name in tensors:
            rows = torch.tensor(wanted, dtype=torch.float32)[:, None].expand(-1, 4) * sign
            torch.testing.assert_close(tensors[name], rows, rtol=0, atol=0)
    assert read_config(out)["vocab_size"] == len(wanted)

    made = Tokenizer.from_file(str(out / "tokenizer.json"))
    assert made.get_vocab(with_added_tokens=True) == ids
    like = tmp_path / ("b" if strategy == "model" else "a")
    original = Tokenizer.from_file(str(like / "tokenizer.json"))
    alien = strategy == "model" and relation == "disjoint"  # that tokenizer has no letter of the corpus
    for text in () if alien else CORPUS:
        assert made.encode(text).ids == original.encode(text).ids
        assert made.decode(made.encode(text).ids) == text
    for token in (*a.added, *b.added):
        if token in ids:
            assert made.encode(token).ids == [ids[token]]
    unchanged = strategy != "union" or relation not in ("special", "disjoint")
    assert ((out / "tokenizer.json").read_bytes() == (like / "tokenizer.json").read_bytes()) == unchanged
    _check_that_transformers_reads(out, ids)


def _check_that_transformers_reads(out: Path, ids: dict[str, int]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.get_vocab() == ids
    loaded: Any = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    model, report = loaded
    assert not any(report.values())
    token = max(ids, key=lambda one: ids[one])
    with torch.no_grad():
        [[row]] = model.get_input_embeddings()(torch.tensor([[tokenizer.convert_tokens_to_ids(token)]]))
    assert torch.equal(row, read_tensors(out)["model.embed_tokens.weight"][ids[token]])
