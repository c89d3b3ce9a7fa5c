"""The ids of special tokens that configs hold, such as `eos_token_id`, in the vocabulary of the output.

Read `SpecialIds.follow`, which changes one config.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

from mergecore.files.strict_json import parse_json, read_json
from mergecore.models.layers import is_text, nested_configs
from mergecore.types import Checkpoint, Json, Rows, Vocabulary

GENERATION = "generation_config.json"

_KEYS = re.compile(
    r"\w+_token_(ids?|index)|(begin_)?suppress_tokens|forced_decoder_ids|(bad|force)_words_ids|(lang|task)_to_id"
)
_AT_PLACES = "forced_decoder_ids"
"""Pairs of a place in the output and the id that stands there."""


@dataclass
class SpecialIds:
    """What became of the primary model's ids, and where the right ones are stated; gathers what cannot be followed."""

    vocabulary: Vocabulary
    primary: Checkpoint
    primary_rows: Rows | None
    """The primary model's row of each id of the output; None when its ids did not change."""
    warnings: list[str] = field(default_factory=list)

    def follow(self, name: str, config: dict[str, Json]) -> bool:
        """Change the ids in a config, in place; whether any was another one."""
        stated = self._stated(name)
        changed = False
        for path, section in nested_configs(config):
            for key, value in section.items():
                if _KEYS.fullmatch(key) and value is not None and (not path or is_text(path)):
                    new = self._found(name, key, value, _at(stated, path) if stated else {})
                    changed = changed or new != value
                    cast("dict[str, Json]", section)[key] = new
        return self._complete(config, stated or {}) or changed

    def _found(self, name: str, key: str, value: Json, stated: Mapping[str, Json]) -> Json:
        """What the source states, unless its tokenizer knows better; else what became of the primary model's id."""
        known = self._of_tokenizer(key, stated.get(key))
        if known is not None:
            return known
        if self.vocabulary.roles is not None and key == "pad_token_id":
            return None  # the tokenizer pads with nothing
        return self._mapped(name, key, value)

    def _of_tokenizer(self, key: str, stated: Json) -> Json:
        """The id that the source states; that of the tokenizer for padding, and where it states none it has."""
        roles, size = self.vocabulary.roles, self.vocabulary.size
        if roles is None:
            return stated
        known: Json = roles.get(key.removesuffix("_token_id"))
        if type(stated) is int and not 0 <= stated < (size or 0):
            stated = None
        if stated is None or (key == "pad_token_id" and known is not None):
            return known
        return stated

    def _complete(self, config: dict[str, Json], stated: Mapping[str, Json]) -> bool:
        """Add the ids that the config lacks and the tokenizer knows; whether there were any."""
        added: dict[str, Json] = {}
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            spoken = any(
                key in section for path, section in nested_configs(config) if not path or is_text(path)
            )
            number = self._of_tokenizer(key, stated.get(key)) if config and not spoken else None
            if self.vocabulary.roles is not None and number is not None:
                added[key] = number
        config |= added
        return bool(added)

    def _stated(self, name: str) -> Mapping[str, Json] | None:
        """What the model whose vocabulary it is says itself, its generation config before its config."""
        source = self.vocabulary.source
        if source is None:
            return None
        further = generation_config(source) if name == GENERATION else {}
        return {**{key: value for key, value in source.config.items() if value is not None}, **further}

    def _mapped(self, name: str, key: str, value: Json) -> Json:
        if isinstance(value, (list, dict)):
            return self._mapped_all(value, key == _AT_PLACES)
        if type(value) is not int or value < 0:
            return value
        new = self._new_id(value)
        if new is None:
            new = self._by_role(key)
        if new is None:
            self.warnings.append(
                f"{name}: {key} {value} is not a token of the output; it becomes null: set it by hand"
            )
        return new

    def _mapped_all(self, value: Json, at_places: bool = False) -> Json:
        """Lists of ids, of lists of them, and ids by name: what stands for no token of the output is left out."""
        if isinstance(value, dict):
            return {key: new for key, one in value.items() if (new := self._mapped_all(one)) is not None}
        if type(value) is int:
            return self._new_id(value)
        if not isinstance(value, list):
            return value
        if at_places:
            pairs = [
                (one[0], self._mapped_all(one[1])) for one in value if isinstance(one, list) and len(one) == 2
            ]
            return [[place, new] for place, new in pairs if new is not None]
        ids = [self._mapped_all(one) for one in value]
        if any(isinstance(one, list) for one in value):  # words of several ids: all or nothing
            return [new for old, new in zip(value, ids, strict=True) if _length(old) == _length(new)]
        return [one for one in ids if one is not None]

    def _new_id(self, old: int) -> int | None:
        """The id in the output of what the primary model's id stands for."""
        if self.primary_rows is None:
            return old
        if old < len(self.primary_rows) and self.primary_rows[old] == old:
            return old
        return self._ids_of_rows.get(old)

    @cached_property
    def _ids_of_rows(self) -> Mapping[int, int]:
        return {
            int(row): number
            for number, row in enumerate(self.primary_rows if self.primary_rows is not None else ())
        }

    def _by_role(self, key: str) -> int | None:
        """The id of the token that the tokenizer of the output has for the same role."""
        content = self.vocabulary.files.get("tokenizer_config.json")
        if content is None:
            return None
        config = (
            read_json(content, code="E240") if isinstance(content, Path) else parse_json(content, code="E240")
        )
        token = config.get(key.removesuffix("_id")) if isinstance(config, dict) else None
        if isinstance(token, dict):
            token = token.get("content")
        return self.vocabulary.ids.get(token) if isinstance(token, str) else None


def _length(value: Json) -> int:
    return len(value) if isinstance(value, list) else 0


def generation_config(model: Checkpoint) -> dict[str, Json]:
    """generation_config.json of a model, empty where it has none.

    Raises:
        MergecoreError: E220 when it is not JSON.
    """
    path = model.side_files.get(GENERATION)
    value = read_json(path, code="E220") if path else {}
    return value if isinstance(value, dict) else {}


def set_vocabulary_size(config: dict[str, Json], size: int) -> None:
    """Write the number of rows under the keys that are there, for the whole model and its text models."""
    for path, section in nested_configs(config):
        if not path or is_text(path):
            for key in ("vocab_size", "padded_vocab_size"):
                if key in section:
                    cast("dict[str, Json]", section)[key] = size


def _at(config: Mapping[str, Json], path: Sequence[str]) -> Mapping[str, Json]:
    for key in path:
        value = config.get(key)
        if not isinstance(value, dict):
            return {}
        config = value
    return config
