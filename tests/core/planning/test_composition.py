"""What a config alone shows is told at once, and what is wrong with models and output along with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import llama, llama_config, registry, write_checkpoint, write_llama

from mergecore.cli.app import run
from mergecore.errors import MergecoreError, Problems
from mergecore.models.opener import Opener
from mergecore.pipeline import plan


def told(text: str) -> list[str]:
    """The errors of a config."""
    Path("c.yml").write_text(text, encoding="utf-8")
    try:
        plan("c.yml", registry=registry())
    except MergecoreError as error:
        return [f"{one.code} {one}" for one in (error.errors if isinstance(error, Problems) else [error])]
    return []


def sources(*ranges: tuple[str, int, int], more: str = "") -> str:
    lines = [f"    - {{model: {name}, layer_range: [{first}, {end}]{more}}}" for name, first, end in ranges]
    return "slices:\n  - sources:\n" + "\n".join(lines) + "\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


SLICES = [
    (
        "merge_method: slerp\n" + sources(("o/a", 0, 4), ("o/b", 0, 4)) + "parameters: {t: 0.5}\n",
        ["E110 c.yml:1:15: slerp needs a base_model"],
    ),
    (
        "merge_method: slerp\nbase_model: o/a\n"
        + sources(("o/a", 0, 4), ("o/b", 0, 4), ("o/c", 0, 4))
        + "parameters: {t: 0.5, x: 1}\n",
        ["E109 c.yml:7:22: slerp has no parameter 'x'"],
    ),
    (
        "merge_method: slerp\nbase_model: o/a\n"
        + sources(("o/a", 0, 4), ("o/b", 0, 3), ("o/c", 0, 4))
        + "parameters: {t: 0.5}\n",
        [
            "E113 c.yml:4:5: the sources of a slice differ in length",
            "E105 c.yml:5:5: slerp merges exactly 1 model beside",
        ],
    ),
    (
        "merge_method: slerp\nbase_model: o/c\n" + sources(("o/a", 0, 4), ("o/b", 0, 4)),
        ["E110 c.yml:5:5: slerp needs base_model 'o/c' among", "E105 c.yml:5:5: slerp merges exactly 1 model beside"],
    ),
    (
        "merge_method: slerp\nbase_model: o/a\n" + sources(("o/a", 0, 4), ("o/b", 0, 4)),
        ["E105 c.yml:1:15: slerp needs 't'. Hint: write parameters: {t: 0.5}, or a weight"],
    ),
    (
        "merge_method: linear\n" + sources(("o/a", 0, 4), ("o/b", 0, 4)),
        ["E105 c.yml:4:7: missing required parameter 'weight' of linear for model o/a", "E105 c.yml:5:7: missing"],
    ),
    (
        "merge_method: linear\n"
        + sources(("o/a", 0, 4))
        + sources(("o/b", 0, 4)).removeprefix("slices:\n")
        + "parameters: {weight: 0}\n",
        ["E404 c.yml"],
    ),
    (
        "merge_method: della\nbase_model: o/a\nmodels: [{model: o/b}]\n"
        "parameters: {weight: 1, density: 0.2, epsilon: 0.3}\n",
        ["E105 c.yml:1:1: epsilon 0.3 with density 0.2"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "messages"), SLICES)
def test_what_the_config_alone_shows_opens_no_model(
    text: str, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("a model was opened")

    monkeypatch.setattr(Opener, "open", forbidden)
    found = told(text)
    assert len(found) >= len(messages)
    for message in messages:
        code, _, rest = message.partition(" ")
        assert any(
            one.startswith(code) and rest.split(": ", 1)[-1].removeprefix("c.yml") in one for one in found
        ), found


def test_models_that_are_here_are_looked_at_without_asking_who_takes_his_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in "ab":
        write_llama(Path(name), 2)
    asked = []
    describe = Opener.describe

    def noted(self: Opener, checkpoint: Any, thorough: bool = False) -> Any:
        asked.append(thorough)
        return describe(self, checkpoint, thorough)

    monkeypatch.setattr(Opener, "describe", noted)
    found = told("merge_method: slerp\n" + sources(("a", 0, 2), ("b", 1, 3)) + "parameters: {t: 0.5}\n")
    assert [one[:4] for one in found] == ["E110", "E113"]  # no base; b has two layers
    assert not any(asked)


def test_config_models_and_output_are_told_together(capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        write_llama(Path(name), 2)
    text = (
        "merge_method: slerp\n"
        + sources(("a", 0, 2), ("b", 1, 3), ("./gone", 0, 2))
        + "parameters: {t: 0.5}\n"
    )
    Path("c.yml").write_text(text, encoding="utf-8")
    assert run(["merge", "c.yml", "a"]) == 2
    found = [line.split()[2][:4] for line in capsys.readouterr().err.splitlines()]
    assert found == ["E110", "E105", "E701", "E502"]


# ---- one cause, one error ----------------------------------------------------------------------------------


def test_tensors_that_one_model_lacks_are_one_error() -> None:
    write_llama(Path("a"), 3)
    fewer = {name: one for name, one in llama(3).items() if "layers.2" not in name or "mlp" not in name}
    write_checkpoint(Path("b"), fewer, llama_config(3))
    found = told(
        "merge_method: slerp\nbase_model: a\n" + sources(("a", 0, 3), ("b", 0, 3)) + "parameters: {t: 0.5}\n"
    )
    assert len(found) == 1
    assert found[0].startswith("E231 3 tensors missing in b: 'model.layers.2.mlp.")


def test_weights_that_cancel_at_every_layer_are_one_error() -> None:
    for name in "ab":
        write_llama(Path(name), 4)
    found = told(
        "merge_method: linear\nmodels:\n  - {model: a, parameters: {weight: [1, 2]}}\n"
        "  - {model: b, parameters: {weight: [-1, -2]}}\n"
    )
    assert len(found) == 1
    assert found[0].startswith("E404 c.yml:3:28: the weights sum to 0 (1, -1)")
    assert "so it is for" in found[0]
