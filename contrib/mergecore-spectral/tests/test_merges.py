"""The methods in merges of whole models, as a config asks for them."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import references
from safetensors.numpy import load_file, save_file

import mergecore
from mergecore import ConfigError, Plan, RunOptions

METHODS = ("tsv", "iso_c", "iso_cts")
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"
LAYERS, HIDDEN, INNER, VOCABULARY = 3, 16, 24, 32
Q, UP = (
    [f"model.layers.{i}.{part}.weight" for i in range(LAYERS)] for part in ("self_attn.q_proj", "mlp.up_proj")
)

every_method = pytest.mark.parametrize("name", METHODS)
Tensors = dict[str, Any]


def tensors_of(seed: int) -> Tensors:
    """Multiples of 1/1024, so that differences are exact in float32."""
    shapes: dict[str, tuple[int, ...]] = {
        EMBEDDING: (VOCABULARY, HIDDEN),
        NORM: (HIDDEN,),
        "lm_head.weight": (VOCABULARY, HIDDEN),
    }
    for q, up in zip(Q, UP, strict=True):
        shapes |= {q: (HIDDEN, HIDDEN), up: (INNER, HIDDEN)}
    generator = np.random.default_rng(seed)
    return {
        name: np.float32(np.round(1024 * generator.standard_normal(shape)) / 1024)
        for name, shape in shapes.items()
    }


def write(folder: Path, tensors: Tensors) -> None:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": 2,
        "num_hidden_layers": LAYERS,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensors]:
    """A base and three models in the current folder, and their tensors."""
    monkeypatch.chdir(tmp_path)
    made = {name: tensors_of(seed) for seed, name in enumerate(("base", "a", "b", "c"))}
    for name, tensors in made.items():
        write(tmp_path / name, tensors)
    return made


def config(name: str, **parameters: Any) -> dict[str, Any]:
    models = [{"model": f"./{one}"} for one in "abc"]
    return {
        "merge_method": name,
        "base_model": "./base",
        "models": models,
        "parameters": parameters,
        "dtype": "float32",
    }


def merge(document: dict[str, Any], out: str = "out", threads: int = 1) -> Tensors:
    folder = mergecore.merge(document, out, run_options=RunOptions(threads=threads))
    return dict(load_file(folder / "model.safetensors"))


def deltas(models: dict[str, Tensors], tensor: str) -> list[Any]:
    return [models[one][tensor].astype(np.float64) - models["base"][tensor] for one in "abc"]


def off(found: Any, base: Any, wanted: Any) -> float:
    """How far a merged tensor is from the base plus `wanted`, relative to the largest number."""
    return float(np.abs(found - (base + wanted)).max() / np.abs(wanted).max())


@every_method
def test_a_model_is_merged_matrix_by_matrix_and_by_the_mean_elsewhere(
    name: str, models: dict[str, Tensors]
) -> None:
    merged, base = merge(config(name, **{"lambda": 0.5})), models["base"]
    for tensor in [*Q, *UP]:
        wanted = 0.5 * getattr(references, name)(deltas(models, tensor))
        assert off(merged[tensor], base[tensor], wanted) <= 1e-6
    for tensor in (EMBEDDING, NORM, "lm_head.weight"):
        wanted = 0.5 * np.mean(deltas(models, tensor), axis=0)
        assert off(merged[tensor], base[tensor], wanted) <= 1e-6


@every_method
def test_a_gradient_goes_over_the_layers_and_filters_choose_tensors(
    name: str, models: dict[str, Tensors]
) -> None:
    """lambda is 0, 0.5 and 1 in the three layers, and 0.25 before and after them."""
    scales = [{"filter": "q_proj", "value": [0, 0.5, 1]}, {"value": 0.25}]
    spectral = [{"filter": "role:embed", "value": True}, {"filter": "mlp", "value": False}]
    document = config(name, **{"lambda": scales, "spectral": spectral})
    document["models"][0]["parameters"] = {"weight": [1, 3]}
    merged, base = merge(document), models["base"]
    assert (merged[Q[0]] == base[Q[0]]).all()
    for tensor, weight, scale in ((Q[1], 2, 0.5), (Q[2], 3, 1), (EMBEDDING, 1, 0.25)):
        one, *others = deltas(models, tensor)
        wanted = scale * getattr(references, name)([weight * one, *others])
        assert off(merged[tensor], base[tensor], wanted) <= 1e-6
    one, two, three = deltas(models, UP[1])
    assert off(merged[UP[1]], base[UP[1]], 0.25 * (2 * one + two + three) / 3) <= 1e-6


@every_method
def test_the_bytes_do_not_depend_on_threads(name: str, models: dict[str, Tensors]) -> None:
    digests = set()
    for threads in (1, 2, 7):
        merge(config(name), f"out-{threads}", threads)
        digests.add(sha256(Path(f"out-{threads}/model.safetensors").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_share_that_is_too_large_is_an_error_of_the_plan(models: dict[str, Tensors]) -> None:
    with pytest.raises(ConfigError, match=r"share 0.5 of 3 models is more than all singular vectors"):
        mergecore.plan(config("tsv", share=0.5))
    with pytest.raises(ConfigError, match=r"tsv has no parameter 'shar'.*did you mean 'share'"):
        mergecore.plan(config("tsv", shar=0.5))


@every_method
def test_only_matrices_that_have_singular_vectors_need_memory_of_their_own(
    name: str, models: dict[str, Tensors]
) -> None:
    made: Plan = mergecore.plan(config(name))
    method = mergecore.Registry.discover().get(mergecore.MergeMethod, name)
    assert method.extra_memory is not None
    needs = {step.name: method.extra_memory(step) for step in made.steps}
    assert {tensor for tensor, (_, each) in needs.items() if each} == {*Q, *UP}
    assert all(once == 0 for once, _ in needs.values())
