"""Whether those who read the output can use its tokenizer and its chat template; read `checked`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mergecore.errors import InputError, PolicyError, some
from mergecore.files.small_files import read_small
from mergecore.files.strict_json import MAX_BYTES, parse_json
from mergecore.tokenizers.chat_template import MAX_TEMPLATE, template_of
from mergecore.tokenizers.read import TOKENIZER_CONFIG, TOKENIZER_JSON
from mergecore.types import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def checked(vocabulary: Vocabulary, place: str) -> Vocabulary:
    """The vocabulary with what the user should know about its files; `place` names the model they come from.

    Raises:
        MergecoreError: E240 when the library cannot load a tokenizer that is to be aligned, or a file is not
            JSON; E308 when the chat template is too large.
    """
    template = template_of(vocabulary.files, place)
    if template is not None and len(template) > MAX_TEMPLATE:
        what = f"a chat template of {len(template)} characters, limit {MAX_TEMPLATE}"
        raise PolicyError("E308", what, place=place, hint="'chat_template' in the config gives another one")
    warnings: list[str] = []
    tokenizer = None
    if TOKENIZER_JSON in vocabulary.files:
        try:
            tokenizer = _loaded(_data(vocabulary.files[TOKENIZER_JSON]), f"{place}/{TOKENIZER_JSON}")
        except InputError as error:
            if vocabulary.size is not None:
                raise
            warnings.append(f"{error}; it is copied as it is")
    if tokenizer is not None:
        warnings += _unknown_specials(tokenizer, vocabulary.files, place)
    if tokenizer is not None and template is not None:
        warnings += _unknown_marks(template, tokenizer, vocabulary.files, place)
    return replace(vocabulary, warnings=(*vocabulary.warnings, *warnings)) if warnings else vocabulary


def _loaded(content: bytes, place: str) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(content)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 - bare exceptions, and panics that are none
        what = f"the 'tokenizers' library cannot load it: {error}"
        raise InputError("E240", what, place=place, hint="correct or replace the file") from None


_MARK = re.compile(
    r"<\|[\w./-]{1,64}\|>|<\uff5c[\w./\u2581-]{1,64}\uff5c>|<(?:start|end)_of_\w{1,32}>|</?s>|<[be]os>"
)
"""What templates write as one token; tags such as <tool_call> may be ordinary text."""

_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)


def _unknown_marks(
    template: str, tokenizer: Tokenizer, files: Mapping[str, Path | bytes], place: str
) -> list[str]:
    """A warning of marks in a chat template that are no tokens."""
    marks = dict.fromkeys(_MARK.findall(_COMMENT.sub("", template)))
    lacking = [mark for mark in marks if tokenizer.token_to_id(mark) is None]
    if lacking:
        beside = _added_beside(files, place)
        lacking = [mark for mark in lacking if mark not in beside]
    if not lacking:
        return []
    return [
        f"the chat template writes {some(lacking)}, which the vocabulary lacks: the model sees them as ordinary "
        f"text ('tokenizer: {{source: union}}' adds those that a merged model has, 'tokens' any other)"
    ]


def _unknown_specials(tokenizer: Tokenizer, files: Mapping[str, Path | bytes], place: str) -> list[str]:
    """A warning of special tokens that are named and are no tokens."""
    if TOKENIZER_CONFIG not in files:
        return []
    stated = parse_json(_data(files[TOKENIZER_CONFIG]), code="E240", place=f"{place}/{TOKENIZER_CONFIG}")
    named: dict[str, str] = {}
    for key, one in stated.items() if isinstance(stated, dict) else ():
        text = one.get("content") if isinstance(one, dict) else one
        if _SPECIAL.fullmatch(key) and isinstance(text, str):
            named[key] = text
    beside = _added_beside(files, place)
    lacking = {
        key: text for key, text in named.items() if tokenizer.token_to_id(text) is None and text not in beside
    }
    if not lacking:
        return []
    told = ", ".join(f"'{text}' as {key}" for key, text in lacking.items())
    return [
        f"the tokenizer names {told}, which the vocabulary lacks: transformers gives it an id after all others, "
        "where the model may have no row ('tokens' in the config adds it with one)"
    ]


_SPECIAL = re.compile(r"(bos|eos|unk|sep|pad|cls|mask)_token")


def _added_beside(files: Mapping[str, Path | bytes], place: str) -> set[str]:
    """The tokens that are added by other files than tokenizer.json."""
    found: set[str] = set()
    for name in (TOKENIZER_CONFIG, "added_tokens.json"):
        if name not in files:
            continue
        value = parse_json(_data(files[name]), code="E240", place=f"{place}/{name}")
        if isinstance(value, dict) and name == TOKENIZER_CONFIG:
            stated = value.get("added_tokens_decoder")
            flags = stated.values() if isinstance(stated, dict) else ()
            found |= {str(one.get("content")) for one in flags if isinstance(one, dict)}
        elif isinstance(value, dict):
            found |= value.keys()
    return found


def _data(content: Path | bytes) -> bytes:
    if isinstance(content, bytes):
        return content
    return read_small(content, code="E240", max_bytes=MAX_BYTES)
