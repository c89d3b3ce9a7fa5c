"""What a config says in vain: warnings, errors with --strict; and what no method knows, which stays an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import registry, write_llama

from mergecore import pipeline
from mergecore.cli.app import run
from mergecore.errors import MergecoreError, Problems
from mergecore.pipeline import plan
from mergecore.types.plans import PlanOptions

HEAD = "base_model: base\nmodels:\n  - {model: a%s}\n  - {model: b%s}\n"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "a", "b")):
        write_llama(tmp_path / name, 1, seed=seed)
    return tmp_path


def told(text: str, strict: bool = False) -> tuple[list[str], list[str]]:
    """The warnings and the errors of a config."""
    Path("c.yml").write_text(text, encoding="utf-8")
    try:
        made = plan("c.yml", registry=registry(), options=PlanOptions(strict=strict))
    except MergecoreError as error:
        return [], [f"{one.code} {one}" for one in (error.errors if isinstance(error, Problems) else [error])]
    return list(made.warnings), []


def with_parameters(method: str, each: str = "", top: str = "") -> str:
    one = f", parameters: {{{each}}}" if each else ""
    return f"merge_method: {method}\n" + HEAD % (one, one) + (f"parameters: {{{top}}}\n" if top else "")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (with_parameters("model_stock", "weight: 0.5"), ["weight"]),
        (
            with_parameters("sce", "weight: 1, density: 0.5", "select_topk: 0.5, normalize: true"),
            ["weight", "density", "normalize"],
        ),
        (with_parameters("task_arithmetic", "weight: 1, gamma: 0.01", "t: 0.5"), ["t", "gamma"]),
        (with_parameters("karcher", "weight: 1", "tol: 1e-6, lambda: 0.5"), ["lambda", "weight"]),
    ],
)  # fmt: skip
def test_a_parameter_of_another_method_is_a_warning_that_names_it(
    models: Path, text: str, names: list[str]
) -> None:
    warnings, errors = told(text)
    method = text.split()[1]
    assert errors == []
    found = [one for one in warnings if "has no parameter" in one]
    assert sorted(one.split("'")[1] for one in found) == sorted(
        names
    )  # once each, although it is written under two models
    assert all(f"{method} has no parameter" in one and "c.yml:" in one for one in found)
    assert all("(also at line 5)" in one for one in found if "'weight'" in one)
    refused = told(text, strict=True)[1]
    assert [one[:4] for one in refused] == ["E109"] * len(names)
    assert all("Hint: remove it, or correct 'merge_method'" in one for one in refused)


def test_the_result_is_that_of_the_config_without_it(models: Path) -> None:
    for name, text in (
        ("x", with_parameters("model_stock", "weight: 0.5")),
        ("y", with_parameters("model_stock")),
    ):
        (models / f"{name}.yml").write_text(text, encoding="utf-8")
        pipeline.merge(models / f"{name}.yml", models / name, registry=registry())
    weights = [(models / name / "model.safetensors").read_bytes() for name in "xy"]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (with_parameters("sce", "wieght: 1"), "4:29: sce has no parameter 'wieght'; did you mean 'weight'"),
        (with_parameters("ties", "weight: 1", "strangeness: 2"), "6:14: ties has no parameter 'strangeness'"),
        (with_parameters("ties", "weight: 1", "densty: 0.2"), "6:14: ties has no parameter 'densty'; did you mean"),
    ],
)  # fmt: skip
def test_a_word_that_no_method_knows_is_an_error(models: Path, text: str, message: str) -> None:
    assert any(one.startswith(f"E109 c.yml:{message}") for one in told(text)[1]), told(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("parameters: {weight: 1, embed_slerp: true}", "c.yml:6:25: 'embed_slerp' is obsolete"),
        ("parameters: {weight: 1, int8_mask: true}", "c.yml:6:25: 'int8_mask' is obsolete"),
        ("parameters: {weight: 1, smooth: false}", "c.yml:6:25: 'smooth' is obsolete"),
        ("parameters: {weight: 1}\nint8_mask: true", "c.yml:7:1: 'int8_mask' is obsolete"),
        ("parameters: {weight: 1}\nlazy_unpickle: true", "c.yml:7:1: 'lazy_unpickle' has no effect in a config"),
        ("parameters: {weight: 1}\ncopy_tokenizer: true", "c.yml:7:1: 'copy_tokenizer' has no effect in a config"),
    ],
)  # fmt: skip
def test_leftovers_of_mergekit_are_warnings(models: Path, line: str, message: str) -> None:
    text = "merge_method: linear\n" + HEAD % ("", "") + line + "\n"
    warnings, errors = told(text)
    assert errors == []
    assert [one for one in warnings if one.startswith(message)] != []
    assert len(told(text, strict=True)[1]) == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "1_000",
            "c.yml:6:22: parameter 'weight' is the text '1_000', which counts as 1000. Hint: write 1000",
        ),
        ("true", "c.yml:6:22: parameter 'weight' is true, which counts as 1. Hint: write 1"),
        ("'0.5'", "c.yml:6:22: parameter 'weight' is the text '0.5', which counts as 0.5. Hint: write 0.5"),
        ("[1, '0.5']", "c.yml:6:26: parameter 'weight' is the text '0.5', which counts as 0.5"),
        ("[{filter: mlp, value: true}, {value: 1}]", "c.yml:6:44: parameter 'weight' is true"),
    ],
)
def test_what_only_counts_as_a_number_is_told(models: Path, value: str, message: str) -> None:
    text = "merge_method: linear\n" + HEAD % ("", "") + f"parameters: {{weight: {value}}}\n"
    assert [one for one in told(text)[0] if one.startswith(message)] != [], told(text)
    assert [one[:4] for one in told(text, strict=True)[1]] == ["E104"]


def test_numbers_and_words_for_yes_and_no_need_no_word(models: Path) -> None:
    text = "merge_method: linear\n" + HEAD % ("", "") + "parameters: {weight: .5, normalize: 1.0}\n"
    assert told(text) == ([], [])
    text = "merge_method: linear\n" + HEAD % ("", "") + "parameters: {weight: 1e-3, normalize: yes}\n"
    assert told(text) == ([], [])


@pytest.mark.parametrize(
    "key", ["seed: true", "seed: '5'", "seed: 1_000", "tokenizer: {pad_to_multiple_of: true}"]
)
def test_whole_numbers_of_the_config_are_whole_numbers(models: Path, key: str) -> None:
    text = "merge_method: linear\n" + HEAD % ("", "") + f"parameters: {{weight: 1}}\n{key}\n"
    (error,) = told(text)[1]
    assert error.startswith("E104")
    assert "is not a whole number" in error


@pytest.mark.parametrize("key", ["x-mine: &w {weight: 0.5}", ".mine: &w {weight: 0.5}"])
def test_keys_of_ones_own_hold_anchors(models: Path, key: str) -> None:
    assert told(f"{key}\nmerge_method: linear\n" + HEAD % ("", "") + "parameters: *w\n") == ([], [])


def test_a_key_that_holds_an_anchor_is_told_how_to_call_it(models: Path) -> None:
    text = "shared: &w {weight: 0.5}\nmerge_method: linear\n" + HEAD % ("", "") + "parameters: *w\n"
    (error,) = told(text)[1]
    assert error.startswith("E103 c.yml:1:1: unknown key 'shared' in a merge config")
    assert error.endswith("to keep anchors there, call it 'x-shared'")


def test_the_command_line_refuses_them_when_it_is_to_be_strict(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.yml").write_text(with_parameters("model_stock", "weight: 0.5"), encoding="utf-8")
    assert run(["plan", "c.yml", "--check"]) == 0
    assert "model_stock has no parameter 'weight'" in "".join(capsys.readouterr())
    assert run(["plan", "c.yml", "--strict"]) == 2
    assert "error E109: c.yml:4:29: model_stock has no parameter 'weight'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("genome: {models: [a, b], merge_method: ties}\ntasks: [{name: x}]\n", "this is a config of mergekit-evolve"),
    ],
)  # fmt: skip
def test_a_config_of_another_tool_is_called_by_its_name(models: Path, text: str, message: str) -> None:
    (error,) = told(text)[1]
    assert message in error


def test_a_search_says_which_command_carries_it_out(models: Path) -> None:
    _, errors = told(with_parameters("ties", "weight: 1") + "search: {trials: 3}\n")
    assert errors == [
        "E104 c.yml:1:1: this config describes a search. Hint: run `mergecore search CONFIG OUT`, or remove 'search'"
    ]
