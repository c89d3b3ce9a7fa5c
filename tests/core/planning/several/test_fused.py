"""Intermediate results that are computed while they are read: the bytes are those of results that are written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import Cli, WritePlugin
from fuzz.cases import case
from fuzz.models import write as write_drawn
from tiny import llama, llama_config, registry, write_checkpoint, write_llama

import mergecore
from mergecore import MergecoreError, NoParams, PlanOptions, RunOptions, TensorGroup
from mergecore.compute.deferred import DeferredGroup
from mergecore.testing import check_method
from mergecore.types import Merged, MergeMethod

METHODS = [
    one.name for one in registry().all(MergeMethod) if registry().provider(MergeMethod, one.name).built_in
]
FUSABLE = [one.name for one in registry().all(MergeMethod) if one.result_by]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(folder: Path | str) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in Path(folder).iterdir() if one.suffix == ".safetensors"}


def both(config: Any, tmp: str = "", **run: Any) -> tuple[mergecore.Plan, dict[str, bytes], dict[str, bytes]]:
    """The plan that computes all that can be, and the weights of both ways."""
    options = {name: PlanOptions(fuse=name) for name in ("always", "never")}
    plan = mergecore.plan(config, options=options["always"])
    mergecore.execute(plan, f"computed{tmp}", options=RunOptions(**run))
    mergecore.merge(config, f"written{tmp}", plan_options=options["never"])
    return plan, weights(f"computed{tmp}"), weights(f"written{tmp}")


def of_fuzz(seed: int, number: int, method: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A drawn merge whose models are on disk under names of their own, and a second one that reads its result."""
    drawn = case(seed, number, method)
    for name, one in drawn.models.items():
        one.name = f"{seed}-{number}-{one.name}"
        write_drawn(one, Path())
        drawn.config = json.loads(json.dumps(drawn.config).replace(f'"{name}"', f'"./{one.name}"'))
    random = np.random.default_rng([seed, number, 1])
    second: dict[str, Any] = {"merge_method": "linear", "models": [{"model": "first"}], "seed": 3}
    if random.random() < 0.5:
        second = {"merge_method": "passthrough", "models": [{"model": "first"}], "parameters": {"scale": 0.5}}
    elif random.random() < 0.6:
        second |= {"merge_method": "dare_linear", "base_model": "first", "models": [{"model": "first2"}]}
    second["parameters"] = second.get("parameters", {}) | (
        {} if second["merge_method"] == "passthrough" else {"weight": 0.7}
    )
    if random.random() < 0.5:
        second["dtype"] = "bfloat16"
    return drawn.config, second


@pytest.mark.parametrize("method", METHODS)
def test_what_is_computed_has_the_bytes_of_what_is_written_whatever_the_method(method: str) -> None:
    """Merges drawn as those of the fuzzer: tensors, layers and vocabularies, in all formats and with all parameters."""
    computed = 0
    for number in range(6):
        first, second = of_fuzz(11, number, method)
        documents = [{"name": "first", **first}, {"name": "first2", **first, "seed": 9}, second]
        try:
            mergecore.plan(documents)
        except MergecoreError:
            continue  # what cannot be merged is no matter here
        plan, so, otherwise = both(documents, f"-{number}")
        computed += sum(one.fused for one in plan.documents)
        assert so == otherwise, documents
    assert computed or method not in FUSABLE


@pytest.mark.parametrize("seed", range(8))
def test_what_is_computed_has_the_bytes_of_what_is_written_in_graphs_of_any_form(seed: int) -> None:
    """Six documents, each of which reads up to three of those before it, and files; some are computed of computed."""
    random = np.random.default_rng(seed)
    for name in "abc":
        write_llama(Path(name), 2, seed=seed * 3 + ord(name))
    known = ["./a", "./b", "./c"]
    documents: list[dict[str, Any]] = []
    for number in range(6):
        method = str(
            random.choice(["linear", "slerp", "ties", "dare_ties", "task_arithmetic", "della", "karcher"])
        )
        models = [str(one) for one in random.permutation(known)[: 2 if method == "slerp" else 3]]
        document: dict[str, Any] = {
            "name": f"d{number}",
            "merge_method": method,
            "seed": int(random.integers(9)),
        }
        if method not in ("linear", "karcher"):
            document["base_model"] = models.pop()
        document["models"] = [{"model": one} for one in models]
        document["parameters"] = {
            "slerp": {"t": 0.3},
            "karcher": {},
            "ties": {"weight": 0.5, "density": 0.4},
            "dare_ties": {"weight": 0.5, "density": 0.4},
            "della": {"weight": 0.5, "density": 0.5, "epsilon": 0.2},
        }.get(method, {"weight": [0.2, 0.9]})
        if random.random() < 0.6:
            document["out_dtype"] = str(random.choice(["bfloat16", "float16", "float32"]))
        documents.append(document)
        known.append(f"d{number}")
    wishes = [PlanOptions(fuse=fuse, result="d5") for fuse in ("always", "auto", "never")]
    plans = [mergecore.plan(documents, options=wish) for wish in wishes]
    for number, plan in enumerate(plans):
        mergecore.execute(plan, str(number), options=RunOptions(threads=1 + number))
    assert weights("0") == weights("1") == weights("2")
    assert all(one.fused for one in plans[0].documents[:-1])


def test_blocks_are_those_of_a_plan_that_is_carried_out() -> None:
    """Tensors of several blocks, whose rows do not end where blocks do; read in ranges of any kind."""
    for seed, name in enumerate("abc"):
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            "x.weight": torch.randn(700, 601, generator=generator),  # 420 700 elements: two blocks
            "flat": torch.randn(2**18 * 2 + 5, generator=generator),
        }
        write_checkpoint(Path(name), tensors, {"model_type": "odd"})
    for method, parameters in {
        "della": {"weight": 0.5, "density": 0.5, "epsilon": 0.2},
        "model_stock": {"filter_wise": True},
        "dare_linear": {"weight": 1.0, "density": 0.3},
        "slerp": {"t": 0.3},
    }.items():
        first = {"name": "first", "merge_method": method, "base_model": "./a", "parameters": parameters}
        first["models"] = [{"model": one} for one in ("./b", "./c")[: 1 if method == "slerp" else 2]]
        for second in (
            {"merge_method": "della", "parameters": {"weight": 1.0, "density": 0.5, "epsilon": 0.2}},
            {"merge_method": "ties", "parameters": {"weight": 1.0, "density": 0.5}},
        ):
            last = {"base_model": "./a", "models": [{"model": "first"}], **second}
            _, so, otherwise = both([first, last], f"-{method}-{second['merge_method']}")
            assert so == otherwise


def test_nothing_is_written_of_what_is_computed(cli: Cli) -> None:
    for seed, name in enumerate("abc"):
        write_llama(Path(name), 1, seed=seed)
    Path("c.yml").write_text(TWO)
    outcome = cli("merge", "c.yml", "out")
    assert outcome.code == 0, outcome.err
    assert not Path("out.parts").exists()
    assert cli("verify", "out").code == 0
    assert "holds this merge already" in cli("merge", "c.yml", "out").err
    manifest = json.loads(Path("out/mergecore-manifest.json").read_text())
    assert list(manifest["document"]["made_before"]) == ["soup"]
    first, second = manifest["models"]
    assert (first["reference"], second["reference"]) == ("soup", "./c")
    assert [one["reference"] for one in first["parts"]] == ["./a", "./b"]
    assert "mergecore-" not in json.dumps(manifest["models"])
    assert manifest["plugins"].keys() >= {"linear", "task_arithmetic"} or len(manifest["plugins"]) >= 3


TWO = """\
name: soup
merge_method: linear
models: [{model: ./a}, {model: ./b}]
parameters: {weight: 1}
---
merge_method: linear
models: [{model: soup}, {model: ./c}]
parameters: {weight: 1}
"""


def test_other_processes_compute_the_same(cli: Cli) -> None:
    for seed, name in enumerate("abc"):
        write_llama(Path(name), 1, seed=seed)
    Path("c.yml").write_text(TWO)
    assert cli("merge", "c.yml", "out").code == 0
    outcome = cli("merge", "c.yml", "other", "--executor", "processes", "-j", "2")
    assert outcome.code == 0, outcome.err
    assert weights("out") == weights("other")
    memory = mergecore.run(mergecore.plan("c.yml"))
    stored = weights("out")["model.safetensors"]
    assert all(one.numpy().tobytes() in stored for one in memory.values())


def test_a_change_of_what_is_computed_is_noticed(cli: Cli) -> None:
    for seed, name in enumerate("abc"):
        write_llama(Path(name), 1, seed=seed)
    Path("c.yml").write_text(TWO)
    assert cli("merge", "c.yml", "out").code == 0
    write_llama(Path("b"), 1, seed=7)
    outcome = cli("merge", "c.yml", "out")
    assert outcome.code == 6
    assert "E501: out: the output folder is not empty: it holds another merge" in outcome.err


# ---- which are computed ------------------------------------------------------------------------------------


def fate(config: Any, fuse: str = "auto") -> dict[str, tuple[bool, str]]:
    plan = mergecore.plan(config, options=PlanOptions(fuse=fuse))  # type: ignore[arg-type]
    return {one.name: (one.fused, one.why) for one in plan.documents[:-1]}


@pytest.fixture
def models() -> None:
    for seed, name in enumerate("abcd"):
        write_llama(Path(name), 1, seed=seed)


SOUP = {
    "name": "soup",
    "merge_method": "linear",
    "models": [{"model": "./a"}, {"model": "./b"}],
    "parameters": {"weight": 1},
}
TENSORS = 472 * 4
"""Bytes of a model of these tests."""


@pytest.mark.usefixtures("models")
def test_the_plan_says_what_costs_less(cli: Cli) -> None:
    """Computed, the soup reads two models; written, it also writes one, which counts twice, and reads it."""
    size = mergecore.plan({**SOUP, "name": None}).layout.size - 8 - 8 * 128
    last = {
        "merge_method": "linear",
        "models": [{"model": "soup"}, {"model": "./c"}],
        "parameters": {"weight": 1},
    }
    assert fate([SOUP, last])["soup"][0]
    many = {**SOUP, "models": [{"model": one} for one in ("./a", "./b", "./c", "./d")]}
    again = {
        "merge_method": "ties",
        "base_model": "./a",
        "models": [{"model": "soup"}],
        "parameters": {"weight": 1, "density": 0.5},
    }
    computed, why = fate([many, again])[
        "soup"
    ]  # 3 passes over 4 models; or 4, 2 for writing, 3 passes over the result
    assert not computed
    assert why.startswith("it moves ")
    assert "so, and " in why
    assert fate([many, again], "always")["soup"][1].startswith("as --fuse always says; it moves ")
    assert fate([SOUP, last], "never") == {"soup": (False, "as --fuse never says")}
    assert size > 0


@pytest.mark.usefixtures("models")
def test_what_cannot_be_computed_while_it_is_read_is_written(write_plugin: WritePlugin) -> None:
    last = {"merge_method": "linear", "models": [{"model": "x"}], "parameters": {"weight": 1}}
    parameters = {"weight": 1, "density": 0.5, "scope": "model"}
    whole = {
        "merge_method": "ties",
        "base_model": "./a",
        "models": [{"model": "./b"}],
        "parameters": parameters,
    }
    assert fate([{"name": "x", **whole}, last])["x"] == (False, "ties looks at all tensors first")
    spheres = {
        "merge_method": "nuslerp",
        "models": [{"model": "./a"}, {"model": "./b"}],
        "parameters": {"weight": 1},
    }
    assert fate([{"name": "x", **spheres}, last])["x"] == (
        False,
        "nuslerp does not make its result block by block",
    )
    write_plugin("odd", ODD)
    odd = {"merge_method": "odd", "models": [{"model": "./a"}]}
    assert fate([{"name": "x", **odd}, last])["x"] == (False, "odd needs whole tensors")


ODD = """
from mergecore import MergeMethod, NoParams, hookimpl

def odd(group, params):
    return group.x[0]

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="odd", merge=odd, params=NoParams, needs_whole_tensors=True)
"""
UNTRUE = """
from mergecore import MergeMethod, NoParams, hookimpl

def odd(group, params):
    WHAT

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="odd", merge=odd, params=NoParams, result_by="map")
"""


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("what", "told"),
    [
        (
            "return group.map_columns(lambda block: block.x[0])",
            "its result is not a `map`, as its result_by says",
        ),
        (
            "group.map(lambda block: block.x[0]); return group.map(lambda block: block.x[0])",
            "makes its result twice",
        ),
        (
            "raise ValueError('no')",
            "method 'odd' failed on tensor 'model.embed_tokens.weight' of 'x': ValueError: no",
        ),
    ],
)
def test_a_method_that_does_not_do_what_it_says_is_named(
    what: str, told: str, write_plugin: WritePlugin, cli: Cli
) -> None:
    write_plugin("odd", UNTRUE.replace("WHAT", what))
    first = "name: x\nmerge_method: odd\nmodels: [{model: ./a}]\n"
    last = "merge_method: linear\nmodels: [{model: x}]\nparameters: {weight: 1}\n"
    Path("c.yml").write_text(f"{first}---\n{last}")
    outcome = cli("merge", "c.yml", "out", "-j", "1")
    assert outcome.code == 7, outcome.err
    assert told in outcome.err


# ---- what is wrong with numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("fuse", ["always", "never"])
def test_wrong_numbers_are_told_as_where_they_are_written(fuse: str, cli: Cli) -> None:
    write_llama(Path("a"), 1, 1.0)
    broken = llama(1, 1.0)
    broken["model.norm.weight"][2] = float("nan")
    write_checkpoint(Path("b"), broken, llama_config(1))
    write_checkpoint(
        Path("large"), {name: one * 60000 for name, one in llama(1, 1.0).items()}, llama_config(1)
    )
    last = "---\nmerge_method: linear\nmodels: [{model: x}]\nparameters: {weight: 1}\n"
    first = "name: x\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 1}\n"
    Path("c.yml").write_text(first + last)
    outcome = cli("merge", "c.yml", "out", "--fuse", fuse)
    assert outcome.code == 3
    assert "E234" in outcome.err
    assert (
        "tensor 'model.norm.weight': 1 value is not finite (NaN or Inf), the first at index 2" in outcome.err
    )
    assert cli("merge", "c.yml", "out", "--fuse", fuse, "--allow-nonfinite").code == 0
    first = "name: x\nmerge_method: linear\nmodels: [{model: ./large}]\nparameters: {weight: 2, normalize: false}\n"
    Path("c.yml").write_text(first + "out_dtype: float16\n" + last)
    outcome = cli("merge", "c.yml", "new", "--fuse", fuse)
    assert outcome.code == 5
    assert "E403" in outcome.err
    if fuse == "always":
        assert "of 'x': the number at index 0 is 120000, too large for float16" in outcome.err
        assert "Hint: choose a wider out_dtype in 'x', or --allow-nonfinite" in outcome.err


def test_whole_numbers_that_differ_are_told(cli: Cli) -> None:
    for name, value in (("a", 1), ("b", 2)):
        write_checkpoint(
            Path(name), {"x": torch.ones(4), "ids": torch.full((3,), value)}, {"model_type": "odd"}
        )
    first = "name: x\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 1}\n"
    last = "---\nmerge_method: linear\nmodels: [{model: x}]\nparameters: {weight: 1}\n"
    Path("c.yml").write_text(first + last)
    outcome = cli("merge", "c.yml", "out")
    assert outcome.code == 3
    assert "tensor 'ids' is I64, which is never averaged, and differs between ./a and ./b" in outcome.err
    write_checkpoint(Path("b"), {"x": torch.ones(4), "ids": torch.full((3,), 1)}, {"model_type": "odd"})
    assert cli("merge", "c.yml", "out").code == 0
    assert cli("merge", "c.yml", "new", "--fuse", "never").code == 0
    assert weights("out") == weights("new")


def test_the_check_of_methods_finds_results_that_depend_on_when_they_are_made() -> None:
    def counting(group: TensorGroup, params: NoParams) -> Merged:
        first = group.index == 0 and isinstance(group, DeferredGroup)
        return group.map(lambda block: block.x.mean(0) + float(first))

    method = MergeMethod(name="odd", merge=counting, params=NoParams, result_by="map", summary="it counts")
    with pytest.raises(AssertionError, match=r"another result for shape .* where it is made later"):
        check_method(method, NoParams())
    check_method(replace(method, result_by=""), NoParams())
