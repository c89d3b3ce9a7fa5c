"""Strict YAML: places of everything, scalars of YAML 1.2, and no surprises."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mergecore.errors import ConfigError, MergecoreError, PolicyError, Problems
from mergecore.files.yaml_document import (
    Document,
    parse_document,
    parse_documents,
    plain_scalar,
    read_document,
)
from mergecore.types import Json


def read(text: str) -> Document:
    return parse_document(text, "config.yml")


@pytest.fixture(params=["libyaml", "python"])
def _either_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(yaml, "__with_libyaml__", False)


# ---- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_either_parser")
@pytest.mark.parametrize(
    ("code", "text", "message"),
    [
        ("E101", "models:\n  - model: [a\n", r"config\.yml:2:12: not valid YAML"),
        ("E101", "a: 'x\nb: 2\n", r"config\.yml:1:4: not valid YAML"),
        ("E101", "a: 1\n  b: 2\n", r"config\.yml:2:4: not valid YAML: .*mapping values are not allowed"),
        ("E101", "a:\n\t- b\n", r"config\.yml:2:1: .*spaces, not with tabs"),
        ("E101", "", r"config\.yml:1:1: the file is empty\. Hint: begin with 'merge_method: …'"),
        ("E101", "# nothing\n---\n", r"empty"),
        ("E101", "x: \0\n", r"config\.yml:1:4: control character U\+0000"),
        ("E101", "a: 1\nx: \x1b[31m\n", r"config\.yml:2:4: control character U\+001B"),
        (
            "E101",
            "a: *b\n",
            r"config\.yml:1:4: the alias '\*b' is not defined\. Hint: write '&b' before it",
        ),
        (
            "E101",
            "a: 1\n---\nb: 2\n",
            r"config\.yml:3:1: one document is expected in a config, 2 were found.*remove the '---' line",
        ),
        (
            "E102",
            "a: 1\na: 2\n",
            r"config\.yml:2:1: 'a' occurs twice; first at line 1\. Hint: keep one of them",
        ),
        ("E102", "a:\n  b: 1\n  c: 2\n  b: 3\n", r"config\.yml:4:3: 'b' occurs twice; first at line 2"),
        (
            "E104",
            "hello\n",
            r"config\.yml:1:1: a config must be a mapping.*'hello'\. Hint: begin with 'merge_method: …'",
        ),
        ("E104", "- a\n", r"must be a mapping.*a list"),
        (
            "E104",
            "weight: 017\n",
            r"config\.yml:1:9: '017' is ambiguous \(octal\?\).*17 .*0o17 .*'017' for text",
        ),
        ("E104", "a: -08\n", r"'-08' is ambiguous.*write -8 "),
        ("E104", "a: {1: b}\n", r"config\.yml:1:5: a key must be text, which 1 is not.*quotes"),
        ("E104", "? [a]\n: b\n", r"a key must be text"),
        ("E104", "<<: 3\n", r"'<<' takes a mapping\. Hint: write '<<: \*name'"),
        (
            "E106",
            'x: !!python/object/apply:os.system ["ls"]\n',
            r"config\.yml:1:4: the tag '!!python/object/",
        ),
        ("E106", "x: !!str 5\n", r"the tag '!!str' is refused.*\. Hint: remove the tag"),
        (
            "E106",
            "x: !mine {a: 1}\n",
            r"the tag '!mine' is refused; a config holds plain values only, and no flag allows more",
        ),
        (
            "E106",
            "x: !range [0, 1]\n",
            r"the tag '!range' is for `mergecore search`; here a config holds plain values only\. "
            r"Hint: run `mergecore search CONFIG OUT`, or write one value",
        ),
        ("E107", "x: " + "[" * 50 + "]" * 50, r"config\.yml:1:36: nested deeper than 32 levels"),
        ("E107", "a: &x [*x]\n", r"aliases may not contain themselves"),
        ("E107", "x: " + "9" * 101, r"whole number of 101 digits"),
        ("E107", "# " + "x" * 11_000_000, r"has 11 MB and is larger than the limit of 1 MB"),
    ],
)
def test_a_fault_is_told_with_its_place_and_code(code: str, text: str, message: str) -> None:
    with pytest.raises(MergecoreError, match=message) as caught:
        read(text)
    assert caught.value.code == code
    assert isinstance(caught.value, PolicyError if code in ("E106", "E107") else ConfigError)


def test_faults_that_do_not_stop_reading_are_told_together() -> None:
    with pytest.raises(Problems) as caught:
        read("a: 017\nb: !!str 5\na: 3\n")
    assert [error.code for error in caught.value.errors] == ["E104", "E106", "E102"]


def test_the_billion_laughs_are_no_joke() -> None:
    lines = ["a: &a [" + ",".join("x" * 10) + "]"]
    lines += [f"{c}: &{c} [{','.join([f'*{p}'] * 10)}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(
        PolicyError,
        match=r"config\.yml:\d+:\d+: aliases expand to more than 250000 values\. Hint: use fewer aliases",
    ):
        read("\n".join(lines))


def test_merging_a_large_mapping_again_and_again_is_bounded_too() -> None:
    keys = ", ".join(f"k{i}: 1" for i in range(3000))
    with pytest.raises(PolicyError, match="aliases expand to more than 250000 values"):
        read(f"b: &b {{{keys}}}\nl:\n" + "- <<: *b\n" * 200)


def test_aliases_cannot_nest_deeper_than_brackets_can() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 40))
    with pytest.raises(PolicyError, match="aliases nest deeper than 32 levels"):
        read(text)


def test_a_file_is_read_as_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_bytes(b"\xef\xbb\xbfname: caf\xc3\xa9\n")
    assert read_document(file).data == {"name": "café"}
    file.write_bytes(b"name: x\n# caf\xe9\n")
    with pytest.raises(
        ConfigError, match=r"config\.yml:2:6: not UTF-8: byte 0xe9\. Hint: save the file as UTF-8"
    ) as caught:
        read_document(file)
    assert caught.value.code == "E114"


def test_a_missing_or_large_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yml: no such file") as caught:
        read_document(tmp_path / "nope.yml")
    assert caught.value.code == "E105"
    (tmp_path / "big.yml").write_text("#" * 2_000_000)
    with pytest.raises(PolicyError, match=r"has 2 MB and is larger than 1 MB") as refused:
        read_document(tmp_path / "big.yml")
    assert refused.value.code == "E107"


# ---- scalars -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("-12", -12),
        ("+3", 3),
        ("0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("yes", "yes"),
        ("off", "off"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0b11", "0b11"),
        ("1e", "1e"),
        ("nan", "nan"),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: Json) -> None:
    found = plain_scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_dot_nan_is_not_a_number() -> None:
    found = plain_scalar(".nan")
    assert isinstance(found, float)
    assert math.isnan(found)


def test_quoted_and_block_scalars_are_text() -> None:
    assert read("a: '017'\nb: \"1\"\nc: |\n  1\nd: >-\n  null\n").data == {
        "a": "017",
        "b": "1",
        "c": "1\n",
        "d": "null",
    }


# ---- structure and places ----------------------------------------------------------------------------------

NESTED = """\
base: &base {x: 1, y: [1, 2]}
first: &first
  <<: *base
  y: 3
both:
  <<: [*first, {z: 0.5, x: 7}]
"""


@pytest.mark.usefixtures("_either_parser")
def test_merge_keys_fill_in_what_a_mapping_does_not_say_and_the_earlier_wins() -> None:
    data = read(NESTED).data
    assert data["first"] == {"x": 1, "y": 3}
    assert data["both"] == {"x": 1, "y": 3, "z": 0.5}


@pytest.mark.usefixtures("_either_parser")
def test_every_value_and_key_knows_where_it_is_written() -> None:
    document = read(NESTED)
    assert str(document.place(("base", "y", 1))) == "config.yml:1:27"
    assert str(document.key_place(("first", "y"))) == "config.yml:4:3"
    assert str(document.place(("first", "y"))) == "config.yml:4:6"
    assert str(document.place(("both", "z"))) == "config.yml:6:20"
    assert str(document.place(("first", "x"))) == "config.yml:1:17"


def test_what_is_not_written_has_the_place_of_what_is_around_it() -> None:
    document = read("models:\n  - model: a\n")
    assert str(document.place(("models", 0, "parameters", "weight"))) == "config.yml:2:5"
    assert str(document.key_place(("models", 0, "nope"))) == "config.yml:2:5"
    assert str(document.place()) == "config.yml:1:1"


def test_a_document_that_was_never_text_has_no_places() -> None:
    document = Document("<config>", {"a": 1})
    assert document.place(("a",)) is None
    assert document.key_place(("a",)) is None


def test_long_frankenmerges_with_many_anchors_are_read() -> None:
    layers = "".join(
        f"- &s{i}\n  sources:\n  - {{model: m/a, layer_range: [{i}, {i + 1}], parameters: *p}}\n"
        for i in range(400)
    )
    again = "".join(f"- *s{i}\n" for i in range(400))
    text = f"p: &p {{weight: [{{filter: attn, value: [0, 1]}}, {{value: 0.5}}]}}\nslices:\n{layers}{again}"
    slices = read(text).data["slices"]
    assert isinstance(slices, list)
    assert len(slices) == 800
    assert slices[0] == slices[400]


def test_several_documents_can_be_read_where_they_are_wanted() -> None:
    found = parse_documents("a: 1\n---\na: 2\n---\n")
    assert [document.data for document in found] == [{"a": 1}, {"a": 2}]


Plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text("ab: -#'\"\n[{&*!", max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc: 0", max_size=4), inner, max_size=3)
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.text("xyz"), Plain, min_size=1, max_size=3))
def test_what_a_dumper_quotes_for_yaml_1_1_is_read_back(data: dict[str, Json]) -> None:
    assert read(yaml.safe_dump(data)).data == data


def test_known_tags_are_kept_with_their_places_and_aliases_know_where_they_were_written() -> None:
    text = "a: &x !range [0, 1]\nb: *x\nc:\n- !choice [ties, {d: !range [1, 2]}]\n"
    (document,) = parse_documents(text, "cfg.yml", tags=("!range", "!choice"))
    assert document.data == {"a": [0, 1], "b": [0, 1], "c": [["ties", {"d": [1, 2]}]]}
    found = [(one.path, one.tag, str(one.place), str(one.written)) for one in document.tagged()]
    assert found == [
        (("a",), "!range", "cfg.yml:1:4", "cfg.yml:1:4"),
        (("b",), "!range", "cfg.yml:2:4", "cfg.yml:1:4"),
        (("c", 0), "!choice", "cfg.yml:4:3", "cfg.yml:4:3"),
        (("c", 0, 1, "d"), "!range", "cfg.yml:4:22", "cfg.yml:4:22"),
    ]
