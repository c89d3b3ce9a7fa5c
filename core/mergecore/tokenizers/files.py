"""Which side files of a model belong to its tokenizer; nothing else of the core is needed to tell."""

from __future__ import annotations

import re


def is_tokenizer_file(name: str) -> bool:
    """Whether a tokenizer strategy decides about a side file; every other one comes from the primary model."""
    return bool(_TOKENIZER_FILE.fullmatch(name))


_TOKENIZER_FILE = re.compile(
    r"(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|normalizer|tekken|chat_template)\.json"
    r"|(vocab|merges|dict)\.txt|vocab\.(bpe|tsv)|bpe\.codes|tokenizer\.model\.v[0-9]+"
    r"|[\w.-]+\.(model|spm|tiktoken|jinja)|additional_chat_templates/[\w.-]+\.jinja",
    re.ASCII,
)
