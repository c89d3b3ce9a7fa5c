"""Merging what is in memory: state dicts, modules and single tensors, with the numbers of a merge on disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from benchmarks.methods import CASES, config_for
from safetensors.torch import load_file
from tiny import llama, llama_config, write_checkpoint
from torch import Tensor, nn

import mergecore
from mergecore import MergecoreError, MergeMethod, NoParams, PlanOptions, Registry, RunOptions
from mergecore.planning.state_dicts import StateDicts
from mergecore.types.events import Event, PlanReady, StepDone

Tensors = dict[str, Tensor]
NAMES = ("base", "a", "b", "c")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensors]:
    """Four models in folders of their names, and in memory."""
    monkeypatch.chdir(tmp_path)
    found = {name: llama(2, seed=i) for i, name in enumerate(NAMES)}
    for name in NAMES[1:]:
        found[name] = {key: one + 0.1 * found["base"][key] for key, one in found[name].items()}
    for name, tensors in found.items():
        write_checkpoint(Path(name), tensors, llama_config(2))
    return found


def on_disk(config: Mapping[str, Any]) -> Tensors:
    return load_file(mergecore.merge(config, "out") / "model.safetensors")


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Bit for bit, under the same names in any order."""
    assert found.keys() == wanted.keys()
    for name, one in wanted.items():
        assert found[name].dtype == one.dtype
        assert torch.equal(found[name], one), name


def blank(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with models by their bare names."""
    return {**config, "models": [{**one, "model": Path(one["model"]).name} for one in config["models"]]} | (
        {"base_model": Path(config["base_model"]).name} if "base_model" in config else {}
    )


# ---- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(CASES))
def test_a_config_merges_in_memory_as_on_disk(models: dict[str, Tensors], method: str) -> None:
    config: dict[str, Any] = config_for(
        method, Path("./base"), [Path(f"./{name}") for name in "abc"], "float32"
    )
    used = {Path(str(config.get("base_model"))).name, *(Path(one["model"]).name for one in config["models"])}
    given = {name: one for name, one in models.items() if name in used}
    wanted = on_disk(config)
    for name in models:  # nothing is read from disk
        Path(name, "model.safetensors").unlink()
    assert_same(mergecore.merge_state_dicts(blank(config), given), wanted)


@pytest.mark.parametrize("method", ["dare_ties", "task_arithmetic", "slerp"])
def test_a_method_with_parameters_is_the_config_that_says_the_same(
    models: dict[str, Tensors], method: str
) -> None:
    parameters: dict[str, Any] = {"weight": [0.6, 0.4], "density": {"a": 0.5, "b": 0.7}}
    named: tuple[str, ...] = NAMES[:3]
    if method == "task_arithmetic":
        parameters = {"weight": np.array([0.6, 0.4]), "lambda": 0.5}
    if method == "slerp":
        parameters, named = {"t": 0.25}, NAMES[:2]
    entries = []
    for i, name in enumerate(named[1:]):
        own = {"weight": [0.6, 0.4][i], "density": [0.5, 0.7][i]} if method == "dare_ties" else {}
        own = {"weight": [0.6, 0.4][i]} if method == "task_arithmetic" else own
        entries.append({"model": f"./{name}", "parameters": own} if own else {"model": f"./{name}"})
    shared = {key: one for key, one in parameters.items() if key in ("t", "lambda")}
    config = {
        "merge_method": method,
        "base_model": "./base",
        "models": entries,
        "seed": 7,
        "dtype": "bfloat16",
    }
    given = {name: models[name] for name in named}
    found = mergecore.merge_state_dicts(
        method, given, base="base", seed=7, dtype=torch.bfloat16, **parameters
    )
    assert_same(found, on_disk({**config, "parameters": shared}))


def test_layers_are_stacked_in_memory_as_on_disk(models: dict[str, Tensors]) -> None:
    slices = [
        {"sources": [{"model": "a", "layer_range": [0, 2]}]},
        {"sources": [{"model": "b", "layer_range": [1, 2]}]},
    ]
    config = {"merge_method": "passthrough", "slices": slices}
    given = {name: models[name] for name in "ab"}
    found = mergecore.merge_state_dicts(config, given)
    assert_same(found, on_disk(config))
    assert "model.layers.2.mlp.up_proj.weight" in found


def test_models_in_memory_and_on_disk_are_merged_with_each_other(models: dict[str, Tensors]) -> None:
    config = {
        "merge_method": "linear",
        "models": [{"model": one, "parameters": {"weight": 1}} for one in ("a", "./b")],
    }
    assert_same(mergecore.merge_state_dicts(config, {"a": models["a"]}), on_disk(config))


def test_modules_are_merged_and_the_result_loads_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    monkeypatch.chdir(tmp_path)
    config = LlamaConfig.from_dict({**llama_config(2), "tie_word_embeddings": True})
    modules = {}
    for seed, name in enumerate("abc"):
        torch.manual_seed(seed)
        modules[name] = LlamaForCausalLM(config)
        modules[name].save_pretrained(name)
    found = mergecore.merge_state_dicts("dare_ties", modules, base="a", weight=[0.5, 0.25], density=0.5)
    entries = [
        {"model": f"./{name}", "parameters": {"weight": one}} for name, one in (("b", 0.5), ("c", 0.25))
    ]
    said = {
        "merge_method": "dare_ties",
        "base_model": "./a",
        "models": entries,
        "parameters": {"density": 0.5},
    }
    wanted = on_disk(said)
    assert "lm_head.weight" not in wanted
    assert torch.equal(found.pop("lm_head.weight"), wanted["model.embed_tokens.weight"])
    assert_same(found, wanted)
    made = LlamaForCausalLM(config)
    made.load_state_dict({**found, "lm_head.weight": found["model.embed_tokens.weight"]})
    loaded = LlamaForCausalLM.from_pretrained("out")
    tokens = torch.arange(8)[None]
    assert torch.equal(made(tokens).logits, loaded(tokens).logits)


def test_heads_that_are_tied_in_one_model_only_are_merged_apart() -> None:
    shared, other = torch.full((4, 2), 1.0), torch.full((4, 2), 3.0)
    models = {"a": {"embed": shared, "head": shared}, "b": {"embed": other, "head": other + 2}}
    found = mergecore.merge_state_dicts("linear", models, weight=1.0)
    assert (found["embed"].unique().tolist(), found["head"].unique().tolist()) == ([2.0], [3.0])


def test_views_of_one_memory_are_not_the_same_tensor() -> None:
    models: dict[str, Tensors] = {}
    for name, value in (("a", 1.0), ("b", 3.0)):
        flat = torch.arange(6.0) * value
        models[name] = {
            "one": flat[:4],
            "two": flat[:4].view(2, 2),
            "three": flat[2:],
            "four": flat[:4].view(2, 2).T,
        }
    found = mergecore.merge_state_dicts("linear", models, weight=1.0)
    assert found["one"].tolist() == [0, 2, 4, 6]
    assert found["two"].tolist() == [[0, 2], [4, 6]]
    assert found["three"].tolist() == [4, 6, 8, 10]
    assert found["four"].tolist() == [[0, 4], [2, 6]]


def test_what_is_handed_over_is_not_changed_and_not_copied(models: dict[str, Tensors]) -> None:
    before = {name: {key: one.clone() for key, one in tensors.items()} for name, tensors in models.items()}
    mergecore.merge_state_dicts("ties", models, base="base", weight=1.0, density=0.5)
    for name, tensors in models.items():
        assert_same(tensors, before[name])


# ---- single tensors ----------------------------------------------------------------------------------------


def test_tensors_of_any_kind_are_averaged() -> None:
    found = mergecore.merge_tensors(
        "linear",
        [torch.ones(2, 3), np.full((2, 3), 3.0), torch.full((3, 2), 5.0, dtype=torch.bfloat16).T],
        weight=[1, 2, 1],
    )
    assert found.tolist() == [[3.0] * 3] * 2  # (1 + 2 · 3 + 5) / 4
    assert found.dtype == torch.float64


def test_parameters_may_be_arrays() -> None:
    tensors = [torch.tensor([1.0]), torch.tensor([3.0])]
    for weight in (torch.tensor([1.0, 3.0]), np.array([1, 3])):
        assert mergecore.merge_tensors("linear", tensors, weight=weight).tolist() == [2.5]
    assert mergecore.merge_tensors("linear", tensors, weight=torch.tensor(1.0)).tolist() == [2.0]


def test_a_base_is_what_the_others_differ_from() -> None:
    """ties by hand: deltas 1 and -3, of which the second wins the vote."""
    found = mergecore.merge_tensors(
        "ties",
        [torch.tensor([3.0, 5.0]), torch.tensor([-1.0, 5.0])],
        base=torch.tensor([2.0, 2.0]),
        weight=1.0,
    )
    assert found.tolist() == [-1.0, 5.0]


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "torch.bfloat16"])
def test_the_result_has_the_dtype_that_is_asked_for(dtype: Any) -> None:
    found = mergecore.merge_tensors("linear", [torch.tensor(1.0), torch.tensor(2.0)], dtype=dtype, weight=1.0)
    assert (found.dtype, found.item(), found.shape) == (torch.bfloat16, 1.5, ())


@pytest.mark.parametrize(("method", "word"), [("task_arithmetic", "scale"), ("consensus_ta", "threshold")])
def test_lambda_is_given_by_a_name_that_python_allows(method: str, word: str) -> None:
    tensors, base = [torch.tensor([1.0, 3.0]), torch.tensor([2.0, 5.0])], torch.zeros(2)
    first, second = (
        mergecore.merge_tensors(method, tensors, base=base, weight=1.0, **cast("dict[str, Any]", {name: 0.5}))
        for name in ("lambda", word)
    )
    assert first.equal(second)
    if method == "task_arithmetic":
        assert first.tolist() == [1.5, 4.0]  # (1 + 2) / 2, (3 + 5) / 2


def test_random_numbers_depend_on_name_and_seed() -> None:
    tensors = [torch.ones(1000)]
    base = torch.zeros(1000)

    def made(**more: Any) -> bytes:
        found = mergecore.merge_tensors("dare_linear", tensors, base=base, weight=1.0, density=0.5, **more)
        assert sorted(found.unique().tolist()) == [0.0, 2.0]
        return found.numpy().tobytes()

    assert made() == made()
    assert len({made(), made(seed=1), made(name="other")}) == 3


def test_a_method_that_is_not_installed_can_be_handed_over() -> None:
    method = MergeMethod(
        name="largest", merge=lambda group, _: group.map(lambda one: one.x.amax(0)), params=NoParams
    )
    for _ in range(2):
        assert mergecore.merge_tensors(method, [torch.tensor([1.0, 5]), torch.tensor([2.0, 3])]).tolist() == [
            2,
            5,
        ]
    ties = Registry.discover().get(MergeMethod, "ties")
    assert mergecore.merge_tensors(ties, [torch.ones(2)], base=torch.zeros(2), weight=1.0).tolist() == [1, 1]


# ---- runs --------------------------------------------------------------------------------------------------


def test_events_are_heard(models: dict[str, Tensors]) -> None:
    heard: list[Event] = []
    found = mergecore.merge_state_dicts("linear", models, weight=1.0, progress=heard.append)
    assert isinstance(heard[0], PlanReady)
    assert heard[0].models == NAMES
    assert {one.name for one in heard if isinstance(one, StepDone)} == found.keys()


def test_a_plan_may_be_run_again_and_in_any_number_of_threads(models: dict[str, Tensors]) -> None:
    config = {
        "merge_method": "ties",
        "base_model": "base",
        "models": [{"model": "a", "parameters": {"weight": 1}}],
    }
    registry = Registry.discover().with_sources(StateDicts(models).source)
    made = mergecore.plan(config, registry=registry)
    first = mergecore.run(made, registry=registry, options=RunOptions(threads=1))
    assert_same(mergecore.run(made, registry=registry, options=RunOptions(threads=3)), first)
    for tensors in models.values():
        for one in tensors.values():
            one.zero_()
    assert not any(one.any() for one in mergecore.run(made, registry=registry).values())


def test_models_in_memory_are_merged_into_a_folder(models: dict[str, Tensors]) -> None:
    config = {
        "merge_method": "linear",
        "models": [{"model": one, "parameters": {"weight": 1}} for one in ("a", "b")],
    }

    def written(folder: str, **options: Any) -> bytes:
        registry = Registry.discover().with_sources(StateDicts(models).source)
        made = mergecore.plan(config, registry=registry)
        out = mergecore.execute(made, folder, registry=registry, options=RunOptions(**options))
        return (out / "model.safetensors").read_bytes()

    first = written("out")
    assert written("out") == first  # is there already
    models["a"]["model.norm.weight"] += 1
    with pytest.raises(MergecoreError, match="it holds another merge"):
        written("out")
    assert written("out", overwrite=True) != first


def test_memory_is_bounded_as_on_disk(models: dict[str, Tensors]) -> None:
    with pytest.raises(MergecoreError, match="the merge needs about"):
        mergecore.merge_state_dicts("linear", models, weight=1.0, run_options=RunOptions(max_memory=1000))


def test_torch_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from mergecore import merge_tensors, merge_state_dicts; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- errors ------------------------------------------------------------------------------------------------

ONE = torch.ones(2)


class Half(nn.Module):
    pass


@pytest.mark.parametrize(
    ("call", "code", "told"),
    [
        (
            lambda: mergecore.merge_tensors("linera", [ONE]),
            "E108",
            "unknown merge method 'linera'; did you mean 'linear'?",
        ),
        (lambda: mergecore.merge_tensors("linear", []), "E104", "no models were given to merge"),
        (
            lambda: mergecore.merge_state_dicts({"merge_method": "linear"}, {}),
            "E104",
            "no models were given to merge",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE, torch.ones(3)], weight=1.0),
            "E230",
            "shapes differ for 'tensor': tensors[0] [2], tensors[1] [3]",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE, [1.0, 2.0]], weight=1.0),  # type: ignore[list-item]
            "E233",
            "tensors[1]: tensor 'tensor' is a list, not a tensor. Hint: pass a plain tensor",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE], wieght=1.0),
            "E109",
            "linear has no parameter 'wieght'; did you mean 'weight'?",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE, ONE], weight=[1.0]),
            "E105",
            "parameter 'weight' has 1 values for 2 models. Hint: the base has none, unless it is listed",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": {"w": ONE}}, weight={"b": 1}),
            "E105",
            "parameter 'weight' is given for 'b', which is not among the models. Hint: they are a",
        ),
        (
            lambda: mergecore.merge_state_dicts("ties", {"a": {"w": ONE}}, base="b", weight=1),
            "E105",
            "the base 'b' is not among the models. Hint: they are a",
        ),
        (
            lambda: mergecore.merge_state_dicts(
                "linear", {"a": {"w": ONE}, "b": {"w": ONE, "v": ONE}}, weight=1
            ),
            "E232",
            "1 tensor unexpected in b: 'v'",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": {"w": ONE}, "b": {}}, weight=1),
            "E201",
            "model 'b' contains no tensors",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": Half()}, weight=1),
            "E201",
            "model 'a' contains no tensors",
        ),
        (
            lambda: mergecore.merge_tensors("linear", 5, weight=1),  # type: ignore[arg-type]
            "E104",
            "the tensors are a int; a list of them is expected",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", [{"w": ONE}], weight=1),  # type: ignore[arg-type]
            "E104",
            "the models are a list; a dict of names and state dicts is expected",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {1: {"w": ONE}}, weight=1),  # type: ignore[dict-item]
            "E104",
            "1 is not the name of a model; text is expected",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": 3}, weight=1),  # type: ignore[dict-item]
            "E104",
            "model 'a' is a int; a state dict or a module is expected",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": {1: ONE}}, weight=1),  # type: ignore[dict-item]
            "E104",
            "a: the name 1 of a tensor is not text",
        ),
        (
            lambda: mergecore.merge_state_dicts(
                "linear", {"a": {"w": torch.ones(2, device="meta")}}, weight=1
            ),
            "E233",
            "a: tensor 'w' is on the device 'meta', without numbers",
        ),
        (
            lambda: mergecore.merge_state_dicts("linear", {"a": {"w": torch.eye(2).to_sparse()}}, weight=1),
            "E233",
            "a: tensor 'w' is sparse_coo, not plain numbers",
        ),
        (
            lambda: mergecore.merge_state_dicts(
                {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}}]},
                {"a": {"w": ONE}, "b": {"w": ONE}},
            ),
            "E104",
            "the config does not name 'b'. Hint: name it in the config, or leave it out",
        ),
        (
            lambda: mergecore.merge_state_dicts(
                {"merge_method": "linear", "models": []}, {"a": {"w": ONE}}, weight=1
            ),
            "E104",
            "base, dtype, seed and parameters belong in the config. Hint: write them there, or name a method in place",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE, torch.tensor([1.0, torch.nan])], weight=1.0),
            "E234",
            "tensors[1]: tensor 'tensor': 1 value is not finite (NaN or Inf), the first at index 1",
        ),
        (
            lambda: mergecore.merge_tensors("linear", [ONE, np.zeros(2, dtype=np.complex128)], weight=1.0),
            "E205",
            "tensor 'tensor': unknown dtype 'complex128'",
        ),
    ],
)
def test_what_is_wrong_is_said(call: Callable[[], object], code: str, told: str) -> None:
    with pytest.raises(MergecoreError) as caught:
        call()
    assert told in str(caught.value)
    assert caught.value.code == code


def test_options_of_a_plan_count(models: dict[str, Tensors]) -> None:
    models["b"]["more"] = torch.ones(3)
    options = PlanOptions(unexpected="drop")
    found = mergecore.merge_state_dicts(
        "linear", {one: models[one] for one in "ab"}, weight=1.0, plan_options=options
    )
    assert found.keys() == models["a"].keys()
