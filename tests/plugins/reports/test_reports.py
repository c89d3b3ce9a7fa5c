"""Reports: whole HTML without network, and whatever names hold is harmless."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from mergecore.types import TensorFacts
from mergecore_plugins.look.comparing import Comparison, Measured
from mergecore_plugins.look.difference import Difference
from mergecore_plugins.look.kinship import Kinship
from mergecore_plugins.look.pairs import Pair
from mergecore_plugins.look.report import report
from mergecore_plugins.reports import HeatMap, Part, data_table, heat_map, page, paragraph

EVIL = "<script>alert(1)</script>\"'&"
VOID = {"meta", "rect"}


class Tags(HTMLParser):
    """Every element, closed in the order in which they were opened, and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def written(name: str) -> str:
    """A report with `name` wherever a name may stand."""
    cell = HeatMap(name, name, [name], [name], {(name, name): 1.0}, shown=lambda value: name)
    return page(
        name,
        [name],
        [Part(name, [heat_map(cell), data_table([name], [[name]], closed=name), paragraph(name)])],
    )


def test_names_are_text_wherever_they_stand() -> None:
    evil, plain = Tags(written(EVIL)), Tags(written("x"))
    assert evil.names == plain.names
    assert [name for name, _ in evil.attributes] == [name for name, _ in plain.attributes]
    assert "".join(evil.words).count(EVIL) == "".join(plain.words).count("x") - "".join(
        Tags(page("", [], [])).words
    ).count("x")


def test_a_report_needs_no_network_and_runs_no_script() -> None:
    text = written("x")
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|url\(|@import|<script|src=|<link", text)
    assert ("lang", "en") in Tags(text).attributes


def test_darker_cells_are_larger_and_numbers_stand_beside() -> None:
    values = {("a", "x"): 0.0, ("a", "y"): 5.0, ("b", "x"): 10.0}
    text = heat_map(HeatMap("Sizes", "Larger is darker.", ["a", "b"], ["x", "y"], values))
    assert [float(one) for one in re.findall(r'fill-opacity="([0-9.]+)"', text)] == [0.04, 0.37, 0.7]
    assert 'aria-label="Sizes. Larger is darker."' in text
    assert "Sizes as a table" in text
    assert "<td></td>" in text  # b, y


def test_numbers_beyond_the_ends_are_as_dark_as_these() -> None:
    text = heat_map(HeatMap("", "", ["a"], ["x", "y"], {("a", "x"): -3.0, ("a", "y"): 3.0}, 0.0, 1.0))
    assert re.findall(r'fill-opacity="([0-9.]+)"', text) == ["0.04", "0.70"]


def test_equal_numbers_and_none_can_be_drawn() -> None:
    assert 'fill-opacity="0.04"' in heat_map(HeatMap("", "", ["a"], ["x"], {("a", "x"): 2.0}))
    assert "<rect" not in heat_map(HeatMap("", "", [], [], {}))


@pytest.mark.parametrize("with_base", [False, True])
def test_the_report_of_70_billion_parameters_has_less_than_a_megabyte(with_base: bool) -> None:
    one = Pair(10, 2.0, 3.0, 1.5, 0.123456, 1.0, 5, 10, 6)
    roles = ["attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down", "norm"]
    measured = tuple(
        Measured(
            f"model.layers.{layer}.{role}.weight",
            (8192, 28672),
            ("BF16",) * 3,
            TensorFacts("model.layers.", layer, role, role=role),
            (one, one) if with_base else (one,),
            one if with_base else None,
        )
        for layer in range(80)
        for role in [*roles, "norm.second"]
    )
    names = ("a", "b", "c")[: 2 + with_base]
    found = Difference(
        names, Comparison(names, measured, {}, {}), Kinship("base", EVIL), {"key": (EVIL, 1)}, "", ""
    )
    text = report(found)
    assert len(text.encode()) < 1_000_000
    assert "script" not in Tags(text).names
    assert text.count("<svg") == (4 if with_base else 3)
