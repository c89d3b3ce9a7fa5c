"""Adapters merged into one adapter: what comes of it is what a float64 computation of the whole changes gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import peft
import pytest
import torch
from peft_adapters import gpt2, llama, mixtral
from safetensors.numpy import load_file

import mergecore
from mergecore import MergeMethod, Params, RunOptions, TensorGroup
from mergecore.types import Block, Json, Merged

pytestmark = pytest.mark.filterwarnings("ignore")

Matrix = npt.NDArray[np.float64]
"""Of changes (out, in)."""


class Bench:
    """A base with adapters on it that PEFT has written, and what PEFT says they change."""

    def __init__(self, folder: Path, make: Any = llama) -> None:
        torch.manual_seed(1)
        model = make()
        self.folder, self.kind = folder, type(model)
        model.save_pretrained(folder / "base")

    def adapter(self, name: str, seed: int, **config: Any) -> str:
        torch.manual_seed(seed)
        model = peft.get_peft_model(self.base(), peft.LoraConfig(**config))
        for _, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data + torch.randn_like(parameter) * 0.05
        model.save_pretrained(str(self.folder / name))
        return str(self.folder / name)

    def base(self) -> Any:
        return self.kind.from_pretrained(self.folder / "base")

    def loaded(self, adapter: Path | str) -> Any:
        return peft.PeftModel.from_pretrained(self.base(), str(adapter)).eval()

    def changes(self, adapter: Path | str) -> dict[str, Matrix]:
        """What PEFT adds to each weight."""
        model = self.loaded(adapter)
        return {
            name: module.get_delta_weight("default").detach().double().numpy()
            for name, module in model.named_modules()
            if hasattr(module, "get_delta_weight") and len(getattr(module, "lora_A", ()))
        }

    def merge(
        self, method: str, models: Sequence[tuple[str, dict[str, Json]]], out: str, **more: Any
    ) -> Path:
        output = {"writer": "peft", **more.pop("output", {})}
        listed = [{"model": {"adapter": path}, "parameters": given} for path, given in models]
        document = {"merge_method": method, "models": listed, "output": output, **more}
        return mergecore.merge(document, self.folder / out, run_options=RunOptions(threads=2))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def two(bench: Bench) -> tuple[str, str]:
    """Adapters of different ranks, scales and targets: the first has q and v, the second q and down."""
    first = bench.adapter("a", 1, r=4, lora_alpha=7, target_modules=["q_proj", "v_proj"])
    more: dict[str, Any] = {"rank_pattern": {"layers.1.mlp.down_proj": 5}, "use_rslora": True}
    second = bench.adapter("b", 2, r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"], **more)
    return first, second


def summed(weights: Sequence[float], each: Sequence[dict[str, Matrix]]) -> dict[str, Matrix]:
    found: dict[str, Matrix] = {}
    for weight, changes in zip(weights, each, strict=True):
        for name, change in changes.items():
            found[name] = found.get(name, np.zeros_like(change)) + weight * change
    return found


def apart(made: dict[str, Matrix], wanted: dict[str, Matrix]) -> float:
    assert made.keys() == wanted.keys()
    far = sum(float(np.square(made[name] - one).sum()) for name, one in wanted.items())
    return float(np.sqrt(far / sum(float(np.square(one).sum()) for one in wanted.values())))


@pytest.mark.parametrize(
    ("method", "weights"), [("task_arithmetic", (0.7, -0.4)), ("linear", (0.7 / 1.1, 0.4 / 1.1))]
)
def test_weighted_sums_are_exact_at_the_sum_of_the_ranks(
    method: str, weights: tuple[float, float], bench: Bench
) -> None:
    first, second = two(bench)
    given = (0.7, -0.4) if method == "task_arithmetic" else (0.7, 0.4)
    models: list[tuple[str, dict[str, Json]]] = [
        (first, {"weight": given[0]}),
        (second, {"weight": given[1]}),
    ]
    out = bench.merge(method, models, "out", output={"rank": "exact"})
    wanted = summed(weights, [bench.changes(first), bench.changes(second)])
    assert apart(bench.changes(out), wanted) < 2e-7
    ranks = {
        name: one.shape[0]
        for name, one in load_file(out / "adapter_model.safetensors").items()
        if "lora_A" in name
    }
    per_layer = [("self_attn.q_proj", 7, 7), ("self_attn.v_proj", 4, 4), ("mlp.down_proj", 3, 5)]
    prefix = "base_model.model.model.layers"
    assert ranks == {
        f"{prefix}.{i}.{module}.lora_A.weight": each[i] for module, *each in per_layer for i in (0, 1)
    }


def test_a_fixed_rank_is_the_best_there_is(bench: Bench) -> None:
    """The error is the tail of the singular values of each merged change, by a decomposition of numpy."""
    first, second = two(bench)
    models: list[tuple[str, dict[str, Json]]] = [(first, {"weight": 0.7}), (second, {"weight": 0.4})]
    out = bench.merge("task_arithmetic", models, "out", output={"rank": 3})
    wanted = summed((0.7, 0.4), [bench.changes(first), bench.changes(second)])
    tails = {name: np.linalg.svd(one, compute_uv=False)[3:] for name, one in wanted.items()}
    size = sum(float(np.square(one).sum()) for one in wanted.values())
    best = np.sqrt(sum(float(np.square(one).sum()) for one in tails.values()) / size)
    assert best > 0.1
    assert apart(bench.changes(out), wanted) == pytest.approx(best, rel=1e-6)
    facts = json.loads((out / "mergecore-manifest.json").read_text())["facts"]
    assert facts["error"] == pytest.approx(best, rel=1e-6)
    assert [one["kind"] for one in facts["kinds"]] == [
        "self_attn.q_proj",
        "self_attn.v_proj",
        "mlp.down_proj",
    ]
    assert "| self_attn.q_proj | 2 | rank 3 |" in (out / "README.md").read_text()


def ties(changes: Sequence[Matrix], density: float, weights: Sequence[float]) -> Matrix:
    """Trim, elect, average what agrees."""
    trimmed = []
    for one in changes:
        kept = np.zeros_like(one)
        order = np.argsort(-np.abs(one), axis=None, kind="stable")[: int(density * one.size)]
        kept.flat[order] = one.flat[order]
        trimmed.append(kept)
    total = sum(weight * one for weight, one in zip(weights, trimmed, strict=True))
    sign = np.where(total < 0, -1.0, 1.0)
    agree = [one * sign > 0 for one in trimmed]
    upper = sum(w * one * m for w, one, m in zip(weights, trimmed, agree, strict=True))
    lower = sum(w * m for w, m in zip(weights, agree, strict=True))
    return np.asarray(upper / np.where(lower == 0, 1, lower))


@pytest.mark.parametrize(("rank", "within"), [("full", 2e-6), (6, None)])
def test_ties_is_that_of_the_whole_changes(rank: Json, within: float | None, bench: Bench) -> None:
    first, second = two(bench)
    given: dict[str, Json] = {"density": 0.6}
    models = [(first, {"weight": 1.0, **given}), (second, {"weight": 0.5, **given})]
    out = bench.merge("ties", models, "out", output={"rank": rank, "method": "exact"})
    each = [bench.changes(first), bench.changes(second)]
    none = {name: np.zeros_like(one) for changes in each for name, one in changes.items()}
    wanted = {name: ties([one.get(name, none[name]) for one in each], 0.6, (1, 0.5)) for name in none}
    found = apart(bench.changes(out), wanted)
    if within is not None:
        assert found < within
        return
    tails = [np.linalg.svd(one, compute_uv=False)[6:] for one in wanted.values()]
    size = sum(float(np.square(one).sum()) for one in wanted.values())
    best = np.sqrt(sum(float(np.square(one).sum()) for one in tails) / size)
    assert found == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("dare_linear", {"weight": 1, "density": 0.5}),
        ("dare_ties", {"weight": 1, "density": 0.5}),
        ("della", {"weight": 1, "density": 0.5}),
        ("breadcrumbs", {"weight": 1, "density": 0.5}),
        ("breadcrumbs", {"weight": 1, "density": 0.5, "scope": "model"}),
        ("ties", {"weight": 1, "density": 0.5, "scope": "model"}),
        ("sce", {}),
        ("model_stock", {}),
        ("karcher", {}),
        ("multislerp", {"weight": 1}),
        ("nuslerp", {"weight": 1}),
        ("arcee_fusion", {}),
        ("consensus_ta", {"weight": 1}),
    ],
)
def test_any_method_merges_the_whole_changes_as_it_merges_models(
    method: str, given: dict[str, Json], bench: Bench
) -> None:
    """Next to the same method on models in memory that are nothing but changes; at full rank nothing is lost.

    Methods that draw random numbers draw by the name of the tensor: here that of a factor.
    """
    first, second = (
        bench.adapter(name, seed, r=4, target_modules=["q_proj", "down_proj"])
        for name, seed in (("a", 1), ("b", 2))
    )
    alike = method in ("arcee_fusion",)  # its base is one of the adapters
    models = [(second, given)] if alike else [(first, given), (second, given)]
    shared = {"scope": given.pop("scope")} if "scope" in given else {}
    more: dict[str, Any] = {"base_model": {"adapter": first}} if alike else {}
    more |= {"parameters": shared} if shared else {}
    out = bench.merge(method, models, "out", output={"rank": "full", "method": "exact"}, **more)
    made = bench.changes(out)
    if method.startswith(("dare", "della")):
        facts = json.loads((out / "mergecore-manifest.json").read_text())["facts"]
        assert facts["error"] < 2e-6
        return
    each = {name: bench.changes(path) for name, path in (("a", first), ("b", second))}
    states: dict[str, Any] = {
        name: {f"{module}.weight": torch.from_numpy(one).float() for module, one in changes.items()}
        for name, changes in each.items()
    }
    states["zero"] = {name: torch.zeros_like(one) for name, one in states["a"].items()}
    document: dict[str, Any] = {"merge_method": method, **({"parameters": shared} if shared else {})}
    needs_base = mergecore.Registry.discover().get(mergecore.MergeMethod, method).base == "required"
    listed = [{"model": name, "parameters": given} for name in ("a", "b")]
    if alike:
        document |= {"base_model": "a", "models": listed[1:]}
    else:
        document |= {"models": listed, **({"base_model": "zero"} if needs_base else {})}
    if "base_model" not in document or alike:
        del states["zero"]
    wanted = mergecore.merge_state_dicts(document, states)
    exact = {name.removesuffix(".weight"): one.double().numpy() for name, one in wanted.items()}
    assert apart(made, exact) < 5e-6


def first_input(group: TensorGroup, params: Params) -> Merged:
    """Of a base, 3 times it is added: 1 where nothing subtracts it or adds it back."""

    def block(block: Block) -> torch.Tensor:
        return block.x[0] if block.base is None else block.x[0] + 3 * block.base

    return group.map(block)


@pytest.mark.parametrize("based", [False, True])
def test_a_method_that_takes_the_base_apart_gets_changes_as_they_are(based: bool, bench: Bench) -> None:
    first, second = two(bench)
    method = MergeMethod(name="first_input", merge=first_input, params=Params, space="apart", base="optional")
    document: dict[str, Json] = {
        "merge_method": "first_input",
        "models": [{"model": {"adapter": first}}],
        "output": {"writer": "peft", "rank": "full", "method": "exact"},
    }
    document |= {"base_model": {"adapter": second}} if based else {}
    registry = mergecore.Registry.discover().with_methods(method)
    out = mergecore.merge(document, bench.folder / "out", registry=registry)
    wanted = summed([1, 3 * based], [bench.changes(first), bench.changes(second)])
    made = bench.changes(out)
    assert apart(made, {name: one for name, one in wanted.items() if name in made}) < 5e-6


def test_peft_adds_adapters_up_to_the_same(bench: Bench) -> None:
    """`cat` is a weighted sum, `svd` its best part of a rank."""
    first = bench.adapter("a", 1, r=4, lora_alpha=7, target_modules=["q_proj", "v_proj"])
    second = bench.adapter("b", 2, r=4, lora_alpha=3, target_modules=["q_proj", "v_proj"])
    model = peft.PeftModel.from_pretrained(bench.base(), first, adapter_name="a")
    model.load_adapter(second, adapter_name="b")
    for kind, rank in (("cat", None), ("svd", 3)):
        further = {"svd_rank": rank} if rank else {}
        model.add_weighted_adapter(["a", "b"], [0.7, 0.4], kind, combination_type=kind, **further)
        wanted = {
            name: module.get_delta_weight(kind).detach().double().numpy()
            for name, module in model.named_modules()
            if hasattr(module, "get_delta_weight") and len(getattr(module, "lora_A", ()))
        }
        models: list[tuple[str, dict[str, Json]]] = [(first, {"weight": 0.7}), (second, {"weight": 0.4})]
        out = bench.merge("task_arithmetic", models, kind, output={"rank": rank or "exact"})
        made = {
            f"base_model.model.{name.removeprefix('base_model.model.')}": one
            for name, one in bench.changes(out).items()
        }
        assert apart(made, wanted) < 2e-6


def test_experts_of_different_ranks_and_parameters(tmp_path: Path) -> None:
    """One adapter has both parameters of the experts, the other one of them; PEFT wraps them in each other."""
    bench = Bench(tmp_path, mixtral)
    both, one = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"], ["mlp.experts.down_proj"]
    first = bench.adapter("a", 1, r=3, lora_alpha=7, target_modules=["q_proj"], target_parameters=both)
    second = bench.adapter("b", 2, r=2, lora_alpha=5, target_modules=[], target_parameters=one)
    models: list[tuple[str, dict[str, Json]]] = [(first, {"weight": 0.7}), (second, {"weight": 0.4})]
    out = bench.merge("task_arithmetic", models, "out")
    base = bench.base().state_dict()
    merged = [bench.loaded(path).merge_and_unload().state_dict() for path in (first, second, out)]
    for name, before in base.items():
        wanted = before + 0.7 * (merged[0][name] - before) + 0.4 * (merged[1][name] - before)
        assert (merged[2][name] - wanted).abs().max() < 1e-6
    assert len(load_file(out / "adapter_model.safetensors")) == 2 * 2 + 2 * 2 * 2


def test_whole_tensors_are_merged_as_differences_to_the_base(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.adapter("a", 1, r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    second = bench.adapter("b", 2, r=2, target_modules=["v_proj"])
    models: list[tuple[str, dict[str, Json]]] = [(first, {"weight": 0.5}), (second, {"weight": 1})]
    out = bench.merge("task_arithmetic", models, "out", base_model=str(tmp_path / "base"))
    base, one = bench.base().lm_head.weight, bench.loaded(first).merge_and_unload().lm_head.weight
    made = bench.loaded(out).merge_and_unload().lm_head.weight
    assert (made - (base + 0.5 * (one - base))).abs().max() < 1e-6
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["lm_head"]


def test_biases_of_layers_that_one_adapter_alone_has(tmp_path: Path) -> None:
    from peft_adapters import qwen2

    bench = Bench(tmp_path, qwen2)
    first = bench.adapter("a", 1, r=2, target_modules=["q_proj"], lora_bias=True)
    second = bench.adapter("b", 2, r=2, target_modules=["k_proj"])
    models: list[tuple[str, dict[str, Json]]] = [(first, {"weight": 0.5}), (second, {"weight": 2})]
    out = bench.merge("task_arithmetic", models, "out")
    merged = [bench.loaded(path).merge_and_unload().state_dict() for path in (first, second, out)]
    for name, before in bench.base().state_dict().items():
        wanted = before + 0.5 * (merged[0][name] - before) + 2 * (merged[1][name] - before)
        assert (merged[2][name] - wanted).abs().max() < 1e-6


def test_filters_and_gradients_hold_as_in_a_merge(bench: Bench) -> None:
    """q counts 1 at the first layer and 0 at the last; down is left out."""
    first = bench.adapter("a", 1, r=2, target_modules=["q_proj", "down_proj"])
    weight: Json = [{"filter": "q_proj", "value": [1, 0]}, {"value": 3}]
    out = bench.merge("task_arithmetic", [(first, {"weight": weight})], "out", exclude=["down_proj"])
    made, was = bench.changes(out), bench.changes(first)
    assert sorted(made) == [f"base_model.model.model.layers.{i}.self_attn.q_proj" for i in (0, 1)]
    names = sorted(made)
    assert np.abs(made[names[0]] - was[names[0]]).max() < 1e-7
    assert np.abs(made[names[1]]).max() == 0


def test_convolutions(tmp_path: Path) -> None:
    """A small network of images; factors of a convolution have its kernel in A."""
    import transformers

    shapes: dict[str, Any] = {
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "layer_type": "basic",
        "num_labels": 3,
    }
    bench = Bench(
        tmp_path, lambda: transformers.ResNetForImageClassification(transformers.ResNetConfig(**shapes))
    )
    first = bench.adapter("a", 1, r=2, target_modules=["convolution"])
    second = bench.adapter("b", 2, r=3, target_modules=["convolution"])
    models: list[tuple[str, dict[str, Json]]] = [(first, {"weight": 0.5}), (second, {"weight": 2})]
    for rank, within in (("exact", 1e-6), (2, 1.0)):
        out = bench.merge("task_arithmetic", models, f"out-{rank}", output={"rank": rank})
        wanted = summed((0.5, 2), [bench.changes(first), bench.changes(second)])
        assert apart(bench.changes(out), wanted) < within


def test_conv1d_of_gpt2(tmp_path: Path) -> None:
    bench = Bench(tmp_path, gpt2)
    first = bench.adapter("a", 1, r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    second = bench.adapter("b", 2, r=3, target_modules=["c_attn", "c_fc", "wte"])
    models: list[tuple[str, dict[str, Json]]] = [(first, {"weight": 0.5}), (second, {"weight": 2})]
    for method in ("task_arithmetic", "ties"):
        out = bench.merge(method, models, method, output={"rank": "full"})
        merged = [bench.loaded(path).merge_and_unload().state_dict() for path in (first, second, out)]
        before = bench.base().state_dict()["transformer.h.0.mlp.c_fc.weight"]
        name = "transformer.h.0.mlp.c_fc.weight"
        factor = 2 if method == "task_arithmetic" else 1  # ties divides by the weights that agree
        wanted = before + factor * (merged[1][name] - before)
        assert (merged[2][name] - wanted).abs().max() < 2e-6
