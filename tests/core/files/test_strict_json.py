"""Strict JSON: what Python's own parser would let pass is refused, with the place and the reason."""

from __future__ import annotations

import json
import os
import re
from importlib.util import find_spec
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergecore.errors import InputError, MergecoreError, PolicyError
from mergecore.files.strict_json import MAX_DEPTH, parse_json, read_json
from mergecore.types import Json

Values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(Values)
def test_what_is_json_is_read_as_it_was_written(value: Json) -> None:
    assert parse_json(json.dumps(value), code="E220") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{not json", r"header is not valid JSON.*byte 1$"),
        (b'{"caf\xc3\xa9": x}', r"header is not valid JSON.*byte 10$"),
        (b'{"a": {"dtype": 1, "dtype": 2}}', r"^header: 'dtype' occurs twice$"),
        (b'{"a": NaN}', r"^header: NaN is not JSON$"),
        (b"[-Infinity]", r"^header: -Infinity is not JSON$"),
        (b"[1e999]", r"^header: the number 1e999 is out of range$"),
        (b'{"n\xffrm": 1}', r"^header is not UTF-8 at byte 3$"),
        (b"\xef\xbb\xbf{}", r"byte order mark"),
        (b'["\\ud800"]', r"half of a surrogate pair"),
        (b"{} {}", r"not valid JSON: Extra data at byte 3$"),
        (b"", r"not valid JSON.*byte 0$"),
    ],
)
def test_what_is_not_json_is_refused_with_the_code_of_the_caller(text: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_json(text, "header", code="E203")
    assert caught.value.code == "E203"


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse_json(b'["\\ud83d\\ude00", "\\\\ud800"]', code="E220") == ["\U0001f600", "\\ud800"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", r"nested deeper than 64$"),
        ("[" * 65 + "]" * 65, r"nested deeper than 64$"),
        ("[" + "9" * 5000 + "]", r"whole number of 5000 digits, limit 100$"),
        (" " * 2001, r"larger than 2 kB \(2 kB\)$"),
    ],
)
def test_a_limit_is_a_refusal(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        parse_json(text, code="E220", max_bytes=2000 if text.isspace() else 1_000_000)
    assert caught.value.code == "E308"


def _depth(value: Json) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max((_depth(one) for one in inner), default=0)


Brackets = st.recursive(
    st.sampled_from(["[", "]}", '\\"[', "\\\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from('{"\\'), inner, max_size=3),
    max_leaves=30,
)


@given(Brackets, st.integers(0, 6))
def test_depth_counts_brackets_but_not_those_in_strings(value: Json, limit: int) -> None:
    text = json.dumps(value)
    if _depth(value) <= limit:
        assert parse_json(text, code="E220", max_depth=limit) == value
    else:
        with pytest.raises(PolicyError, match=f"nested deeper than {limit}"):
            parse_json(text, code="E220", max_depth=limit)


def test_the_deepest_allowed_nesting_is_read() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, code="E220")


def test_a_file_is_named_in_front_of_what_is_wrong_with_it(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors.index.json"
    file.write_text("{")
    with pytest.raises(InputError, match=r"index\.json: not valid JSON"):
        read_json(file, code="E210")
    file.write_text('{"hidden_size": 8, "hidden_size": 9}')
    with pytest.raises(InputError, match=r"index\.json: 'hidden_size' occurs twice"):
        read_json(file, code="E210")
    file.write_text('{"hidden_size": 8}')
    assert read_json(file, code="E210") == {"hidden_size": 8}


def test_a_file_that_is_missing_or_no_file_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, code, message in [
        ("config.json", "E220", r"config\.json: missing"),
        ("nowhere/config.json", "E220", r"missing.*there is no folder '.*nowhere'"),
        ("pipe", "E309", r"not a regular file \(fifo\)"),
        (".", "E309", r"not a regular file \(directory\)"),
        ("loop", "E236", r"cannot be read"),
    ]:
        with pytest.raises(MergecoreError, match=message) as caught:
            read_json(tmp_path / name, code="E220")
        assert caught.value.code == code


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(" " * 3_000_000)
    with pytest.raises(PolicyError, match=r"has 3 MB and is larger than 1 MB"):
        read_json(file, code="E220", max_bytes=1_000_000)


def test_no_other_module_parses_json_or_yaml() -> None:
    parsing = re.compile(r"\bjson\.loads?\(|JSONDecoder|\byaml\.(safe_|full_|unsafe_)?load|\byaml\.parse\(")
    # the header reader looks again at what was refused, to name a tensor that occurs twice
    # and edits take the places of a text that was read as a config from the events of the same parser
    allowed = {"strict_json.py", "yaml_document.py", "safetensors.py", "nodes.py"}
    for package in ("mergecore", "mergecore_plugins", "mergecore_architectures", "mergecore_contrib"):
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for file in Path(folder).rglob("*.py"):
                if file.name not in allowed:
                    assert not parsing.search(file.read_text()), f"{file} parses by itself"


def test_infinity_is_a_number_only_where_it_is_allowed() -> None:
    # configs of Mamba2 hold "time_step_limit": [0.0, Infinity]
    assert parse_json('{"a": [0.0, Infinity, -Infinity]}', code="E220", infinite=True) == {
        "a": [0.0, inf, -inf]
    }
    with pytest.raises(MergecoreError, match="NaN is not JSON"):
        parse_json('{"a": NaN}', code="E220", infinite=True)
    with pytest.raises(MergecoreError, match="Infinity is not JSON"):
        parse_json('{"a": Infinity}', code="E220")


def test_nan_is_a_number_only_where_it_is_allowed() -> None:
    with pytest.raises(MergecoreError, match="NaN is not JSON"):
        parse_json('{"loss": NaN}', code="E220", infinite=True)
    read = parse_json('{"loss": NaN}', code="E220", nan=True)
    assert isinstance(read, dict)
    assert str(read["loss"]) == "nan"
    with pytest.raises(MergecoreError, match="Infinity is not JSON"):
        parse_json('{"loss": Infinity}', code="E220", nan=True)
