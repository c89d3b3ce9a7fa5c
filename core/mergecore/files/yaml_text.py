"""The text of a YAML file before it is parsed: its size, its encoding, and letters that look like YAML.

Read `read_text`, then `check_text`.
"""

from __future__ import annotations

import re
from pathlib import Path

from mergecore.errors import ConfigError, Place, PolicyError, did_you_mean
from mergecore.files.sizes import size_text
from mergecore.files.small_files import read_small

MAX_BYTES = 1_000_000


def read_text(path: Path) -> str:
    """The text of a YAML file.

    Raises:
        ConfigError: E105 when there is no such file, E114 when it is not UTF-8.
        PolicyError: E107 when it is too large.
    """
    _check_file(path)
    data = read_small(path, code="E105", max_bytes=MAX_BYTES, limit_code="E107")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = error.start - before.rfind(b"\n")
        place = Place(str(path), before.count(b"\n") + 1, column)
        what = f"not UTF-8: byte {data[error.start]:#04x}"
        raise ConfigError("E114", what, place=place, hint="save the file as UTF-8") from None


def _check_file(path: Path) -> None:
    """Say what is there instead of a file."""
    if path.is_dir():
        inside = sorted(one.name for one in path.iterdir() if one.suffix in (".yml", ".yaml"))
        hint = f"write '{path / inside[0]}'" if inside else "write the path of the YAML file"
        raise ConfigError("E105", "a folder; a config is a YAML file", place=str(path), hint=hint)
    if not path.exists() and not path.is_symlink() and path.parent.is_dir():
        near = did_you_mean(path.name, sorted(one.name for one in path.parent.iterdir()))
        where = "" if path.is_absolute() else f"relative paths start at {Path.cwd()}"
        raise ConfigError("E105", f"no such file{near}", place=str(path), hint=where or None)


_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def check_text(text: str, name: str) -> None:
    """Raise E107 when a text is too large, E101 when it has a character that YAML does not allow."""
    if (size := len(text.encode(errors="replace"))) > MAX_BYTES:
        what = f"the config has {size_text(size)} and is larger than the limit of {size_text(MAX_BYTES)}"
        raise PolicyError("E107", what, place=name)
    if found := _FORBIDDEN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        what = f"control character U+{ord(found.group()):04X}"
        raise ConfigError("E101", what, place=Place(name, line, column), hint="remove it")


_SPACES = "\u00a0\u2000-\u200b\u202f\u3000"
ODD = re.compile(
    f"^[{_SPACES}]|[{_SPACES}]$|(?<=:)[{_SPACES}]|^[\u2013\u2014](?=[ {_SPACES}])|^[\u201c-\u201e]"
)
"""A scalar without quotes that holds a letter where a space, a dash or a quote is meant."""
ODD_LINE = re.compile(f"[{_SPACES}\u2013\u2014\u201c-\u201e]")
"""A letter that looks like a character of YAML."""
PLAINLY = "write the plain one of the keyboard; programs for texts change them"


def odd_letter(text: str) -> str:
    """What a character is that looks like one of YAML."""
    kind = (
        "quote"
        if "\u201c" <= text <= "\u201e"
        else "long dash"
        if text in "\u2013\u2014"
        else "no-break space"
    )
    return f"a {kind} (U+{ord(text):04X}), which is a letter to YAML"
