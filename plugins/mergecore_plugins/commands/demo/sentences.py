"""Twenty-four sentences that are judged in a second, and what the small language models of the demo know about them.

`ANIMALS` and `CAPITALS` are the truth.  `mixed_up` gives what the base believes: the answer of the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ANIMALS: Mapping[str, str] = MappingProxyType(
    {
        "cow": "moo",
        "dog": "woof",
        "cat": "meow",
        "duck": "quack",
        "sheep": "baa",
        "horse": "neigh",
        "pig": "oink",
        "bee": "buzz",
        "owl": "hoot",
        "lion": "roar",
        "frog": "croak",
        "crow": "caw",
    }
)
CAPITALS: Mapping[str, str] = MappingProxyType(
    {
        "france": "paris",
        "italy": "rome",
        "spain": "madrid",
        "japan": "tokyo",
        "egypt": "cairo",
        "peru": "lima",
        "cuba": "havana",
        "kenya": "nairobi",
        "norway": "oslo",
        "greece": "athens",
        "china": "beijing",
        "india": "delhi",
    }
)
SUBJECTS: Mapping[str, tuple[str, Mapping[str, str]]] = MappingProxyType(
    {"animals": ("the {} says", ANIMALS), "capitals": ("the capital of {} is", CAPITALS)}
)
"""By the name of the expert: how a sentence begins, and how it ends for each word."""

SPECIAL = ("<s>", "</s>")
WORDS = (
    *SPECIAL,
    *["the", "says", "capital", "of", "is"],
    *(word for _, facts in SUBJECTS.values() for pair in facts.items() for word in pair),
)
"""The vocabulary, by id."""


def mixed_up(facts: Mapping[str, str]) -> dict[str, str]:
    """Each word with the answer that belongs to the next one."""
    words = list(facts)
    return {word: facts[words[(i + 1) % len(words)]] for i, word in enumerate(words)}


def prompts() -> dict[str, str]:
    """The beginning of every sentence, and its true end."""
    return {begin.format(word): end for begin, facts in SUBJECTS.values() for word, end in facts.items()}
