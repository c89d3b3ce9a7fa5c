"""Amounts of memory and disk as people write and read them."""

from __future__ import annotations

import re

from mergecore.errors import ConfigError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_POWER = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(value: str | int) -> int:
    """The number of bytes in `5GB` (10^9 each), `5GiB` (2^30 each) or a plain number.

    Raises:
        ConfigError: E105.
    """
    found = _SIZE.fullmatch(str(value).strip())
    count = 0
    if found:
        number, unit, binary = found.groups()
        count = int(float(number) * (1024 if binary else 1000) ** _POWER[unit.upper()])
    if re.fullmatch(r"[0-9.]+\s*[bB]|[0-9.]{1,2}", str(value).strip()) and 0 < count < 1000:
        raise ConfigError(
            "E105", f"'{value}' would be {count} bytes", hint=f"write {count}GB for billions of bytes"
        )
    if count < 1:
        raise ConfigError("E105", f"'{value}' is not a size", hint="write for example 500MB, 5GB or 4GiB")
    return count


def size_text(count: int) -> str:
    """A number of bytes in words, such as `11 MB`."""
    for unit, worth in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= worth:
            return f"{count / worth:.3g} {unit}"
    return f"{count} bytes"
