"""One plugin for each hook, the one that the page of the hooks shows, at work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixture_types import Cli, WriteModel, WritePlugin
from safetensors.torch import load_file, save_file
from tiny import write_llama

from mergecore import Architecture, Sampler
from mergecore.models.folder import open_folder
from mergecore.plugins.registry import Registry
from mergecore.testing import check_sampler
from mergecore.types import ModelReference

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "hooks.md"

Example = Callable[..., Registry]


@pytest.fixture
def example(write_plugin: WritePlugin) -> Example:
    """A function that installs the example of a hook and returns the registry, in which it works."""

    def install(hook: str, name: str, number: int = 0) -> Registry:
        sections = re.split(r"^## `", PAGE.read_text(encoding="utf8"), flags=re.MULTILINE)
        [section] = [text for text in sections if text.startswith(f"{hook}(")]
        code = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)[number]
        write_plugin("example", code, {name: "example"})
        registry = Registry.discover((), {})
        [plugin] = [plugin for plugin in registry.plugins() if plugin.distribution == "example"]
        assert (plugin.status, plugin.reason) == ("active", "")
        return registry

    return install


@pytest.fixture
def config(tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config for the average of the models `a`, all 1, and `b`, all 3, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "a", 1.0)
    write_model(tmp_path / "b", 3.0)
    path = tmp_path / "config.yml"
    path.write_text(
        "merge_method: linear\nmodels:\n- {model: ./a, parameters: {weight: 1}}\n"
        "- {model: ./b, parameters: {weight: 1}}\n"
    )
    return path


def value_in(folder: str) -> list[float]:
    """The values that occur in the tensors of a folder."""
    return sorted(
        {
            value
            for one in load_file(f"{folder}/model.safetensors").values()
            for value in one.unique().tolist()
        }
    )


def test_mergecore_model_sources_open_what_they_accept(
    example: Example, config: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    example("mergecore_model_sources", "zoo")
    monkeypatch.setenv("MODEL_ZOO", str(config.parent))
    config.write_text(config.read_text().replace("./b", "zoo:b"))
    assert cli("merge", config, "out").code == 0
    assert value_in("out") == [2.0]  # (1 + 3) / 2


def test_mergecore_model_sources_compute_tensors_while_they_are_read(
    example: Example, config: Path, cli: Cli
) -> None:
    example("mergecore_model_sources", "half", 1)
    config.write_text(config.read_text().replace("./b", "half:./b"))
    assert cli("merge", config, "out").code == 0
    assert value_in("out") == [1.25]  # (1 + 3 / 2) / 2


def test_mergecore_architectures_decide_what_layers_are(example: Example, config: Path, cli: Cli) -> None:
    tensors = {
        f"{side}.layers.{layer}.{part}.weight": torch.full((2,), float(layer))
        for side in ("left", "right")
        for layer in range(3)
        for part in ("up", "down", "norm")
    }
    for name, kind in (("towers", "two_towers"), ("others", "llama")):
        Path(name).mkdir()
        save_file(tensors, Path(name, "model.safetensors"), {"format": "pt"})
        Path(name, "config.json").write_text(json.dumps({"model_type": kind}))
    text = "merge_method: passthrough\nslices:\n- sources: [{model: ./towers, layer_range: [1, 3]}]\n"
    config.write_text(text)
    assert "error E113" in cli("plan", config).err  # which of the two towers is meant, nobody knows
    registry = example("mergecore_architectures", "two_towers")
    assert cli("merge", config, "out").code == 0
    made = load_file("out/model.safetensors")
    assert {name: one[0].item() for name, one in made.items() if ".up." in name} == {
        "left.layers.0.up.weight": 0,
        "left.layers.1.up.weight": 1,
        "left.layers.2.up.weight": 2,
        "right.layers.0.up.weight": 1,
        "right.layers.1.up.weight": 2,
    }
    first = min(registry.all(Architecture), key=lambda one: one.rank)
    assert first.describe(open_folder(Path("others"), ModelReference("others"))) is None


@pytest.mark.parametrize("said", ["tokenizer_source: plain", "tokenizer: {strategy: plain}"])
def test_mergecore_tokenizer_strategies_choose_files(
    example: Example, config: Path, cli: Cli, said: str
) -> None:
    example("mergecore_tokenizer_strategies", "plain")
    for name in ("special_tokens_map.json", "chat_template.jinja", "generation_config.json"):
        Path("a", name).write_text("{}")
    config.write_text(f"{config.read_text()}{said}\n")
    outcome = cli("merge", config, "out")
    assert outcome.code == 0, outcome.err
    assert Path("out/special_tokens_map.json").read_bytes() == b"{}"
    assert not Path("out/chat_template.jinja").exists()


def test_mergecore_merge_methods_merge(example: Example, config: Path, cli: Cli) -> None:
    example("mergecore_merge_methods", "loudest")
    config.write_text(
        "merge_method: loudest\nbase_model: ./a\nmodels:\n- {model: ./b, parameters: {weight: 0.5}}\n"
        "- {model: ./a, parameters: {weight: 9}}\n"
    )
    assert cli("merge", config, "out").code == 0
    assert value_in("out") == [2.0]  # 1 + the larger of 0.5 (3 - 1) and 9 (1 - 1)


def test_mergecore_recipes_compile_other_documents(example: Example, config: Path, cli: Cli) -> None:
    example("mergecore_recipes", "soup")
    config.write_text("soup: [./a, ./b]\n")
    assert cli("merge", config, "out").code == 0
    assert value_in("out") == [2.0]
    config.write_text("soup: ./a\n")
    assert "config.yml:1:7: 'soup' is './a'; a list is expected" in cli("plan", config).err


def test_mergecore_moe_families_get_experts(example: Example, tmp_path: Path, cli: Cli) -> None:
    example("mergecore_moe_families", "families")
    for seed, name in enumerate("ab"):
        write_llama(tmp_path / name, 2, seed=seed)
    document = tmp_path / "moe.yml"
    experts = "".join(f"- source_model: {tmp_path / name}\n" for name in "ab")
    document.write_text(
        f"base_model: {tmp_path / 'a'}\narchitecture: plain\ngate_mode: random\nexperts:\n{experts}"
    )
    assert cli("merge", document, tmp_path / "out").code == 0
    made, b = (
        load_file(tmp_path / "out" / "model.safetensors"),
        load_file(tmp_path / "b" / "model.safetensors"),
    )
    assert torch.equal(made["model.layers.1.moe.1.up"], b["model.layers.1.mlp.up_proj.weight"])
    assert made["model.layers.0.moe.router"].shape == (2, 4)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("plain_moe", ["PlainMoeForCausalLM"])
    assert (config["experts"], config["experts_used"], config["num_hidden_layers"]) == (2, 2, 2)


def test_mergecore_side_files_lie_beside_the_weights(example: Example, config: Path, cli: Cli) -> None:
    example("mergecore_side_files", "parents")
    assert cli("merge", config, "out").code == 0
    assert not Path("out/parents.txt").exists()  # installing it changes nothing
    config.write_text(f"{config.read_text()}side_files: {{parents: {{ending: md}}}}\n")
    assert cli("merge", config, "asked").code == 0
    assert Path("asked/parents.md").read_text() == "./a\n./b\n"


def test_mergecore_executors_run_the_steps(example: Example, config: Path, cli: Cli) -> None:
    example("mergecore_executors", "backwards")
    assert cli("merge", config, "threads").code == 0
    assert cli("merge", config, "backwards", "--executor", "backwards").code == 0
    config.write_text(config.read_text() + "executor: {name: backwards, log: steps.txt}\n")
    assert cli("merge", config, "logged").code == 0
    names = Path("steps.txt").read_text().split()
    assert sorted(names) == sorted(load_file("threads/model.safetensors"))
    threads, *others = (
        Path(name, "model.safetensors").read_bytes() for name in ("threads", "backwards", "logged")
    )
    assert others == [threads, threads]


def test_mergecore_output_writers_lay_out_files(example: Example, config: Path, cli: Cli) -> None:
    example("mergecore_output_writers", "raw")
    config.write_text(config.read_text() + "output: {writer: raw}\n")
    outcome = cli("merge", config, "out")
    assert outcome.code == 0, outcome.err
    assert Path("out/model.norm.weight.bin").read_bytes() == torch.full((2,), 2.0).numpy().tobytes()
    assert not list(Path("out").glob("*.safetensors"))
    assert cli("verify", "out").code == 0


def test_mergecore_samplers_choose_points(example: Example, cli: Cli) -> None:
    registry = example("mergecore_samplers", "walk")
    outcome = cli("plugins", "test", "walk")
    assert outcome.code == 0, outcome.out
    assert " passed, 0 failed, 0 skipped" in outcome.out
    check_sampler(registry.get(Sampler, "walk"), params={"stride": 1.0})


def test_mergecore_policies_choose_numbers(example: Example, cli: Cli, tmp_path: Path) -> None:
    example("mergecore_policies", "halved")
    base, first, second = (write_llama(tmp_path / name, 1) for name in ("base", "first", "second"))
    config = tmp_path / "cfg.yml"
    models = f"[{{model: {first}}}, {{model: {second}}}]"
    config.write_text(f"{{merge_method: task_arithmetic, base_model: {base}, models: {models}}}\n")
    made = json.loads(cli("coefficients", "halved", config, "--json", "-p", "factor=0.25").out)
    assert [one["parameters"] for one in made["models"]] == [{"weight": 1}, {"weight": 0.25}]
    assert cli("plugins", "test", "halved").code == 0


def test_mergecore_evaluators_score_models(
    example: Example, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example("mergecore_evaluators", "yes_no")
    monkeypatch.chdir(tmp_path)
    Path("questions.json").write_text(json.dumps([["is it", True], ["was it", False], ["so", True]]))
    Path("check.yml").write_text("{evaluator: yes_no, data: questions.json}\n")
    outcome = cli("plugins", "test", "yes_no", "--document", "check.yml")
    assert outcome.code == 0, outcome.out
    assert " passed, 0 failed, 0 skipped" in outcome.out
    assert "it needs parameters: data" in cli("plugins", "test", "yes_no").out


def test_mergecore_commands_are_commands(example: Example, config: Path, cli: Cli) -> None:
    example("mergecore_commands", "size")
    outcome = cli("size", "a")
    assert (outcome.code, outcome.out) == (0, f"{Path('a/model.safetensors').stat().st_size}\n")
    assert "Print the bytes of the weights in FOLDER." in cli("--help").out


def test_a_command_that_makes_a_model_has_the_options_of_all_such_commands(
    example: Example, config: Path, cli: Cli
) -> None:
    example("mergecore_commands", "scale", 1)
    shown = cli("scale", "a", "2.5", "out", "--plan")
    assert (shown.code, Path("out").exists()) == (0, False)
    assert "passthrough" in shown.out
    assert "How it is run:" in cli("scale", "--help").out
    assert json.loads(cli("scale", "a", "2.5", "out", "--plan", "--json").out)["tensors"]
    assert cli("scale", "a", "2.5", "out", "--resume", "--restart").code == 2
    assert cli("scale", "a", "2.5", "out").code == 0
    assert value_in("out") == [2.5]  # all of a is 1
    assert cli("scale", "a", "3", "out").code == 6
    assert cli("scale", "a", "3", "out", "--overwrite").code == 0
    assert value_in("out") == [3.0]


def test_mergecore_report_hears_events(example: Example, config: Path, cli: Cli) -> None:
    example("mergecore_report", "log")
    assert cli("merge", config, "out", "--quiet").code == 0
    size = Path("out/model.safetensors").stat().st_size
    assert Path("merges.log").read_text() == f"out {size}\n"
