"""`check_text`: what the text of a config alone says is wrong, with the errors of `plan`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fixture_types import WriteModel

import mergecore
from mergecore import MergecoreError, Registry, check_text
from mergecore.errors import Problems

TEXTS = {
    "syntax": "merge_method: [linear\n",
    "unknown method": "merge_method: linaer\nmodels:\n  - model: a\n",
    "unknown key": "merge_method: linear\nmodels:\n  - model: a\n    parameters: {weight: 1}\nspede: 1\n",
    "a range": "merge_method: ties\nbase_model: a\nmodels:\n  - model: b\n    parameters: {weight: 1, density: 7}\n",
    "a dtype": "merge_method: linear\nmodels:\n  - model: a\n    parameters: {weight: 1}\ndtype: f3\n",
    "two documents of one name": "name: x\nmerge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n"
    "---\nname: x\nmerge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n",
    "a recipe": "base_model: a\ngate_mode: hidden\nexperts:\n  - sourse_model: b\n",
    "nothing": "# only a comment\n",
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover()


def told(error: MergecoreError) -> set[str]:
    return {str(one) for one in (error.errors if isinstance(error, Problems) else (error,))}


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_what_is_wrong_is_what_a_plan_says(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_model: WriteModel, registry: Registry
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_model(tmp_path / name, 1.0)
    Path("cfg.yml").write_text(text, encoding="utf8")
    with pytest.raises(MergecoreError) as caught:
        mergecore.plan("cfg.yml", registry=registry)
    found = {str(one) for one in check_text(text, "cfg.yml", registry=registry)}
    assert found
    assert found <= told(caught.value)


def test_models_are_not_looked_at(registry: Registry) -> None:
    text = "merge_method: linear\nmodels:\n  - model: ./nowhere\n    parameters: {weight: 1}\n"
    assert check_text(text, registry=registry) == ()


def test_what_has_no_effect_is_no_fault(registry: Registry) -> None:
    """`plan` warns of it."""
    text = "merge_method: linear\nlow_cpu_memory: true\nmodels:\n  - model: a\n    parameters: {weight: 1}\n"
    assert check_text(text, registry=registry) == ()


def test_errors_name_the_text_and_their_line(registry: Registry) -> None:
    (error,) = check_text(TEXTS["a range"], "mine.yml", registry=registry)
    assert str(error.place) == "mine.yml:5:38"


def test_it_is_quick_enough_for_each_keystroke(registry: Registry) -> None:
    """A config of two hundred slices takes a fraction of the hundred milliseconds in which one feels no wait."""
    part = "  - sources:\n      - {model: a, layer_range: [0, 1]}\n"
    text = "merge_method: passthrough\nslices:\n" + part * 200
    check_text(text, registry=registry)
    begin = time.perf_counter()
    assert check_text(text, registry=registry) == ()
    assert time.perf_counter() - begin < 1  # some 50 ms where nothing else runs
