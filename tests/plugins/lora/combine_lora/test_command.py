"""`mergecore combine-lora` and configs that write an adapter, from the command line."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from fixture_types import Cli, WritePlugin
from safetensors.torch import load_file
from tiny import write_llama
from written_adapters import START, Q, document, pair, write

import mergecore
from mergecore import ConfigError, RunOptions
from mergecore.types import Json


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def digests(folder: Path | str) -> dict[str, str]:
    return {one.name: sha256(one.read_bytes()).hexdigest() for one in Path(folder).iterdir() if one.is_file()}


def test_one_line_merges_adapters_and_tells_the_error(cli: Cli) -> None:
    write("a")
    write("b", pair(Q, seed=4))
    outcome = cli("combine-lora", "a", "b", "out", "--weight", "0.5", "--rank", "2")
    assert outcome.code == 0, outcome.err
    assert "self_attn.q_proj       1  rank 2" in outcome.out
    facts = json.loads(Path("out/mergecore-manifest.json").read_text())["facts"]
    each = [pair(Q, seed=seed) for seed in (3, 4)]
    whole = sum(one[f"{START}{Q}.lora_B.weight"] @ one[f"{START}{Q}.lora_A.weight"] for one in each)
    s = torch.linalg.svdvals(torch.as_tensor(whole).double())
    assert facts["error"] == pytest.approx(float((s[2:].square().sum() / s.square().sum()).sqrt()), rel=1e-5)
    assert cli("verify", "out").code == 0
    words = ("--method", "ties", "--density", "0.5", "--json", "--dtype", "bfloat16")
    again = cli("combine-lora", "a", "b", "json", *words)
    assert json.loads(again.out.splitlines()[-1])["kinds"][0]["ranks"] == [4, 4]
    made = load_file("json/adapter_model.safetensors")
    assert {one.dtype for one in made.values()} == {torch.bfloat16}


def test_a_plan_is_shown_and_nothing_written(cli: Cli) -> None:
    write("a")
    outcome = cli("combine-lora", "a", "out", "--plan", "-v")
    assert outcome.code == 0, outcome.err
    assert not Path("out").exists()
    outcome = cli("combine-lora", "a", "out", "--plan", "--json")
    assert json.loads(outcome.out)["tensors"][0]["parameters"]["rank"] == 2


def test_the_bytes_are_the_same_with_any_number_of_threads_and_after_a_break(cli: Cli) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        tensors: dict[str, torch.Tensor] = {}
        for layer in range(3):
            tensors |= pair(f"model.layers.{layer}.mlp.up_proj", 2, 700, 400, seed)
        write(name, tensors)
    for method, more in (
        ("linear", {}),
        ("ties", {"density": 0.5}),
        ("dare_ties", {"density": 0.5}),
        ("knots", {}),
    ):
        config = document("a", "b", method=method, parameters=more, output={"rank": 3})
        made = []
        for threads in (1, 3):
            out = mergecore.merge(config, f"{method}-{threads}", run_options=RunOptions(threads=threads))
            made.append(digests(out))
        assert made[0] == made[1]

        class Stop(Exception):
            pass

        seen: list[object] = []

        def stop(event: object, seen: list[object] = seen) -> None:
            if type(event).__name__ == "StepDone":
                seen.append(event)
                if len(seen) == 2:
                    raise Stop

        with pytest.raises(Stop):
            mergecore.merge(config, f"{method}-broken", progress=stop, run_options=RunOptions(threads=1))
        out = mergecore.merge(config, f"{method}-broken", run_options=RunOptions(mode="resume"))
        assert digests(out) == made[0]


def test_a_change_of_an_adapter_is_another_merge(cli: Cli) -> None:
    """Its config is an input, too: another alpha is another result."""
    write("a")
    mergecore.merge(document("a"), "out")
    Path("a/adapter_config.json").write_text(
        Path("a/adapter_config.json").read_text().replace('"lora_alpha": 4', '"lora_alpha": 8')
    )
    Path("cfg.json").write_text(json.dumps(document("a")))
    outcome = cli("merge", "cfg.json", "out", "--resume")
    assert outcome.code != 0
    mergecore.merge(document("a"), "again")
    name = f"{START}{Q}.lora_B.weight"
    first, second = (load_file(f"{one}/adapter_model.safetensors")[name] for one in ("out", "again"))
    assert torch.equal(2 * first, second)


def test_adapters_can_be_named_in_many_ways(cli: Cli) -> None:
    write("a")
    Path("base").mkdir()
    made = []
    for i, model in enumerate(
        [{"adapter": "a"}, "a", {"path": "a"}, "base+a", {"model": "base", "adapter": "a"}]
    ):
        config = {**document("a"), "models": [{"model": model, "parameters": {"weight": 1}}]}
        out = mergecore.merge(config, f"out-{i}")
        made.append(load_file(out / "adapter_model.safetensors"))
    for one in made[1:]:
        assert all(torch.equal(one[name], tensor) for name, tensor in made[0].items())
    scaled: Json = {"adapters": [{"path": "a", "scale": 0.5}]}
    out = mergecore.merge(document(scaled), "half")
    half = load_file(out / "adapter_model.safetensors")
    name = f"{START}{Q}.lora_B.weight"
    assert torch.equal(2 * half[name], made[0][name])


def test_the_config_of_the_result_names_base_ranks_and_modules(cli: Cli) -> None:
    write("a", base_model_name_or_path="org/model", revision="main", task_type="CAUSAL_LM")
    write(
        "b", {**pair(Q), **pair("lm_head", 2, 8)}, base_model_name_or_path="org/model", task_type="CAUSAL_LM"
    )
    out = mergecore.merge(document("a", "b"), "out")
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/model", "main")
    assert (config["r"], config["lora_alpha"]) == (4, 4)
    assert config["rank_pattern"] == config["alpha_pattern"] == {"lm_head": 2}
    assert config["target_modules"] == rf"lm_head|{Q}".replace(".", r"\.")
    assert config["task_type"] == "CAUSAL_LM"
    assert "base_model: org/model" in (out / "README.md").read_text()


def test_differences_to_one_of_the_adapters(cli: Cli) -> None:
    """`base_model` may be an adapter: a + (b - a) is b."""
    write("a")
    write("b", pair(Q, seed=4))
    config = document("b", method="task_arithmetic", base_model={"adapter": "a"})
    made = load_file(mergecore.merge(config, "out") / "adapter_model.safetensors")
    found = made[f"{START}{Q}.lora_B.weight"] @ made[f"{START}{Q}.lora_A.weight"]
    b = pair(Q, seed=4)
    wanted = 2 * b[f"{START}{Q}.lora_B.weight"] @ b[f"{START}{Q}.lora_A.weight"]
    assert (found - wanted).abs().max() < 1e-5


@pytest.mark.parametrize(("writer", "method"), [("peft@mergecore", "linear"), ("peft", "linear@mergecore")])
def test_plugins_may_be_named_with_their_distribution(writer: str, method: str, cli: Cli) -> None:
    write("a")
    write("b", pair(Q, seed=4))
    made = [
        mergecore.merge(document("a", "b", method=one, output={"writer": to}), out)
        for one, to, out in (("linear", "peft", "plain"), (method, writer, "named"))
    ]
    weights = [(one / "adapter_model.safetensors").read_bytes() for one in made]
    assert weights[0] == weights[1]
    assert cli("verify", "named").code == 0


def test_the_writer_of_another_distribution_takes_ranks_or_is_refused(write_plugin: WritePlugin) -> None:
    code = """
from mergecore import OutputWriter, Params, hookimpl

@hookimpl
def mergecore_output_writers():
    yield OutputWriter(name="peft", layout=lambda request, params: None, params=Params)
"""
    write_plugin("others", code)
    write("a")
    mergecore.merge(document("a"), "ours")
    with pytest.raises(ConfigError) as caught:
        mergecore.merge(document("a", output={"writer": "peft@others"}), "out")
    told = "E105", "adapters cannot be merged for the output writer 'peft@others', which takes no rank"
    assert (caught.value.code, caught.value.what) == told
    assert caught.value.hint == "write 'writer: peft@mergecore'"
    assert not Path("out").exists()


def test_both_tables_name_a_module_by_its_name_in_its_layer(cli: Cli) -> None:
    """Merged back, and extracted from the model that it makes, an adapter has the rows that it had."""
    write_llama(Path("base"), 1, seed=1)
    norm = f"{START}model.norm.weight"
    write("a", {**pair(Q), norm: torch.ones(4)}, modules_to_save=["model.norm"])
    write("b", {**pair(Q, seed=4), norm: torch.ones(4)}, modules_to_save=["model.norm"])
    combined = cli("combine-lora", "a", "b", "both", "--base", "base")
    assert combined.code == 0, combined.err
    assert combined.err.splitlines()[0].startswith("merging 2 adapters: 4 tensors, ")
    merged = cli("merge-lora", "base", "both", "merged")
    assert merged.err.splitlines()[0].startswith("merging 1 adapter into a model: 12 tensors, ")
    extracted = cli(
        "extract-lora", "merged", "base", "again", "--include", "q_proj", "--include", "model.norm"
    )
    assert extracted.err.splitlines()[0].startswith("extracting an adapter: ")
    names = [
        {line.split()[0] for line in one.out.splitlines() if line.split()[2] in ("rank", "whole")}
        for one in (combined, extracted)
    ]
    assert names[0] == names[1] == {"self_attn.q_proj", "model.norm"}
    assert max(map(len, (combined.out + extracted.out).splitlines())) <= 80


def test_the_manifest_names_the_plugin_of_the_method(cli: Cli, write_plugin: WritePlugin) -> None:
    code = """
from mergecore import MergeMethod, Params, hookimpl

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="first", merge=lambda group, params: group.map(lambda block: block.x[0]), params=Params)
"""
    write_plugin("firsts", code)
    write("a")
    write("b", pair(Q, seed=4))
    config = document("a", "b", method="first")
    for one in config["models"]:
        del one["parameters"]
    mergecore.merge(config, "out")
    plugins = json.loads(Path("out/mergecore-manifest.json").read_text())["plugins"]
    assert plugins["firsts"] == "firsts 1.0"
