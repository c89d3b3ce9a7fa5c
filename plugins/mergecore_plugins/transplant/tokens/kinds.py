"""Of which kind a tokenizer is, as its files say, and which tokens play a part in it; read `spelling_of`.

The same tokens may hold the same text in any kind: GPT-2 has `##` and `▁` among its tokens, as text of pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mergecore.tokenizers import TOKENIZER_CONFIG, TOKENIZER_JSON, TokenizerFiles
from mergecore.types import Checkpoint, Json, TokenTable
from mergecore_plugins.transplant.tokens.spelling import Spelling, are_bytes

ROLES = ("eos", "bos", "unk", "pad", "cls", "sep", "mask")
"""What a token may do, the most important first."""


def spelling_of(model: Checkpoint, table: TokenTable) -> Spelling:
    """How the ordinary tokens of a model are written.

    Raises:
        MergecoreError: E240 when its tokenizer files are wrong.
    """
    files = TokenizerFiles(model)
    if table.file == TOKENIZER_JSON:
        return _stated(files.mapping(TOKENIZER_JSON), table)
    family = _family(files)
    if table.file.endswith("vocab.txt"):
        plain = _PLAIN.match(family) or "bpe.codes" in model.side_files
        return Spelling("plain" if plain else "words")
    if not table.file.endswith(".json") or any(_PIECES.fullmatch(name) for name in model.side_files):
        return Spelling("marks")
    if _PLAIN.match(family):
        return Spelling("plain")
    merges = any(name.endswith(("merges.txt", "vocab.bpe")) for name in model.side_files)
    return Spelling("bytes") if merges or _BYTES.match(family) else _shown(table)


_PIECES = re.compile(r"[\w.-]+\.(model|spm)")
_BYTES = re.compile(
    r"gpt|clip|roberta|bart|led|longformer|whisper|qwen|codegen|deberta|mvp|layoutlmv3|blenderbot|bloom|opt"
)
_PLAIN = re.compile(
    r"xlm(?!-?_?roberta)|fsmt|flaubert|openai-?gpt|ctrl|biogpt|herbert|blenderbot-?_?small|wav2vec2|hubert|wavlm|vits|esm"
    r"|phobert|bertweet|cpmant"
)
"""Families whose tokenizers are none of the three that most are."""


def _family(files: TokenizerFiles) -> str:
    """The class of the tokenizer, otherwise of the model, in small letters."""
    stated = str(files.mapping(TOKENIZER_CONFIG).get("tokenizer_class") or "").lower()
    if stated in ("", "pretrainedtokenizerfast", "pretrainedtokenizer", "tokenizersbackend"):
        return str(files.model.config.get("model_type") or "").lower()
    return stated


def _stated(document: Mapping[str, Json], table: TokenTable) -> Spelling:
    """What the parts of a tokenizer.json say."""
    model = document.get("model")
    if table.kind == "WordPiece":
        prefix = model.get("continuing_subword_prefix") if isinstance(model, dict) else None
        return Spelling("words", prefix if isinstance(prefix, str) else "##")
    parts = [one for key in ("normalizer", "pre_tokenizer", "decoder") for one in _parts(document.get(key))]
    if any(one.get("type") == "ByteLevel" for one in parts):
        return Spelling("bytes")
    if table.kind == "Unigram" or any(_marks(one) for one in parts):
        return Spelling("marks")
    if isinstance(model, dict) and model.get("byte_fallback"):
        return Spelling("marks")
    return Spelling("plain") if parts else _shown(table)


def _parts(part: Json) -> Iterator[Mapping[str, Json]]:
    """A part of a tokenizer.json, and those that it consists of."""
    if isinstance(part, dict):
        yield part
        for inner in part.values():
            yield from (
                one for each in (inner if isinstance(inner, list) else [inner]) for one in _parts(each)
            )


def _marks(part: Mapping[str, Json]) -> bool:
    if part.get("type") == "Metaspace":
        return True
    return part.get("type") == "Replace" and "▁" in f"{part.get('content')}{part.get('pattern')}"


def _shown(table: TokenTable) -> Spelling:
    """What tokens show of which no file says more."""
    ordinary = [token for token in table.ids if token not in table.special]
    return Spelling("bytes" if are_bytes(ordinary) else "marks")


# ---- parts that tokens play --------------------------------------------------------------------------------


def roles_of(model: Checkpoint, table: TokenTable, spelling: Spelling) -> dict[str, str]:
    """The token of each role: as the tokenizer files say, otherwise the ids in config.json, otherwise by custom."""
    files = TokenizerFiles(model)
    stated = {**files.mapping("special_tokens_map.json"), **files.mapping(TOKENIZER_CONFIG)}
    stated = {role: stated[f"{role}_token"] for role in ROLES if f"{role}_token" in stated}
    names = {number: token for token, number in table.ids.items()}
    roles: dict[str, str] = {}
    for role in ROLES:
        token = stated.get(role)
        token = token.get("content") if isinstance(token, dict) else token
        if token is None:
            token = _by_id(model.config.get(f"{role}_token_id"), names, table)
        if isinstance(token, str) and token in table.ids:
            roles[role] = token
    if not stated:
        roles = _usual(table, spelling) | roles
    return roles


def lent_roles(roles: Mapping[str, str]) -> dict[str, str]:
    """The tokens that begin and end texts where none is said to: those around what a classifier reads."""
    lent = {"bos": "cls", "eos": "sep"}
    return {role: roles[other] for role, other in lent.items() if role not in roles and other in roles}


def _by_id(number: Json, names: Mapping[int, str], table: TokenTable) -> str | None:
    """The token of an id in config.json; one of text plays no part, whatever a default says."""
    token = names.get(number) if type(number) is int else None
    known = token is not None and (token in table.special or _BRACKETS.fullmatch(token))
    return token if known else None


_BRACKETS = re.compile(r"[<\[].+[>\]]")


def _usual(table: TokenTable, spelling: Spelling) -> dict[str, str]:
    """The parts that tokens of such names play where no file says anything."""
    if spelling.kind == "words":
        return {role: f"[{role.upper()}]" for role in ROLES if f"[{role.upper()}]" in table.ids}
    ends = dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")
    usual = ends | {"bos": "<s>", "eos": "</s>"} if "</s>" in table.ids else ends
    usual |= {role: f"<{role}>" for role in ("bos", "eos", "unk", "pad", "mask") if f"<{role}>" in table.ids}
    return {role: token for role, token in usual.items() if token in table.ids}
