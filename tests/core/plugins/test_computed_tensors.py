"""Tensors that a stranger's source computes of others while they are read: W + s · B A, which no file holds."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import yaml
from fixture_types import Cli
from safetensors.torch import load_file, save_file
from tiny_tokenizers import tokenizer_json
from torch import Tensor

import mergecore
from mergecore import MergecoreError, RunOptions
from mergecore.engine.memory import estimate
from mergecore.types import Plan
from mergecore.types.events import Event, StepDone

FOLDER = Path(__file__).resolve().parents[2] / "third_party" / "low_rank"
UP, EMBED, NORM = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight", "model.norm.weight"
SHAPES = {EMBED: (30, 20), "model.layers.1.mlp.up_proj.weight": (600, 700), UP: (600, 700), NORM: (20,)}
SCALE = 0.75
CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "vocab_size": 30, "tie_word_embeddings": True}

Tensors = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders `plain` and `tuned`, of which the latter is `base` with two tensors to which something is added."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    for folder in ("plain", "tuned/base"):
        Path(folder).mkdir(parents=True)
        Path(folder, "config.json").write_text(json.dumps(CONFIG))
        made = {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in SHAPES.items()}
        save_file(made, Path(folder, "model.safetensors"), {"format": "pt"})
    parts: Tensors = {}
    for name, (rows, columns) in ((EMBED, (30, 20)), (UP, (600, 700))):
        parts[f"{name}.B"] = torch.randn(rows, 3, generator=generator)
        parts[f"{name}.A"] = torch.randn(3, columns, generator=generator)
    save_file(parts, "tuned/adapter.safetensors")


def tuned() -> Tensors:
    """The tensors in float64."""
    made = {name: one.double() for name, one in load_file("tuned/base/model.safetensors").items()}
    parts = {name: one.double() for name, one in load_file("tuned/adapter.safetensors").items()}
    for name in (EMBED, UP):
        made[name] += SCALE * parts[f"{name}.B"] @ parts[f"{name}.A"]
    return made


MODEL = f"low-rank:{SCALE}:tuned"


def write(method: str = "linear", dtype: str | None = "float32", **more: object) -> Path:
    models = [
        {"model": one, "parameters": {"weight": weight}} for one, weight in (("plain", 0.5), (MODEL, 1.5))
    ]
    config = {"merge_method": method, "models": models, **({"dtype": dtype} if dtype else {}), **more}
    Path("config.yml").write_text(yaml.safe_dump(config))
    return Path("config.yml")


def numbers(folder: str) -> Tensors:
    return load_file(f"{folder}/model.safetensors")


def assert_near(found: Tensors, wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, one in wanted.items():
        torch.testing.assert_close(found[name].double(), one, rtol=1e-5, atol=1e-5)


# ---- numbers -----------------------------------------------------------------------------------------------


def test_a_merge_takes_numbers_that_no_file_holds(cli: Cli) -> None:
    outcome = cli("merge", write(), "out")
    assert outcome.code == 0, outcome.err
    plain = load_file("plain/model.safetensors")
    assert_near(
        numbers("out"), {name: (0.5 * plain[name].double() + 1.5 * one) / 2 for name, one in tuned().items()}
    )
    assert json.loads(Path("out/mergecore-manifest.json").read_text())["dropped"] == []
    assert cli("verify", "out").code == 0


@pytest.mark.parametrize("method", ["ties", "della", "slerp", "task_arithmetic", "arcee_fusion", "karcher"])
def test_any_number_of_workers_writes_the_same_bytes(cli: Cli, method: str) -> None:
    models = [MODEL, "plain"] if method == "karcher" else [MODEL]
    weights = {"weight": 0.7} if method in ("ties", "della", "task_arithmetic") else {}
    parameters = {"t": 0.3} if method == "slerp" else weights
    more: dict[str, object] = {"models": [{"model": one} for one in models], "parameters": parameters}
    if method != "karcher":
        more["base_model"] = "plain"
    for count in "123":
        outcome = cli("merge", write(method, "float32", **more), f"out{count}", "-j", count)
        assert outcome.code == 0, outcome.err
    first = Path("out1/model.safetensors").read_bytes()
    assert first == Path("out2/model.safetensors").read_bytes() == Path("out3/model.safetensors").read_bytes()
    assert cli("verify", "out2").code == 0


def test_a_copy_is_rounded_once_to_the_format_of_the_base(cli: Cli) -> None:
    assert cli("merge", write("passthrough", None, models=[{"model": MODEL}]), "out").code == 0
    found = numbers("out")
    assert {one.dtype for one in found.values()} == {torch.bfloat16}
    for name, one in tuned().items():
        assert (found[name].double() - one).abs().max() <= (one.abs() * 2**-8).max()
        torch.testing.assert_close(found[name], one.bfloat16(), rtol=2**-7, atol=1e-6)


def test_rows_of_a_tensor_that_is_computed_are_moved(cli: Cli) -> None:
    """The second vocabulary is the first one backwards."""
    tokens = [chr(ord("A") + number) for number in range(30)]
    for folder, own in (("plain", tokens), ("tuned/base", tokens[::-1])):
        Path(folder, "tokenizer.json").write_text(json.dumps(tokenizer_json("BPE", own)))
    outcome = cli("merge", write(tokenizer_source="base", base_model="plain"), "out")
    assert outcome.code == 0, outcome.err
    plain = load_file("plain/model.safetensors")[EMBED].double()
    wanted = (0.5 * plain + 1.5 * tuned()[EMBED].flip(0)) / 2
    torch.testing.assert_close(numbers("out")[EMBED].double(), wanted, rtol=1e-5, atol=1e-5)


# ---- runs --------------------------------------------------------------------------------------------------


def stop_after(count: int) -> Callable[[Event], None]:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.done == count:
            raise InterruptedError

    return stop


@pytest.mark.parametrize("count", [1, 3])
def test_an_interrupted_run_is_resumed(cli: Cli, count: int) -> None:
    config = write(
        "ties", base_model="plain", models=[{"model": MODEL, "parameters": {"density": 0.5, "weight": 1}}]
    )
    assert cli("merge", config, "whole").code == 0
    with pytest.raises(InterruptedError):
        mergecore.merge(config, "out", progress=stop_after(count), run_options=RunOptions(threads=1))
    outcome = cli("merge", config, "out", "--resume", "-v")
    assert outcome.code == 0, outcome.err
    for path in Path("whole").iterdir():
        assert Path("out", path.name).read_bytes() == path.read_bytes(), path.name


def test_another_scale_is_another_merge(cli: Cli) -> None:
    assert cli("merge", write(), "out").code == 0
    first = identity_of("out")
    assert cli("merge", write(), "out").code == 0  # nothing is to be done
    text = Path("config.yml").read_text().replace(MODEL, "low-rank:0.5:tuned")
    Path("config.yml").write_text(text)
    outcome = cli("merge", "config.yml", "out")
    assert "error E501" in outcome.err
    assert cli("merge", "config.yml", "other").code == 0
    assert identity_of("other") != first


def identity_of(folder: str) -> str:
    return str(json.loads(Path(folder, "mergecore-manifest.json").read_text())["made_of_sha256"])


def test_an_adapter_that_changes_stops_the_resume(cli: Cli) -> None:
    config = write()
    with pytest.raises(InterruptedError):
        mergecore.merge(config, "out", progress=stop_after(1), run_options=RunOptions(threads=1))
    parts = load_file("tuned/adapter.safetensors")
    save_file({name: one * 2 for name, one in parts.items()}, "tuned/adapter.safetensors")
    outcome = cli("merge", config, "out", "--resume")
    assert outcome.code != 0
    assert "adapter.safetensors" in outcome.err, outcome.err


def test_other_processes_compute_the_same(cli: Cli) -> None:
    config = write("ties", base_model="plain", models=[{"model": MODEL, "parameters": {"weight": 1}}])
    assert cli("merge", config, "out").code == 0
    outcome = cli("merge", config, "processes", "--executor", "processes", "-j", "2")
    assert outcome.code == 0, outcome.err
    for path in Path("out").iterdir():
        assert Path("processes", path.name).read_bytes() == path.read_bytes(), path.name


# ---- faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["linear", "passthrough"])
@pytest.mark.parametrize("stored", [f"{UP}.B", UP])
def test_a_number_that_is_not_finite_is_told_by_its_place_in_the_file(
    cli: Cli, stored: str, method: str
) -> None:
    path = "tuned/adapter.safetensors" if stored.endswith(".B") else "tuned/base/model.safetensors"
    tensors = load_file(path)
    tensors[stored].view(-1)[5] = torch.nan
    save_file(tensors, path, {"format": "pt"})
    models = [{"model": MODEL, "parameters": {"weight": 1}}] if method == "linear" else [{"model": MODEL}]
    outcome = cli("merge", write(method, models=models), "out")
    [line] = [line for line in outcome.err.splitlines() if "error" in line]
    assert (
        f"E234: {MODEL}: tensor '{stored}': 1 value is not finite (NaN or Inf), the first at index 5" in line
    )


def test_what_a_tensor_raises_while_it_is_read_is_no_fault_of_the_method(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    import low_rank_sum

    def fail(*_: object) -> None:
        raise ZeroDivisionError("no rank")

    monkeypatch.setattr(low_rank_sum.LowRankSum, "load", fail)
    for method in ("linear", "passthrough"):
        models = [{"model": MODEL, "parameters": {"weight": 1}}] if method == "linear" else [{"model": MODEL}]
        outcome = cli("merge", write(method, models=models), "out", "--restart", "-j", "1")
        assert outcome.code == 7, outcome.err
        assert (
            f"error E604: tensor '{EMBED}' of {MODEL} cannot be read: low_rank_sum.LowRankSum failed: "
            "ZeroDivisionError: no rank. Hint: report it to the authors of the plugin"
        ) in outcome.err


def test_what_is_computed_may_overflow_though_all_that_is_stored_is_finite(cli: Cli) -> None:
    parts = load_file("tuned/adapter.safetensors")
    parts[f"{UP}.B"][:] = parts[f"{UP}.A"][:] = 3e38
    save_file(parts, "tuned/adapter.safetensors")
    outcome = cli("merge", write("passthrough", models=[{"model": MODEL}]), "out")
    assert f"tensor '{UP}': 420000 values are not finite" in outcome.err


# ---- plans -------------------------------------------------------------------------------------------------


def plan() -> Plan:
    return mergecore.plan(write())


def test_the_plan_says_of_what_a_tensor_is_computed(cli: Cli) -> None:
    outcome = cli("plan", write(), "--tensor", UP)
    assert f"  from {MODEL}: computed from {UP} and 2 more BF16" in outcome.out
    [step] = [one for one in plan().steps if one.name == UP]
    assert step.inputs[1].reads == ((1, UP), (1, f"{UP}.B"), (1, f"{UP}.A"))


def test_what_a_tensor_borrows_counts_for_each_worker() -> None:
    made = plan()
    methods = {"linear": mergecore.Registry.discover().get(mergecore.MergeMethod, "linear")}
    one, three = (estimate(made, methods, count, None).peak for count in (1, 3))
    other = mergecore.plan(write(models=[{"model": "plain", "parameters": {"weight": 1}}] * 1))
    single = estimate(other, methods, 3, None).peak
    rows = min(600, 2 + 2**18 // 700)
    assert three - one > 2 * 8 * rows * 700
    assert three - single >= 3 * 8 * rows * 700
    with pytest.raises(MergecoreError, match="the merge needs about"):
        estimate(made, methods, 1, one - 1)


def test_a_plan_can_be_pickled() -> None:
    made = plan()
    again = pickle.loads(pickle.dumps(made.steps))  # noqa: S301
    assert [step.inputs[1].tensor.identity for step in again] == [
        step.inputs[1].tensor.identity for step in made.steps
    ]
    assert again[0] == made.steps[0]
