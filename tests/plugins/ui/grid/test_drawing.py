"""What is drawn lands in the text, and the merge uses exactly that: plans are made of the text and compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergecore import ConfigError, Registry, plan
from mergecore.testing import tiny_model
from mergecore_plugins.ui.grid.drawing import Drawing, drawn
from mergecore_plugins.ui.grid.facts import facts

TIES = """\
# ours
merge_method: ties
base_model: ./a   # the base
models:
  - {model: ./b, parameters: {weight: 0.5}}   # b
  - model: ./c
    parameters:
      weight: [0, 1]   # rising
"""
SLICES = """\
merge_method: linear
slices:
  - sources:
      - {model: ./a, layer_range: [0, 3], parameters: {weight: 0.5}}
      - {model: ./b, layer_range: [0, 3], parameters: {weight: 0.5}}
  - sources:
      - {model: ./c, layer_range: [1, 4], parameters: {weight: 0.5}}
      - {model: ./a, layer_range: [1, 4], parameters: {weight: 0.5}}
"""


@cache
def registry() -> Registry:
    return Registry.discover()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of four layers, which lie in the working folder."""
    made = tmp_path_factory.mktemp("grid")
    for seed, name in enumerate("abc"):
        tiny_model(made / name, seed=seed, layers=4)
    return made


@pytest.fixture(autouse=True)
def _inside(folder: Path) -> Any:
    before = Path.cwd()
    os.chdir(folder)
    yield
    os.chdir(before)


def shown(text: str) -> Any:
    """What the grid shows of a text."""
    Path("shown.yml").write_text(text, encoding="utf8")
    return facts(plan(Path("shown.yml"), registry=registry()), registry())


def draw(text: str, parameter: str, model: int | None, cells: Sequence[tuple[int, int, float]]) -> str:
    asked = {
        "text": text,
        "shape": shown(text)["shape"],
        "parameter": parameter,
        "model": model,
        "cells": cells,
    }
    return drawn(Drawing.model_validate(asked)).after


def test_the_grid_shows_what_the_merge_uses() -> None:
    found = shown(TIES)
    shape, values = found["shape"], found["values"]
    assert [one["label"] for one in shape["rows"]] == ["before", "0", "1", "2", "3", "after"]
    assert shape["columns"] == ["embed", "attn", "mlp", "norm", "head"]
    assert shape["models"] == ["./b", "./c"]
    # position t of layer i of 4 is i/3; outside the layers it is 0
    assert values["weight"][1] == [
        [0, None, None, None, None],
        *([None, i / 3, i / 3, i / 3, None] for i in range(4)),
        [None, None, None, 0, 0],
    ]
    assert values["density"][0][1] == [None, 1, 1, 1, None]
    assert len(values["lambda"]) == 1


def test_cells_whose_tensors_differ_show_the_least_and_the_greatest() -> None:
    text = TIES.replace("weight: [0, 1]", "weight: [{filter: role:attn.q, value: 0.25}, {value: 0.75}]")
    assert shown(text)["values"]["weight"][1][1] == [None, [0.25, 0.75], 0.75, 0.75, None]


def test_a_line_over_all_layers_is_a_gradient_of_two_numbers() -> None:
    cells = [(1 + i, column, i / 3) for i in range(4) for column in range(1, 4)]
    cells += [(0, 0, 0), (5, 3, 0), (5, 4, 0)]
    after = draw(TIES, "weight", 0, cells)
    assert after == TIES.replace("weight: 0.5", "weight: [0, 1]")
    assert draw(after, "weight", 0, [(row, column, 0.5) for row, column, _ in cells]) == TIES


def test_a_line_over_one_role_is_a_case_and_the_rest_stays() -> None:
    after = draw(TIES, "weight", 1, [(1 + i, 2, 0.3) for i in range(4)])
    assert after == TIES.replace(
        "weight: [0, 1]   # rising",
        "weight:\n        - {filter: role:mlp, value: 0.3}\n        - {value: [0, 1]}   # rising",
    )


def test_the_value_of_the_rest_stays_however_many_tensors_are_drawn() -> None:
    after = draw(TIES, "weight", 0, [(2, 2, 0.1), (3, 2, 0.2)])
    after = draw(after, "weight", 0, [(2, 1, 0.9)])
    assert "- {filter: role:mlp, value: [0.5, 0.1, 0.2, 0.5]}\n" in after
    assert "- {filter: role:attn, value: [0.5, 0.9, 0.5, 0.5]}\n        - {value: 0.5}   # b\n" in after


def test_a_line_over_some_layers_has_a_number_for_each_layer() -> None:
    after = draw(TIES, "weight", 0, [(2, 1, 0.1), (3, 1, 0.2)])
    assert "- {filter: role:attn, value: [0.5, 0.1, 0.2, 0.5]}" in after


def test_the_last_norm_is_set_apart_from_those_of_the_layers() -> None:
    """It has the same role, and the position of the first layer."""
    after = draw(TIES, "weight", 0, [(5, 3, 0.9)])
    assert "- {filter: glob:model.norm.weight, value: 0.9}" in after
    values = shown(after)["values"]["weight"][0]
    assert values[5] == [None, None, None, 0.9, 0.5]
    assert all(row[3] == 0.5 for row in values[1:5])


def test_what_is_drawn_for_all_models_is_written_once_or_at_each_that_has_its_own() -> None:
    after = draw(TIES, "density", None, [(1, 1, 0.25), (2, 1, 0.25), (3, 1, 0.25), (4, 1, 0.25)])
    assert "\nparameters:\n  density:\n    - {filter: role:attn, value: 0.25}\n    - {value: 1}\n" in after
    both = draw(TIES, "weight", None, [(row, col, 0.5) for row in range(6) for col in range(5)])
    assert both == TIES.replace("[0, 1]", "0.5")


def test_back_to_the_default_takes_the_parameter_away() -> None:
    after = draw(TIES, "density", 0, [(1, 1, 0.25)])
    assert draw(after, "density", 0, []) != after
    assert shown(draw(after, "density", 0, []))["values"]["density"] == shown(TIES)["values"]["density"]
    assert draw(TIES, "lambda", None, []) == TIES


def test_a_parameter_of_the_merge_is_written_at_the_top_or_where_it_is() -> None:
    slerp = (
        "merge_method: slerp\nbase_model: ./a\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {t: 0.5}\n"
    )
    after = draw(slerp, "t", None, [(1 + i, 1, i / 3) for i in range(4)])
    assert "parameters:\n  t:\n    - {filter: role:attn, value: [0, 1]}\n    - {value: 0.5}\n" in after


def test_what_is_drawn_over_slices_is_written_in_each_of_them() -> None:
    found = shown(SLICES)
    assert [one["label"] for one in found["shape"]["rows"]] == ["before", *map(str, range(6)), "after"]
    assert found["shape"]["models"] == ["./a", "./b", "./c"]
    assert found["values"]["weight"][1][4] == [None] * 5  # ./b is not in the second slice
    cells = [(1 + i, 1, i / 5) for i in range(6)]
    after = draw(SLICES, "weight", 0, cells)
    values = shown(after)["values"]["weight"][0]
    assert [row[1] for row in values[1:7]] == pytest.approx([i / 5 for i in range(6)])
    assert after.count("filter: role:attn") == 2


def test_one_of_several_documents_is_drawn_in() -> None:
    first = (
        "name: mean\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 1}\n"
    )
    second = "merge_method: linear\nmodels: [{model: mean}, {model: ./c}]\nparameters: {weight: 1}\n"
    text = f"{first}---\n{second}"
    assert draw(text, "weight", None, [(r, c, 2) for r in range(6) for c in range(5)]) == (
        f"{first}---\n{second.replace('weight: 1', 'weight: 2')}"
    )


def test_nothing_is_shown_where_no_parameter_is_a_number() -> None:
    assert shown("merge_method: arcee_fusion\nbase_model: ./a\nmodels: [{model: ./b}]\n") is None


def test_what_is_no_longer_in_the_config_cannot_be_drawn() -> None:
    shape = shown(TIES)["shape"]
    asked = {"text": TIES, "shape": shape, "parameter": "gone", "model": 0, "cells": [(1, 1, 1.0)]}
    with pytest.raises(ConfigError, match="there is no parameter 'gone' to draw") as caught:
        drawn(Drawing.model_validate(asked))
    assert caught.value.hint == "wait until the grid shows the config as it is now"
    two = {**asked, "text": f"name: x\n{TIES}---\nname: y\n{TIES}", "parameter": "weight"}
    with pytest.raises(ConfigError, match="there is no such document to draw in"):
        drawn(Drawing.model_validate(two))


SETTINGS = st.sampled_from(
    [
        "0.5",
        "[0, 1]",
        "[1, 0.25, 0.5]",
        "[{filter: role:attn, value: [0, 1]}, {value: 0.25}]",
        "[{filter: role:attn.q, value: 0.1}, {filter: 'glob:*.mlp.*', value: [1, 0]}, {value: 0.7}]",
        "[{filter: layers.1, value: 0.9}, {filter: norm, value: 0.2}, {value: [0, 0.5]}]",
        "{value: 0.3}",
    ]
)
CELLS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 20).map(lambda one: one / 20)), min_size=1
)


@given(SETTINGS, st.lists(st.tuples(st.sampled_from([0, 1, None]), CELLS), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_drawing_over_any_setting_is_what_the_merge_then_uses(
    setting: str, strokes: list[tuple[int | None, list[tuple[int, int, float]]]]
) -> None:
    text = TIES.replace("[0, 1]", setting)
    for model, cells in strokes:
        before = shown(text)["values"]["weight"]
        text = draw(text, "weight", model, cells)
        after = shown(text)["values"]["weight"]
        new = {(row, column): value for row, column, value in cells}
        for number, (old, now) in enumerate(zip(before, after, strict=True)):
            for row, (line, found) in enumerate(zip(old, now, strict=True)):
                for column, value in enumerate(line):
                    meant = new.get((row, column)) if model in (None, number) and value is not None else None
                    expected = value if meant is None else meant
                    assert found[column] == pytest.approx(expected, abs=1e-4), (text, row, column)
        assert text.count("#") == TIES.count("#"), "comments stay"


def test_a_number_that_is_not_finite_is_not_drawn() -> None:
    asked = {
        "text": "",
        "shape": shown(TIES)["shape"],
        "parameter": "weight",
        "cells": [(0, 0, float("nan"))],
    }
    with pytest.raises(ValueError, match="finite number"):
        Drawing.model_validate(asked)


@pytest.mark.parametrize("family", ["moe", "bert", "vlm"])
def test_any_architecture_has_its_rows_and_columns(tmp_path: Path, family: Any) -> None:
    for seed, name in enumerate("xy"):
        tiny_model(tmp_path / name, family, seed=seed)
    models = f"models: [{{model: '{tmp_path}/x'}}, {{model: '{tmp_path}/y'}}]"
    text = f"merge_method: linear\n{models}\nparameters: {{weight: 1}}\n"
    shape = shown(text)["shape"]
    columns = {
        "moe": ["embed", "attn", "expert", "router", "norm", "head"],
        "bert": ["embed", "attn", "mlp", "norm", "head"],
        "vlm": ["embed", "attn", "mlp", "vision", "norm", "head"],
    }
    assert shape["columns"] == columns[family]
    sections = list(dict.fromkeys(row["section"] for row in shape["rows"]))
    assert sections == (
        ["language_model", "multi_modal_projector", "vision_tower"] if family == "vlm" else [""]
    )
    row = next(
        i for i, one in enumerate(shape["rows"]) if one["label"] == "1" and one["section"] == sections[-1]
    )
    after = draw(text, "weight", None, [(row, 1, 0.25)])
    filtered = "role:vision.attn" if family == "vlm" else "role:attn"
    assert f"    - {{filter: {filtered}, value: [1, 0.25]}}\n    - {{value: 1}}\n" in after


def test_one_module_is_drawn_in(tmp_path: Path) -> None:
    for seed, name in enumerate("xy"):
        tiny_model(tmp_path / name, "vlm", seed=seed)
    models = f"models: [{{model: '{tmp_path}/x'}}, {{model: '{tmp_path}/y'}}]"
    modules = f"modules:\n  vision_tower:\n    {models}\n"
    text = f"merge_method: linear\nbase_model: '{tmp_path}/x'\n{modules}parameters: {{weight: 1}}\n"
    after = draw(text, "weight", 1, [(1, 1, 0.25), (2, 1, 0.5)])
    assert "role:vision.attn, value: [0.25, 0.5]}" in after
    assert [row[1] for row in shown(after)["values"]["weight"][1][1:3]] == [0.25, 0.5]
