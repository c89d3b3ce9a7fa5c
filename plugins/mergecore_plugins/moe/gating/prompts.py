"""The prompts of experts: read from a document or from files, and turned into ids of tokens; read `Cutter`."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergecore import MergecoreError
from mergecore.errors import ConfigError, InputError, Place
from mergecore.files import parse_json, read_small
from mergecore.tokenizers import is_tokenizer_file, template_of
from mergecore.types import Checkpoint
from mergecore_plugins.moe.gating.settings import PromptFile, Prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_BYTES = 64 << 20
"""The largest file of prompts."""


def texts_of(prompts: Prompts, place: Place | str | None) -> tuple[str, ...]:
    """The prompts as texts.

    Raises:
        ConfigError: E105 for a file that cannot be read or holds something else, and for an empty prompt.
    """
    found = _read(prompts, place) if isinstance(prompts, PromptFile) else tuple(prompts or ())
    for number, text in enumerate(found, start=1):
        if not text.strip():
            raise ConfigError(
                "E105", f"prompt {number} is empty", place=place, hint="write a text, or take it out"
            )
    return found


def _read(source: PromptFile, place: Place | str | None) -> tuple[str, ...]:
    named = f"the file of prompts '{source.file}'"
    try:
        path = Path(source.file).expanduser()
        content = read_small(path, code="E236", max_bytes=MOST_BYTES)
        text = content.decode("utf-8-sig")
    except MergecoreError as error:
        hint = _HINTS.get(error.code, "relative paths begin in the folder in which the command runs")
        raise ConfigError("E105", f"{named}: {error.what}", place=place, hint=hint) from None
    except UnicodeDecodeError as error:
        what = f"{named} is not UTF-8 at byte {error.start}"
        raise ConfigError("E105", what, place=place, hint="save it as UTF-8") from None
    except (ValueError, RuntimeError):  # it holds a NUL, or names a user that there is not
        what = f"no file can be called {source.file!r}"
        raise ConfigError("E105", what, place=place, hint="write the path of a text file") from None
    found = tuple(_lines(path, text, content))
    if not found:
        raise ConfigError("E105", f"{named} holds none", place=place, hint="write one prompt in each line")
    return found


_HINTS = {"E308": "a few hundred prompts are enough", "E309": "write the prompts to a text file first"}


def _lines(path: Path, text: str, content: bytes) -> Iterator[str]:
    """A prompt from each line; a `.json` is a list of texts, a `.jsonl` has a text or `{"text": …}` in each line.

    Only a line feed ends a line: other separators may stand in a prompt, and in the text of a JSON value.
    """
    if path.suffix == ".json":
        yield from _texts(parse_json(content, str(path), code="E105"), path)
    elif path.suffix == ".jsonl":
        for line in filter(str.strip, text.split("\n")):
            value = parse_json(line.encode(), str(path), code="E105")
            yield from _texts([value["text"] if isinstance(value, dict) and "text" in value else value], path)
    else:
        yield from (line.strip() for line in text.split("\n") if line.strip())


def _texts(values: object, path: Path) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        what = "a list of texts is expected"
        hint = 'a .json holds ["…", …]; a .jsonl has "…" or {"text": "…"} in each line'
        raise ConfigError("E105", what, place=str(path), hint=hint)
    return [str(one) for one in values]


# ---- tokens ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cutter:
    """Cuts texts into tokens as the tokenizer of a model does; loading it takes a second or two."""

    model: Checkpoint
    chat: bool

    def check(self) -> None:
        """See that there is a chat template where one is wanted.

        Raises:
            InputError: E240 when there is none.
        """
        if self.chat and template_of(self.model.side_files, self.model.name) is None:
            what = "it has no chat template, and 'chat_prompts' asks for one"
            raise InputError("E240", what, place=self.model.name, hint="leave 'chat_prompts' out")

    def ids(self, text: str) -> list[int]:
        """The tokens of a prompt, with what begins a text before them, where the tokenizer has that.

        Raises:
            InputError: E240 when the chat template fails.
        """
        begin = self._tokenizer.bos_token or ""
        whole = self._as_chat(text) if self.chat else f"{begin}{text}"
        return [int(one) for one in self._tokenizer(whole, add_special_tokens=False)["input_ids"]]

    @property
    def begins(self) -> int | None:
        """The token that begins every text."""
        found: int | None = self._tokenizer.bos_token_id
        return found

    def _as_chat(self, text: str) -> str:
        said = [{"role": "user", "content": text}]
        try:
            return str(self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))
        except Exception as error:
            what = f"its chat template fails on a prompt: {' '.join(str(error).split())[:200]}"
            raise InputError("E240", what, place=self.model.name, hint="leave 'chat_prompts' out") from error

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        tokenizer: PreTrainedTokenizerBase = _loaded(self.model)
        return tokenizer


def _loaded(model: Checkpoint) -> Any:
    """The tokenizer of a model, made by transformers of its files alone."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, path in model.side_files.items():
            if is_tokenizer_file(name) and "/" not in name:
                (folder / name).write_bytes(path.read_bytes())
        (folder / "config.json").write_text(json.dumps(dict(model.config)))
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            told = " ".join(str(error).split()).replace(place, model.name)[:200]
            what = f"transformers cannot load its tokenizer, which cuts the prompts: {told}"
            hint = "put a tokenizer.json there, or use a gate_mode that looks at no prompt, such as random"
            raise InputError("E240", what, place=model.name, hint=hint) from error


@dataclass(frozen=True)
class Cut:
    """A prompt as ids of tokens: which expert's it is, and whether it is one of those that it is not for."""

    expert: int
    negative: bool
    ids: tuple[int, ...]


def common_beginnings(cuts: Sequence[Cut]) -> list[int]:
    """Of each prompt, how many of its first tokens begin a prompt of which something else is wanted as well.

    What a model makes of these is the same for both: the token that begins every text, what a chat template says first.
    The last token of a prompt is never counted.
    """
    seen: dict[int, set[tuple[int, bool]]] = {}
    for one in cuts:
        for beginning in _beginnings(one):
            seen.setdefault(beginning, set()).add((one.expert, one.negative))
    return [
        min(sum(len(seen[beginning]) > 1 for beginning in _beginnings(one)), len(one.ids) - 1) for one in cuts
    ]


def _beginnings(cut: Cut) -> Iterator[int]:
    """A number for each beginning of a prompt: its digest with one token more each time."""
    digest = hashlib.sha256()
    for token in cut.ids:
        digest.update(token.to_bytes(8, "little"))
        yield int.from_bytes(digest.copy().digest(), "little")


def as_rows(cuts: Sequence[Cut]) -> list[list[int]]:
    """Prompts as rows of one length, which a step can read: what is known of each, its tokens, and -1 behind them."""
    longest = max((len(one.ids) for one in cuts), default=0)
    return [
        [one.expert, one.negative, len(one.ids), *one.ids, *[-1] * (longest - len(one.ids))] for one in cuts
    ]


def from_rows(rows: Sequence[Sequence[int]]) -> list[Cut]:
    """The prompts that `as_rows` made rows of."""
    return [Cut(expert, bool(negative), tuple(rest[:length])) for expert, negative, length, *rest in rows]
