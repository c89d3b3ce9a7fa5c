"""Hints lead somewhere: what they advise is understood, or is what the next error would advise."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import llama, llama_config, registry, write_llama

from mergecore.cli.app import run
from mergecore.errors import MergecoreError, Problems
from mergecore.pipeline import plan

TWO = "merge_method: linear\nmodels:\n  - model: a\n  - model: b\n"
WEIGHT = "parameters: {weight: 0.5}\n"


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for seed, name in enumerate("ab"):
        write_llama(tmp_path / name, 1, seed=seed)


def told(text: str) -> str:
    """All errors, or else all warnings, of a config."""
    Path("c.yml").write_text(text, encoding="utf-8")
    try:
        return "\n".join(plan("c.yml", registry=registry()).warnings)
    except MergecoreError as error:
        return "\n".join(map(str, error.errors if isinstance(error, Problems) else [error]))


# ---- filters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "advised"),
    [
        (".*mlp.*", "re:.*mlp.*"),
        ("glob:.*mlp.*", "re:.*mlp.*"),
        (r"layers\.0\.mlp", r"re:layers\.0\.mlp"),
        ("(mlp|norm)", "re:(mlp|norm)"),
        ("*mlp*", "glob:*mlp*"),
    ],
)
def test_a_filter_that_reads_like_a_pattern_is_led_to_one_that_matches(written: str, advised: str) -> None:
    text = TWO + "parameters:\n  weight:\n    - {filter: 'F', value: 0.9}\n    - value: 0.1\n"
    assert f"write '{advised}'" in told(text.replace("F", written))
    assert told(text.replace("F", advised)) == ""  # it matches: nothing to say


# ---- models ------------------------------------------------------------------------------------------------


def test_an_adapter_alone_and_one_beside_its_model_are_led_to_the_right_place() -> None:
    Path("lora").mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "a"}
    Path("lora/adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    alone = told(TWO.replace("model: b", "model: lora") + WEIGHT)
    assert "Hint: write 'a+lora', or {adapter: lora} for the base that it names" in alone
    for key in ("adapter", "lora"):
        beside = told(TWO + f"    {key}: lora\n" + WEIGHT)
        assert (
            "write it after the model, as in 'model: NAME+ADAPTER', or in it, 'model: {model: NAME" in beside
        )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (TWO + "    revision: v1\n" + WEIGHT, "write it after the model, as in 'model: NAME@REVISION'"),
        (TWO + "    layer_range: [0, 1]\n" + WEIGHT, "choose layers with 'slices:' and 'sources:'"),
        (TWO + "  - parameters: {weight: 1}\n", "indent 'parameters:' like the 'model:' above it"),
        (
            TWO.replace("model: b", "model: ./B") + WEIGHT,
            "did you mean './b'? Hint: write models of the hub",
        ),
        (TWO.replace("model: b", "model: sub\\b") + WEIGHT, "relative paths start at /"),
        (TWO + "parameters: {weight: 0,5}\n", "for a decimal write a point, as in 0.5"),
        (TWO + "parameters:\n  weight: 0,5\n", "write 0.5: decimals take a point"),
        (TWO + "parameters:\n  weight: \u20130.5\n", "write -0.5: the minus sign is that of the keyboard"),
        (TWO + "parameters:\n  weight:\n", "write a value, or remove the line"),
        (TWO + "parameters:\n  weight:\u00a00.5\n", "a no-break space (U+00A0), which is a letter to YAML"),
        (TWO + "parameters:\n\u00a0 weight: 0.5\n", "a no-break space (U+00A0), which is a letter to YAML"),
        (TWO + WEIGHT + "dtype: bfloat16\u00a0\n", "a no-break space (U+00A0), which is a letter to YAML"),
        (
            TWO.replace("- model: a", "\u2013 model: a") + WEIGHT,
            "a long dash (U+2013), which is a letter to YAML",
        ),
        (TWO.replace("a", "\u201ca\u201d") + WEIGHT, "a quote (U+201C), which is a letter to YAML"),
        (TWO + WEIGHT + "dtype: fp16\n", "did you mean 'float16'?"),
        (TWO + WEIGHT + "dtype: half\n", "did you mean 'float16'?"),
        (TWO + WEIGHT + "dtype: bf16\n", "did you mean 'bfloat16'?"),
    ],
)
def test_what_people_write_is_told_how_to_be_written(text: str, hint: str) -> None:
    assert hint in told(text)


def test_a_template_may_hold_any_space() -> None:
    assert told(TWO + WEIGHT + "# a comment\u00a0\nname: 'x:\u00a0y'\n") == ""


def test_names_of_one_folder_are_one_model() -> None:
    Path("link").symlink_to("a")
    assert "'link' is 'a' by another name, and listed twice" in told(
        TWO.replace("model: b", "model: link") + WEIGHT
    )
    text = TWO.replace("linear", "slerp") + "base_model: ./a/\nparameters: {t: 0.5}\n"
    assert told(text) == ""  # ./a/ is a, not a third model


def test_a_module_of_the_base_alone_is_to_be_left_out() -> None:
    text = "merge_method: ties\nbase_model: a\nmodules:\n  default:\n    models:\n      - model: a\n" + WEIGHT
    assert "leave the module out: what is not named is copied from the base" in told(text)


# ---- the command line --------------------------------------------------------------------------------------


def test_harmless_options_of_mergekit_are_accepted_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yml").write_text(TWO + WEIGHT, encoding="utf-8")
    words = ["--cuda", "--lazy-unpickle", "--no-copy-tokenizer", "--trust-remote-code", "--low-cpu-memory"]
    words += ["--write-model-card", "--lora-merge-cache=x", "--no-quiet", "--allow-crimes"]
    assert run(["merge", "c.yml", "out", *words]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "has no effect" in line]
    assert [line.split()[1] for line in lines] == [
        word.split("=")[0] for word in words if word != "--allow-crimes"
    ]
    assert Path("out/model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "here"),
    [
        (["--random-seed", "3"], "--seed 3"),
        (["--random-seed=3"], "--seed 3"),
        (["--num-threads", "2"], "--threads 2"),
        (["--out-shard-size", "5B"], "--shard-size 5000000000"),
        (["--out-shard-size=200m"], "--shard-size 200000000"),
        (["--out-shard-size", "1GB"], "--shard-size 1GB"),
        (["--compute-device", "cpu"], "--device cpu"),
        (["--force"], "--overwrite"),
    ],
)
def test_an_option_with_another_name_here_is_understood(
    words: list[str], here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TWO.replace("linear", "dare_linear") + "base_model: a\nparameters: {weight: 0.5, density: 0.5}\n"
    Path("c.yml").write_text(text, encoding="utf-8")
    assert run(["merge", "c.yml", "out", *words]) == 0
    assert f"mergecore: {words[0].partition('=')[0]} is {here} here" in capsys.readouterr().err
    assert run(["merge", "c.yml", "same", *here.split()]) == 0
    one, other = (Path(name, "model.safetensors").read_bytes() for name in ("out", "same"))
    assert one == other


def test_a_dtype_on_the_command_line_is_led_into_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yml").write_text(TWO + WEIGHT, encoding="utf-8")
    assert run(["merge", "c.yml", "out", "--dtype", "bfloat16", "--max-rank=4"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == (
        "mergecore: error E115: merge has no option --dtype. Hint: the config says it: write 'dtype: bfloat16' there, "
        "or 'out_dtype:' for the output alone"
    )
    assert "merge has no option --max-rank. Hint: it is an option of mergekit-extract-lora, " in second


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "unknown device 'gpu'. Hint: write cuda, or auto to take what this machine has"),
        ("GPU:0", "unknown device 'GPU:0'. Hint: write cuda, or auto to take what this machine has"),
        ("metal", "unknown device 'metal'. Hint: write mps, or auto"),
        ("cdua", "unknown device 'cdua'; did you mean 'cuda'? Hint: write cpu, auto, or an accelerator"),
        ("foo", "unknown device 'foo'. Hint: write cpu, auto, or an accelerator"),
        ("cpu:x", "'cpu:x' cannot be used: "),
    ],
)
def test_a_device_that_torch_does_not_know_is_told_in_few_words(
    name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.yml").write_text(TWO + WEIGHT, encoding="utf-8")
    assert run(["merge", "c.yml", "out", "--device", name]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert error.startswith(f"mergecore: error E105: --device: {message}")
    assert len(error) < 200


# ---- numbers and lists -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "advised"),
    [
        ("50%", "0.5"),
        ("'50 %'", "0.5"),
        ("12.5%", "0.125"),
        ("'12,5 %'", "0.125"),
        ("-50%", "-0.5"),
        ("50 percent", "0.5"),
        ("1/2", "0.5"),
        ("'1 / 3'", "0.333333333333"),
        ("\u00bd", "0.5"),
        ("'50\uff05'", "0.5"),
    ],
)
def test_a_share_is_led_to_the_number_that_it_stands_for(written: str, advised: str) -> None:
    for text in ("parameters: {weight: V}\n", "parameters: {weight: [0.1, V]}\n"):
        error = told(TWO + text.replace("V", written))
        assert error.endswith(f"; a number is expected. Hint: write {advised}")
        assert told(TWO + text.replace("V", advised)) == ""


@pytest.mark.parametrize("written", ["1/0", "'%'", "a%", "50%%", "half"])
def test_what_stands_for_no_number_gets_no_advice(written: str) -> None:
    assert told(TWO + f"parameters: {{weight: {written}}}\n").endswith("a number is expected")


@pytest.mark.parametrize(
    ("models", "advised"),
    [
        ("{a: 0.5, b: 0.5}", "- {model: a, parameters: {weight: 0.5}}"),
        (
            "{a: {weight: 0.5, density: 0.2}, b: {weight: 0.5}}",
            "- {model: a, parameters: {weight: 0.5, density: 0.2}}",
        ),
        ("{a: {parameters: {weight: 0.5}}, b: }", "- {model: a, parameters: {weight: 0.5}}"),
        ("{a: , b: }", "- {model: a}"),
        ("[{a: 0.5}, {model: b}]", "- {model: a, parameters: {weight: 0.5}}"),
        ("{model: a, parameters: {weight: 1}}", "- model: a"),
        ("a", "- model: a"),
        ("[a, b]", "- model: a"),
    ],
)
def test_models_that_are_no_list_are_led_to_one(models: str, advised: str) -> None:
    assert f"write '{advised}'" in told(f"merge_method: linear\nmodels: {models}\n" + WEIGHT).replace(
        "write a dash before it: ", "write "
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "a"], "a: a folder; a config is a YAML file. Hint: write the path of the YAML file"),
        (["plan", "."], ".: a folder; a config is a YAML file. Hint: write 'c.yml'"),
        (["plan", "d.yml"], "d.yml: no such file; did you mean 'c.yml'? Hint: relative paths start at /"),
        (["merge", "c.yml", "out", "--shard-size", "5"], "'5' would be 5 bytes. Hint: write 5GB for billions of bytes"),
        (["plan", "c.yml", "\u2014offline"], "an option begins with two short dashes"),
        (["merge", "c.yml", "out", "--cuda-device", "1"], "No such option '--cuda-device'"),
    ],
)  # fmt: skip
def test_a_slip_on_the_command_line_is_told(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.yml").write_text(TWO + WEIGHT, encoding="utf-8")
    assert run(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("shards", [1, 2])
def test_the_command_that_converts_pickles_works_for_tied_and_sharded_ones(shards: int) -> None:
    tensors = llama(1)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]  # one memory, as tied models have it
    shutil.rmtree("b")
    Path("b").mkdir()
    Path("b/config.json").write_text(json.dumps(llama_config(1)), encoding="utf-8")
    names = sorted(tensors)
    for i in range(shards):
        part = {name: tensors[name] for name in names[i::shards]}
        torch.save(part, "b/pytorch_model.bin" if shards == 1 else f"b/pytorch_model-0000{i}-of-2.bin")
    found = re.search(r"\((python -c .*)\);", told(TWO + WEIGHT))
    assert found is not None
    _, *words = shlex.split(found[1])
    subprocess.run([sys.executable, *words], check=True)
    assert told(TWO + WEIGHT) == ""
