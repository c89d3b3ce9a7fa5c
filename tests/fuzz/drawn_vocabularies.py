"""Random vocabularies: tokenizers of a few words, some of them in several models, under other ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fuzz import drawing

Random = drawing.Random

WORDS = [
    a + b for a in ("tin", "hat", "bat", "lo", "sea", "un", "fox") for b in ("a", "e", "is", "or", "um", "y")
]
SPECIAL = ("<unk>", "<s>", "</s>")


def draw(random: Random, shared: Sequence[str] | None) -> list[str]:
    """The tokens of a model by id; some of those of another model, and some of its own."""
    if shared is None:
        count = int(random.integers(4, 20))
        return [*SPECIAL, *(str(one) for one in random.permutation(WORDS)[:count])]
    kept = [one for one in shared if one in SPECIAL or random.random() < 0.8]
    own = [str(one) for one in random.permutation(WORDS)[: int(random.integers(0, 6))]]
    tokens = list(dict.fromkeys([*kept, *own]))
    rest = [one for one in tokens if one not in SPECIAL]
    if random.random() < 0.5:
        rest = [str(one) for one in random.permutation(rest)] if rest else rest
    return [*SPECIAL, *rest]


def tokenizer(tokens: Sequence[str], added: Sequence[str] = ()) -> dict[str, Any]:
    """A tokenizer.json that takes whole words; `added` have the ids behind."""
    vocabulary = {token: at for at, token in enumerate(tokens)}
    special = [(vocabulary[one], one, True) for one in SPECIAL]
    special += [(len(tokens) + at, one, False) for at, one in enumerate(added)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": at,
                "content": one,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": kind,
            }
            for at, one, kind in special
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }


def ids(document: dict[str, Any]) -> dict[str, int]:
    """The ids of all tokens of a tokenizer.json."""
    vocabulary: dict[str, int] = dict(document["model"]["vocab"])
    return vocabulary | {one["content"]: one["id"] for one in document["added_tokens"]}


def section(random: Random, models: Sequence[str], tokens: dict[str, list[str]]) -> dict[str, Any]:
    """What a config says of the vocabulary, for models whose tokens those are; nothing with the first's is wrong."""
    source = drawing.pick(random, ("base", "union", "union", drawing.pick(random, list(models))))
    if random.random() < 0.5:
        return {"tokenizer_source": source}
    said: dict[str, Any] = {"source": source}
    if random.random() < 0.5:
        said["pad_to_multiple_of"] = int(drawing.pick(random, (4, 7, 8, 16)))
    asked = {}
    for name in drawing.pick(random, ((), ("<new>",), ("<new>", "<other>"), (None,))):
        everywhere = [one for one in tokens[models[0]] if one not in SPECIAL]
        token = str(name or drawing.pick(random, everywhere or ["<new>"]))
        asked[token] = _token(random, token, models, tokens)
    return {"tokenizer": said | ({"tokens": asked} if asked else {})}


def _token(random: Random, token: str, models: Sequence[str], tokens: dict[str, list[str]]) -> dict[str, Any]:
    """What a config says of one token."""
    having = [one for one in models if token in tokens[one]]
    other = drawing.pick(random, list(models))
    sources: list[Any] = [
        {"kind": "zero"},
        {"kind": "model_token", "model": other, "token": drawing.pick(random, tokens[other])},
        {"kind": "model_token", "model": other, "token_id": int(random.integers(len(tokens[other])))},
        *having,
    ]
    said: dict[str, Any] = {"source": drawing.pick(random, sources)}
    if random.random() < 0.4:
        said["force"] = True
    return said
