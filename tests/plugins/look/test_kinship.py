"""Who was made of whom: families of models whose history is known, real fine-tunes among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from tiny import registry, write_checkpoint
from torch import Tensor

from mergecore_plugins.commands.demo import ASSETS
from mergecore_plugins.look.difference import difference

Model = Mapping[str, Tensor]
Family = dict[str, Model]


def origin(seed: int = 0) -> Model:
    """A model that was trained: matrices of any numbers, norms near 1."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (64, 32), "model.norm.weight": (32,)}
    for layer in range(3):
        inside = {"input_layernorm": (32,), "self_attn.q_proj": (32, 32), "mlp.up_proj": (64, 32)}
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in inside.items()}
    return {
        name: 0.1 * torch.randn(shape, generator=generator) + ("norm" in name)
        for name, shape in shapes.items()
    }


def tuned(model: Model, seed: int, far: float = 0.05, *, kind: str = "dense") -> Model:
    """A fine-tune: it moved by `far` of the size of each tensor, in a direction of its own."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: one + far * float(one.std(correction=0) + 1e-3) * _step(one, kind, generator)
        for name, one in model.items()
    }


def _step(one: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    if kind == "low rank" and one.ndim == 2:
        a, b = (torch.randn(size, 1, generator=generator) for size in one.shape)
        return a @ b.T
    step = torch.randn(one.shape, generator=generator)
    return step * (torch.rand(one.shape, generator=generator) < 0.1) if kind == "sparse" else step


def mixed(*parts: tuple[float, Model]) -> Model:
    return {name: sum((w * one[name] for w, one in parts), torch.zeros(())) for name in parts[0][1]}


def permuted(model: Model) -> Model:
    """The rows of every matrix in another order, as if its units were counted otherwise."""
    order = torch.Generator().manual_seed(5)
    return {
        name: one[torch.randperm(len(one), generator=order)] if one.ndim == 2 else one
        for name, one in model.items()
    }


def stacked(first: Model, second: Model) -> Model:
    """Every second tensor from another model."""
    return {name: (first if i % 2 else second)[name] for i, name in enumerate(first)}


O = origin()  # noqa: E741 - the usual letter
A, B, C = (tuned(O, seed) for seed in (1, 2, 3))
FAMILIES: dict[str, tuple[str, Family]] = {
    "a fine-tune": ("relatives", {"a": A, "b": O}),
    "two fine-tunes": ("relatives", {"a": A, "b": B}),
    "a long training": ("relatives", {"a": tuned(O, 1, 0.6), "b": O}),
    "a change of low rank": ("relatives", {"a": tuned(O, 1, kind="low rank"), "b": O}),
    "a sparse change": ("relatives", {"a": tuned(O, 1, 0.5, kind="sparse"), "b": O}),
    "a merge and a part of it": ("relatives", {"a": mixed((0.5, A), (0.5, B)), "b": A}),
    "a copy": ("same", {"a": O, "b": dict(O)}),
    "a copy in bfloat16": ("same", {"a": O, "b": {name: one.bfloat16() for name, one in O.items()}}),
    "two trainings": ("strangers", {"a": O, "b": origin(9)}),
    "half of the layers of another": ("partly", {"a": O, "b": stacked(O, origin(9))}),
    "half of the layers of another, tuned": ("partly", {"a": A, "b": stacked(O, origin(9))}),
    "a base of one and a part of the other": ("no base", {"a": A, "b": stacked(O, origin(9)), "c": O}),
    "turned signs": ("relatives", {"a": O, "b": {name: -one for name, one in O.items()}}),
    "other units": ("strangers", {"a": O, "b": permuted(O)}),
    "so far that nobody can tell": ("unknown", {"a": tuned(O, 1, 2.2), "b": O}),
    "other sizes": ("unknown", {"a": O, "b": {name: one.repeat_interleave(2, 0) for name, one in O.items()}}),
    "other names": ("unknown", {"a": O, "b": {f"x.{name}": one for name, one in O.items()}}),
    "a base": ("base", {"a": A, "b": B, "c": O}),
    "a base of sparse changes": (
        "base",
        {"a": tuned(O, 1, kind="sparse"), "b": tuned(O, 2, kind="sparse"), "c": O},
    ),
    "a base, one far": ("base", {"a": tuned(O, 1, 0.01), "b": tuned(O, 2, 0.3), "c": O}),
    "a base of changes alike": (
        "nearest",
        {"a": tuned(tuned(O, 7, 0.03), 1), "b": tuned(tuned(O, 7, 0.03), 2), "c": O},
    ),
    "three of an ancestor that is not there": ("unknown", {"a": A, "b": B, "c": C}),
    "the first was the base": ("between", {"a": O, "b": B, "c": C}),
    "a chain": ("between", {"a": A, "b": tuned(A, 8), "c": O}),
    "a merge between its parents": ("on the line", {"a": mixed((0.5, A), (0.5, B)), "b": A, "c": B}),
    "a base of one only": ("no base", {"a": A, "b": origin(9), "c": O}),
    "one is the base": ("same", {"a": O, "b": B, "c": O}),
}


def judged(folder: Path, family: Family) -> tuple[str, str]:
    for name, model in family.items():
        write_checkpoint(folder / name, dict(model))
    paths = [str(folder / name) for name in ("a", "b", "c") if name in family]
    found = difference(paths[0], paths[1], paths[2] if len(paths) > 2 else None, registry(), threads=1)
    return found.kinship.verdict, found.kinship.text


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_told_or_nobody_can(name: str, tmp_path: Path) -> None:
    wanted, family = FAMILIES[name]
    verdict, text = judged(tmp_path, family)
    assert verdict == wanted, text


SAID: list[tuple[str, str]] = [
    ("a fine-tune", "A and B come from one model: the cosine of their matrices is 0.9"),
    ("a copy", "A and B have the same weights"),
    ("two trainings", "A and B were trained from different starts"),
    (
        "half of the layers of another",
        "as where layers of several models are stacked: the cosine of their matrices",
    ),
    (
        "turned signs",
        "A and B come from one model, the signs of one of them turned: the cosine of their matrices is",
    ),
    ("other sizes", "cannot judge who was made of whom: 0 matrices"),
    (
        "a base",
        "C is a base of A and B, or close to one: what leads from it to the other two has the cosine 0.0",
    ),
    ("the first was the base", "A stands between C and B"),
    ("a chain", "A stands between C and B: what leads from it to the other two has the cosine"),
    ("a merge between its parents", "A lies on the line from C to B, as a merge of the two does"),
    ("a base of one only", "not a base of both: B and C were trained from different starts"),
    ("one is the base", "A and C have the same weights"),
    ("three of an ancestor that is not there", "all three may come from a model that is not among them"),
    (
        "so far that nobody can tell",
        "cannot judge whether A and B come from one model: the cosine of their matr",
    ),
]


@pytest.mark.parametrize(("name", "text"), SAID)
def test_it_is_said_in_words(name: str, text: str, tmp_path: Path) -> None:
    assert text in judged(tmp_path, FAMILIES[name][1])[1]


@pytest.mark.parametrize(
    ("models", "verdict", "text"),
    [
        (["mirrored", "base"], "relatives", "A and B come from one model"),
        (["mirrored", "negative"], "relatives", "A and B come from one model"),
        (["mirrored", "negative", "base"], "nearest", "of the three, C is nearest to the origin of all"),
        (["base", "negative", "mirrored"], "nearest", "of the three, A is nearest to the origin of all"),
        (["rotated", "base", "negative"], "between", "B stands between C and A"),
    ],
)
def test_fine_tunes_that_were_trained(
    models: list[str], verdict: str, text: str, demo: Callable[[str], str]
) -> None:
    """Those of the demo learned tasks that are alike, so their changes are."""
    paths = [demo(name) for name in models]
    found = difference(paths[0], paths[1], paths[2] if len(paths) > 2 else None, registry(), threads=1)
    assert found.kinship.verdict == verdict, found.kinship.text
    assert text in found.kinship.text


@pytest.fixture
def demo() -> Callable[[str], str]:
    return lambda name: str(ASSETS / "models" / name)
