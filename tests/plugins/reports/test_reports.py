"""Reports: whole HTML without network, and whatever names hold is harmless."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from mergecore.types import TensorFacts
from mergecore_plugins.look.comparing import Comparison, Measured
from mergecore_plugins.look.difference import Difference
from mergecore_plugins.look.kinship import Kinship
from mergecore_plugins.look.page import report
from mergecore_plugins.look.pairs import Pair
from mergecore_plugins.reports import (
    HeatMap,
    LayerMap,
    Part,
    Spot,
    bullets,
    command,
    data_table,
    fact_list,
    heat_map,
    layer_map,
    page,
    paragraph,
)
from mergecore_plugins.reports.words import short_names

EVIL = "<script>alert(1)</script>\"'&"
VOID = {"meta"}


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
        [
            Part(name, [heat_map(cell), data_table([name], [[name]], closed=name), paragraph(name)]),
            Part(name, [bullets([name]), command(name), fact_list({name: name})]),
            Part(name, [layer_map(LayerMap(name, {Spot(name, 0, name): 1.0}, name))]),
        ],
    )


def test_names_are_text_wherever_they_stand() -> None:
    name = "Q" * len(EVIL)
    evil, plain = Tags(written(EVIL)), Tags(written(name))
    assert evil.names == plain.names
    assert [one for one, _ in evil.attributes] == [one for one, _ in plain.attributes]
    assert "".join(evil.words).count(EVIL) == "".join(plain.words).count(name) > 20


def test_a_report_needs_no_network_and_runs_its_own_script_alone() -> None:
    text = written("x")
    assert re.findall(r"https?://|url\(|@import|src=|<link|<iframe|<object|<form", text) == []
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    assert policy[1] == f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}"
    assert ("lang", "en") in Tags(text).attributes


def test_darker_cells_are_larger_and_numbers_stand_beside() -> None:
    values = {("a", "x"): 0.0, ("a", "y"): 5.0, ("b", "x"): 10.0}
    text = heat_map(HeatMap("Sizes", "Larger is darker.", ["a", "b"], ["x", "y"], values))
    assert [float(one) for one in re.findall(r'fill-opacity="([0-9.]+)"', text)] == [0.04, 0.37, 0.7]
    assert re.findall(r'<text x="[0-9]+" y="[0-9]+">([0-9]+)</text>', text) == ["0", "5", "10"]
    assert 'aria-label="Sizes. Larger is darker."' in text
    assert "Sizes as a table" in text
    assert "<td></td>" in text  # b, y


def test_numbers_beyond_the_ends_are_as_dark_as_these() -> None:
    text = heat_map(HeatMap("", "", ["a"], ["x", "y"], {("a", "x"): -3.0, ("a", "y"): 3.0}, 0.0, 1.0))
    assert re.findall(r'fill-opacity="([0-9.]+)"', text) == ["0.04", "0.70"]


def test_equal_numbers_and_none_can_be_drawn() -> None:
    assert 'fill-opacity="0.04"' in heat_map(HeatMap("", "", ["a"], ["x"], {("a", "x"): 2.0}))
    assert "<path" not in heat_map(HeatMap("", "", [], [], {}))


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
    assert Tags(text).names.count("script") == 1
    assert text.count("<svg") == (4 if with_base else 3)


# ---- layers and roles --------------------------------------------------------------------------------------


def rows_of(text: str) -> list[str]:
    """The names of the rows of a picture."""
    return re.findall(r'<text x="0" y="[0-9]+">([^<]+)</text>', text)


def test_layers_that_are_alike_share_a_row_and_roles_a_column() -> None:
    values = {
        Spot("m.", layer, role): 0.5 + (layer == 3) / 4 for layer in range(6) for role in ("q", "k", "v")
    }
    values[Spot("", -1, "embed")] = 0.25
    text = layer_map(LayerMap("Weights", values, "so it is"))
    assert rows_of(text) == ["0–2", "3", "4–5", "outside"]
    assert "From 0.25 (embed, outside the layers) to 0.75 (q in layer 3): so it is." in text
    assert "q and 2 more: q, k, v." in text


def test_layers_of_two_stacks_keep_their_names() -> None:
    values = {Spot(stack, layer, "q"): 1.0 for stack in ("enc.", "dec.") for layer in range(2)}
    text = layer_map(LayerMap("Weights", values, "so it is"))
    assert rows_of(text) == ["dec.0–1", "enc.0–1"]
    assert "It is 1 everywhere: so it is." in text


def test_what_differs_outside_of_layers_is_not_joined() -> None:
    values = {Spot("m.", 0, "norm"): 1.0, Spot("m.", 0, "q"): 1.0, Spot("", -1, "norm"): 2.0}
    assert ">norm and q</text>" in layer_map(LayerMap("", values, ""))
    values[Spot("", -1, "q")] = 3.0
    text = layer_map(LayerMap("", values, ""))
    assert ">norm</text>" in text
    assert ">q</text>" in text


def test_local_paths_are_shortened_as_far_as_names_differ() -> None:
    assert short_names(["/home/me/m/base", "/home/me/m/a", "org/a", "a/b"]) == ["base", "a", "org/a", "a/b"]
    assert short_names(["/x/run/1", "/y/run/1", "~/z/2"]) == ["x/run/1", "y/run/1", "z/2"]
    assert short_names(["../a", "a"]) == ["../a", "a"]
    assert short_names(["/", "/x"]) == ["/", "x"]
    assert short_names(["/x/a", "/x/a"]) == ["a", "a"]
