"""JSON as its standard has it, within bounds: the only place where mergecore parses JSON.

Read `parse_json` first.  What Python's parser lets pass is refused: a key that occurs twice, NaN, a lone
surrogate, numbers that no double holds, nesting that exhausts the stack.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TypeAlias

from mergecore.errors import MergecoreError, Place, class_of
from mergecore.files.sizes import size_text
from mergecore.files.small_files import read_small

MAX_BYTES = 256_000_000
MAX_DEPTH = 64
MAX_DIGITS = 100


def read_json(path: Path, *, code: str, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Json:
    """The value in a JSON file.

    Raises:
        MergecoreError: `code` when the file is missing, is not UTF-8 or not JSON; E308 beyond a limit; E309
            when it is not a regular file.
    """
    data = read_small(path, code=code, max_bytes=max_bytes)
    return parse_json(data, "", code=code, place=str(path), max_bytes=max_bytes, max_depth=max_depth)


def parse_json(
    source: str | bytes,
    what: str = "",
    *,
    code: str,
    place: Place | str | None = None,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    infinite: bool = False,
    nan: bool = False,
) -> Json:
    """The value that `source` holds; `what` names it in messages, as in "header is not valid JSON".

    infinite: take Infinity for a number, as Python writes it; configs of some state space models hold one.
    nan: take NaN for a number, as logs of training hold it where a loss has no value.

    Raises:
        MergecoreError: `code` when it is not UTF-8 or not JSON; E308 beyond a limit.
    """
    try:
        data = source.encode() if isinstance(source, str) else source
        _check_size(data, max_bytes)
        value: Json = _decoder(infinite, nan, bool(_LONG.search(data))).decode(_decoded(data))
        _check_depth(value, max_depth)
        if b"\\ud" in data or b"\\uD" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except _Refused as refused:
        raise _error(refused.code or code, what, str(refused), place) from None
    except json.JSONDecodeError as error:
        byte = len(error.doc[: error.pos].encode())
        raise _error(code, what, f"not valid JSON: {error.msg} at byte {byte}", place) from None
    except RecursionError:
        raise _error("E308", what, f"nested deeper than {max_depth}", place) from None
    except UnicodeEncodeError:
        raise _error(code, what, "not valid JSON: half of a surrogate pair stands alone", place) from None
    return value


def parse_mapping(
    source: str | bytes,
    *,
    code: str,
    place: Place | str | None = None,
    max_bytes: int = MAX_BYTES,
    infinite: bool = False,
) -> dict[str, Json]:
    """The object that `source` holds; arguments and errors are those of `parse_json`."""
    value = parse_json(source, code=code, place=place, max_bytes=max_bytes, infinite=infinite)
    if not isinstance(value, dict):
        raise class_of(code)(code, "must be a JSON object", place=place)
    return value


class _Refused(Exception):
    def __init__(self, what: str, code: str | None = None) -> None:
        super().__init__(what)
        self.code = code


def _error(code: str, what: str, fault: str, place: Place | str | None) -> MergecoreError:
    verb = " is " if fault.startswith(("not ", "nested ", "larger ")) else ": "
    return class_of(code)(code, f"{what}{verb}{fault}" if what else fault, place=place)


def _check_size(data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise _Refused(f"larger than {size_text(limit)} ({size_text(len(data))})", "E308")


def _check_depth(value: Json, limit: int) -> None:
    """Refuse nesting deeper than `limit`; what the parser's own limit lets pass would exhaust the stack elsewhere."""
    level = [value]
    for _ in range(limit + 1):
        inside = [
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)
        ]
        if not inside:
            return
        level = [child for children in inside for child in children if isinstance(child, dict | list)]
    raise _Refused(f"nested deeper than {limit}", "E308")


def _decoded(data: bytes) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise _Refused("not valid JSON: it begins with a byte order mark at byte 0")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _Refused(f"not UTF-8 at byte {error.start}") from None


def _decoder(infinite: bool, nan: bool, long: bool) -> json.JSONDecoder:
    """The parser; `long`: there may be numbers of so many digits that each has to be looked at."""
    return json.JSONDecoder(
        object_pairs_hook=_without_duplicates,
        parse_constant=lambda word: _constant(word, nan if word == "NaN" else infinite),
        parse_float=_finite,
        parse_int=_bounded if long else None,
    )


_LONG = re.compile(rb"[0-9]{%d}" % MAX_DIGITS)


def _without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"'{key[:200]}' occurs twice")
            seen.add(key)
    return value


def _constant(word: str, allowed: bool) -> Json:
    if not allowed:
        raise _Refused(f"{word} is not JSON")
    return float(word)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused(f"the number {text[:40]} is out of range")
    return value


def _bounded(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _Refused(f"a whole number of {len(text.lstrip('-'))} digits, limit {MAX_DIGITS}", "E308")
    return int(text)


Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
