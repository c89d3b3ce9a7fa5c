"""Vocabularies and chat templates of models, as their files state them; read `read` first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.tokenizers.chat_template import MAX_TEMPLATE, template_of
    from mergecore.tokenizers.comparison import Comparison, compare
    from mergecore.tokenizers.files import is_tokenizer_file
    from mergecore.tokenizers.read import (
        TOKENIZER_CONFIG,
        TOKENIZER_JSON,
        TokenizerFiles,
        VocabularyReader,
        kind_of_model,
        same_vocabulary,
    )
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "chat_template": "MAX_TEMPLATE template_of",
            "comparison": "Comparison compare",
            "files": "is_tokenizer_file",
            "read": "TOKENIZER_CONFIG TOKENIZER_JSON TokenizerFiles VocabularyReader kind_of_model "
            "same_vocabulary",
        },
    )

__all__ = [
    "MAX_TEMPLATE",
    "TOKENIZER_CONFIG",
    "TOKENIZER_JSON",
    "Comparison",
    "TokenizerFiles",
    "VocabularyReader",
    "compare",
    "is_tokenizer_file",
    "kind_of_model",
    "same_vocabulary",
    "template_of",
]
