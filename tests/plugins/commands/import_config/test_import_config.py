"""`mergecore import-config`: what was written for mergekit, as a config of today."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fixture_types import Cli
from imported_configs import made, refusal
from tiny import read_tensors, registry, write_llama

from mergecore import ConfigError, MergecoreError, merge
from mergecore.files import parse_documents
from mergecore_plugins.commands.import_config.importing import Imported

# ---- keys that mean nothing --------------------------------------------------------------------------------

OLD = """# what I use
merge_method: ties   # not dare
base_model: base
cuda: true      # never

models:
  - model: a
    parameters: {weight: 0.5, int8_mask: true, density: 0.3}
  # the second
  - model: b
    parameters:
      weight:
        - filter: mlp
          value: 1e-1
        - value: 0.2
      int8_mask: true   # why

slices_note_free: 1
parameters:
  int8_mask: true
dtype: bfloat16   # the end
"""


NEW = """# what I use
merge_method: ties   # not dare
base_model: base

models:
  - model: a
    parameters: {weight: 0.5, density: 0.3}
  # the second
  - model: b
    parameters:
      weight:
        - filter: mlp
          value: 1e-1
        - value: 0.2

slices_note_free: 1
dtype: bfloat16   # the end
"""


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_keys_that_mean_nothing_are_left_out_and_all_else_stays_as_it_is(ends: str) -> None:
    found = made(OLD.replace("\n", ends))
    assert found.text == NEW.replace("\n", ends)
    assert found.notes == (
        "'cuda' is left out: computing is done on the processor unless --device says otherwise",
        "'int8_mask' is left out: it never changed a result",
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("parameters: {int8_mask: true}\n", ""),
        ("parameters: {int8_mask: true, weight: 1}\n", "parameters: {weight: 1}\n"),
        ("parameters: {weight: 1, int8_mask: 'yes'}\n", "parameters: {weight: 1}\n"),
        ("parameters: { weight: 1 , int8_mask: true , normalize: false }\n", None),
        ("int8_mask: true\nparameters: {weight: 1}\n", "parameters: {weight: 1}\n"),
        ("embed_slerp: true # x\nseed: 3\n", "seed: 3\n"),
        ("lazy_unpickle:\n  true\nseed: 3\n", "seed: 3\n"),
        ('"int8_mask": true\nseed: 3\n', "seed: 3\n"),
        ("parameters: {smooth: [1, 2], weight: 1}\n", None),
        (
            "parameters:\n  weight:\n  - 1\n  - 2\n  int8_mask: 1\nseed: 1\n",
            "parameters:\n  weight:\n  - 1\n  - 2\nseed: 1\n",
        ),
        ("parameters: {weight: 1,\n  int8_mask: true}\n", None),
    ],
)
def test_keys_go_from_wherever_they_stand(before: str, after: str | None) -> None:
    """Where a text cannot be edited, it is written anew."""
    head = "merge_method: linear\nmodels: [{model: a}, {model: b}]\n"
    found = made(head + before)
    if after is not None:
        assert found.text == head + after
    (document,) = parse_documents(found.text)
    told = "int8_mask smooth embed_slerp lazy_unpickle".split()  # noqa: SIM905 - as they are written
    assert not any(word in found.text for word in told)
    assert {**document.data}.keys() <= {"merge_method", "models", "parameters", "seed"}


def test_the_first_key_of_an_item_leaves_its_place_to_the_next() -> None:
    text = "merge_method: linear\nmodels:\n- int8_mask: true\n  model: a\n- model: b # x\n  int8_mask: true\n"
    assert made(text).text == "merge_method: linear\nmodels:\n- model: a\n- model: b # x\n"


def test_an_anchor_is_cleaned_once_for_all_that_refer_to_it() -> None:
    text = "x-p: &p {weight: 0.5, int8_mask: true}\nmerge_method: linear\nmodels:\n- {model: a, parameters: *p}\n"
    assert made(text).text == text.replace(", int8_mask: true", "")


def test_every_slice_and_every_document_is_cleaned() -> None:
    text = (
        "name: x\nmerge_method: linear\nmodels: [{model: a}]\nint8_mask: true\n---\n"
        "merge_method: passthrough\nslices:\n- sources: [{model: x, layer_range: [0, 1]}]\n  residual_weight: 0.5\n"
    )
    found = made(text)
    assert found.text == text.replace("int8_mask: true\n", "").replace("  residual_weight: 0.5\n", "")
    assert found.notes == (
        "'int8_mask' is left out: it never changed a result",
        "'residual_weight' is left out: it never had an effect",
    )


@pytest.mark.parametrize(
    "text",
    [
        "merge_method: linear # mine\nmodels: [{model: a}]\n",
        "base_model: a\ngate_mode: random\nexperts: [{source_model: b, positive_prompts: [x]}]\n",
        "name: x\nmerge_method: linear\nmodels: [{model: a}]\n---\nmerge_method: slerp\nmodels: [{model: x}]\n",
        "merge_method: linear\nmodels: [{model: mergekit-yaml made this}]\n# mergekit-legacy out --merge a\n",
        "merge_method: linear\nname: mergekit-legacy result\nmodels:\n- model: out/mergekit-legacy x\n",
    ],
)
def test_what_needs_no_change_is_printed_as_it_is(text: str) -> None:
    assert made(text) == Imported(text, ("old.yml needs no change: mergecore reads it as it is",))


# ---- other forms -------------------------------------------------------------------------------------------


def test_a_config_of_bakllama_is_a_stack_of_layers() -> None:
    found = made(
        "# two models\nlayer_slices:\n- {model: a, start: 0, end: 3}\n"
        "- {model: b, start: 1, end: 4, scale: 0.5}  # damped\nembedding_source: a\nlm_head_source: b\n"
    )
    assert found.text.startswith("# two models\nmerge_method: passthrough\n")
    assert yaml.safe_load(found.text) == {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": "a", "layer_range": [0, 3]}]},
            {
                "sources": [
                    {
                        "model": "b",
                        "layer_range": [1, 4],
                        "parameters": {"scale": [{"filter": "down_proj", "value": 0.5}, {"value": 1.0}]},
                    }
                ]
            },
        ],
    }
    assert found.notes == (
        "bakllama wrote float16 with --fp16: add 'dtype: float16' if you used it",
        "the config is written anew: comments within it are not kept",
    )


def test_a_stack_of_bakllama_is_what_it_was_meant_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layer 2 of the output is layer 1 of b, whose down projection counts half: 2 · 0.5 = 1."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", 1.0), ("b", 2.0)):
        write_llama(tmp_path / name, 4, value)
    text = "layer_slices: [{model: a, start: 0, end: 2}, {model: b, start: 1, end: 3, scale: 0.5}]\n"
    Path("new.yml").write_text(made(text).text)
    found = read_tensors(merge("new.yml", "out", registry=registry()))
    values = {name: float(one.unique()) for name, one in found.items()}
    assert values["model.layers.1.mlp.down_proj.weight"] == values["model.embed_tokens.weight"] == 1
    assert values["model.layers.2.mlp.down_proj.weight"] == 1
    assert values["model.layers.2.mlp.up_proj.weight"] == values["lm_head.weight"] == 2


def test_embeddings_and_a_head_of_other_models_cannot_be_kept() -> None:
    text = "layer_slices: [{model: a, start: 0, end: 1}, {model: b, start: 0, end: 1}]\nembedding_source: b\n"
    text += "lm_head_source: c\n"
    with pytest.raises(MergecoreError) as caught:
        made(text)
    assert [str(one) for one in caught.value.errors] == [  # type: ignore[attr-defined]
        "old.yml:2:1: embedding_source 'b' cannot be kept: the embeddings come from the model of the first slice, 'a'. "
        "Hint: remove it, if that is what you want",
        "old.yml:3:1: lm_head_source 'c' cannot be kept: the head comes from the model of the last slice, 'b'. Hint: "
        "remove it, if that is what you want",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer_slices: []\n", "E104 old.yml:1:15: 'layer_slices' is empty"),
        (
            "layer_slices: [{model: a, begin: 0, end: 2}]\n",
            "E104 old.yml:1:16: not a config of bakllama: layer_slices.0.start: field required. Hint: a slice has "
            "model, start, end and scale",
        ),
        ("[1, 2]\n", "E104 old.yml:1:1: a config must be a mapping of keys to values; this is a list"),
        ("merge_method: [\n", "E101 "),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_parameters_by_model_are_written_under_the_models() -> None:
    """Those that are there already come first, as in mergekit; text that looks like a number stays text."""
    found = made(
        "merge_method: linear\nmodels: [{model: a}, {model: b, parameters: {weight: 0.4}}]\n"
        "input_model_parameters:\n  a: {weight: '1e-3', int8_mask: true}\n  b: {weight: 9, density: 0.5}\n"
    )
    (document,) = parse_documents(found.text)
    assert document.data == {
        "merge_method": "linear",
        "models": [
            {"model": "a", "parameters": {"weight": "1e-3"}},
            {"model": "b", "parameters": {"weight": 0.4, "density": 0.5}},
        ],
    }
    assert found.notes == (
        "'input_model_parameters': the parameters are written under each model",
        "'int8_mask' is left out: it never changed a result",
    )
    slices = "merge_method: linear\nslices: [{sources: [{model: a, layer_range: [0, 1]}]}]\n"
    found = made(slices + "input_model_parameters: {a: {weight: 2}}\n")
    assert yaml.safe_load(found.text)["slices"][0]["sources"][0]["parameters"] == {"weight": 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "[1]",
            "E104 old.yml:3:1: 'input_model_parameters' is not the parameters of each model. Hint: it is a mapping of "
            "models to mappings of parameters",
        ),
        (
            "{c: {weight: 1}}",
            "E104 old.yml:3:26: 'input_model_parameters' has parameters of 'c', which is not listed under 'models' or "
            "'slices'. Hint: remove them",
        ),
    ],
)
def test_parameters_of_models_that_are_not_there_are_refused(given: str, message: str) -> None:
    text = f"merge_method: linear\nmodels: [{{model: a}}]\ninput_model_parameters: {given}\n"
    assert refusal(text) == message


# ---- the command -------------------------------------------------------------------------------------------


def test_the_command_prints_the_config_alone_and_the_rest_beside_it(tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "old.yml"
    file.write_text(OLD)
    done = cli("import-config", file)
    assert (done.code, done.out) == (0, NEW)
    assert "mergecore: 'int8_mask' is left out: it never changed a result" in done.err
    missing = cli("import-config", tmp_path / "none.yml")
    assert missing.code == ConfigError.exit_code
    assert "error E105: " in missing.err
