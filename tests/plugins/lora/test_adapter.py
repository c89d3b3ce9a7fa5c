"""`mergecore merge-lora` and `mergecore adapter show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fixture_types import Cli
from safetensors.torch import save_file
from tiny import HIDDEN, llama, read_tensors, write_llama

Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base, and two adapters that add ones and twos to a weight."""
    monkeypatch.chdir(tmp_path)
    write_llama(Path("base"), 2, seed=1)
    for name, number in (("ones", 1.0), ("twos", 2.0)):
        Path(name).mkdir()
        a, b = torch.full((1, HIDDEN), number), torch.ones(HIDDEN, 1)
        saved = {f"base_model.model.{Q}.lora_A.weight": a, f"base_model.model.{Q}.lora_B.weight": b}
        save_file(saved, f"{name}/adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "base_model_name_or_path": "org/base"}
        Path(name, "adapter_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("words", "added"),
    [
        (["ones"], 1.0),
        (["ones", "twos"], 3.0),
        (["ones", "twos", "--scale", "0.5"], 1.5),
        (["ones", "twos", "--scale", "2", "--scale", "-1"], 0.0),
    ],
)
def test_adapters_are_put_on_a_model(words: list[str], added: float, cli: Cli) -> None:
    adapters = words[: words.index("--scale") if "--scale" in words else None]
    options = words[len(adapters) :]
    outcome = cli("merge-lora", "base", *adapters, "out", *options)
    assert outcome.code == 0, outcome.err
    made, base = read_tensors(Path("out"))[f"{Q}.weight"], llama(2, seed=1)[f"{Q}.weight"]
    assert torch.allclose(made, base + added, atol=1e-6)
    assert cli("verify", "out").code == 0


def test_it_is_the_merge_of_one_model(cli: Cli) -> None:
    Path("c.yml").write_text("merge_method: passthrough\nmodels: [{model: base+ones}]\nout_dtype: bfloat16\n")
    assert cli("merge", "c.yml", "by-config").code == 0
    assert cli("merge-lora", "base", "ones", "out", "--dtype", "bfloat16").code == 0
    assert Path("out/model.safetensors").read_bytes() == Path("by-config/model.safetensors").read_bytes()


def test_the_plan_is_shown_and_nothing_written(cli: Cli) -> None:
    outcome = cli("merge-lora", "base", "ones", "out", "--plan")
    assert "1 tensor changed by 'ones' on 'base'" in outcome.out
    assert not Path("out").exists()


def test_scales_are_one_or_as_many_as_adapters(cli: Cli) -> None:
    outcome = cli("merge-lora", "base", "ones", "twos", "twos", "out", "--scale", "1", "--scale", "2")
    assert outcome.code == 2
    assert "2 times --scale for 3 adapters: one for all, or one for each" in outcome.err


def test_an_adapter_is_shown(cli: Cli) -> None:
    outcome = cli("adapter", "show", "ones")
    assert outcome.code == 0
    lines = [line.split(maxsplit=1) for line in outcome.out.splitlines()[1:]]
    assert ["kind", "LORA"] in lines
    assert ["base", "org/base"] in lines
    assert ["module", "self_attn.q_proj × 1"] in lines
    found = json.loads(cli("adapter", "show", "ones", "--json").out)
    assert (found["parameters"], found["ranks"], found["refused"]) == (2 * HIDDEN, [1], [])


def test_what_cannot_be_merged_is_shown_with_the_reason(cli: Cli) -> None:
    path = Path("ones/adapter_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_qalora": True}))
    outcome = cli("adapter", "show", "ones")
    assert outcome.code == 0
    assert "cannot be merged: QALoRA ('use_qalora') cannot be merged: it belongs to the groups" in outcome.out


def test_what_is_no_adapter_is_refused(cli: Cli) -> None:
    outcome = cli("adapter", "show", "base")
    assert outcome.code == 3
    assert "error E250: base: not an adapter: there is no adapter_config.json" in outcome.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["merge-lora", "ones", "base", "out"],
            "BASE is 'ones', which is an adapter. Hint: BASE, the model, comes first: mergecore merge-lora base "
            "ones out",
        ),
        (
            ["merge-lora", "ones", "twos", "out"],
            "BASE is 'ones', which is an adapter. Hint: BASE, the model, comes first",
        ),
        (
            ["merge-lora", "twos", "ones", "base", "out"],
            "BASE is 'twos', which is an adapter. Hint: BASE, the model, comes first: mergecore merge-lora base "
            "ones twos out",
        ),
        (
            ["merge-lora", "base", "ones"],
            "OUT, the folder to write, is missing: 'ones' is an adapter. Hint: it comes last: "
            "mergecore merge-lora base ones OUT",
        ),
        (
            ["merge-lora", "base", "ones", "twos"],
            "is missing: 'twos' is an adapter. Hint: it comes last: mergecore merge-",
        ),
        (
            ["merge-lora", "base", "out"],
            "ADAPTERS or OUT is missing: one adapter or more, then OUT, and only 'out' was",
        ),
        (
            ["combine-lora", "ones", "twos"],
            "is missing: 'twos' is an adapter. Hint: it comes last: mergecore combine-lora",
        ),
        (["combine-lora", "out"], "ADAPTERS or OUT is missing"),
        (
            ["merge-lora", "base", "ones", "out", "--scale", "1", "--scale", "2"],
            "2 times --scale for 1 adapter: one",
        ),
        (
            ["combine-lora", "ones", "out", "--weight", "1", "--weight", "2"],
            "2 times --weight for 1 adapter: one",
        ),
    ],
)
def test_a_slip_in_the_order_of_arguments_is_named(words: list[str], told: str, cli: Cli) -> None:
    failed = cli(*words)
    assert failed.code == 2
    assert told in failed.err
    assert not Path("out").exists()


def test_an_adapter_that_mergecore_wrote_may_be_written_anew(cli: Cli) -> None:
    assert cli("combine-lora", "ones", "twos", "out").code == 0
    done = cli("combine-lora", "ones", "out", "--overwrite")
    assert done.code == 0, done.err


def test_the_plan_does_not_name_the_method_that_takes_models_as_they_are(cli: Cli) -> None:
    shown = cli("merge-lora", "base", "ones", "out", "--plan").out
    assert "\n  21 tensors\n" in shown
    assert "passthrough" not in shown
