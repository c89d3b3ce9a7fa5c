"""Each property of what opens and describes models is broken by a plugin, and is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kit_faults import breaks, names, only
from tiny import registry

from mergecore import Architecture, MoeFamily
from mergecore.models import open_folder
from mergecore.testing import (
    check_architecture,
    check_moe_family,
    check_source,
    tiny_model,
)
from mergecore.testing.kinds.architectures import ARCHITECTURE
from mergecore.testing.kinds.mixtures import MOE_FAMILY
from mergecore.testing.kinds.sources import SOURCE
from mergecore.types import (
    Computed,
    Description,
    ModelReference,
    ModelSource,
    OpenOptions,
    Stack,
    TensorInfo,
)

drawn = random.Random(0)


# ---- sources ----------------------------------------------------------------------------------------------


def accepts(reference: ModelReference, options: OpenOptions) -> bool:
    return reference.path.startswith("zoo:")


def open_zoo(reference: ModelReference, options: OpenOptions) -> Any:
    return open_folder(Path(reference.path.removeprefix("zoo:")), reference)


ZOO = ModelSource(name="zoo", accepts=accepts, open=open_zoo, rank=10)


@dataclass(frozen=True)
class Odd(Computed):
    """Numbers of another tensor, in some wrong way."""

    how: str = ""

    def load(self, reader: Any, start: int, stop: int, into: torch.Tensor) -> None:
        self.parts[0].load(reader, start, stop, into)
        if self.how == "pieces":
            into += start
        if self.how == "nan":
            into[:] = float("nan")
        if self.how == "threads":
            with reader.room((1,), torch.float32):
                into += len(CALLS) if threading_now() else 0


CALLS: list[int] = [1]


def threading_now() -> bool:
    import threading

    return threading.current_thread() is not threading.main_thread()


@dataclass(frozen=True)
class Unpicklable(Odd):
    def __reduce__(self) -> Any:
        raise TypeError("no")


@dataclass(frozen=True)
class Greedy(Odd):
    @property
    def extra_memory(self) -> Any:
        return -1


def computed(kind: type[Odd], how: str = "") -> ModelSource:
    """A source of models whose tensors are computed in some wrong way."""

    def open_odd(reference: ModelReference, options: OpenOptions) -> Any:
        whole = open_zoo(reference, options)
        tensors = {name: TensorInfo(name, kind((one.data,), how)) for name, one in whole.tensors.items()}
        return replace(whole, tensors=tensors)

    return replace(ZOO, open=open_odd)


def changed(**facts: Any) -> ModelSource:
    """A source whose models say something else."""

    def open_changed(reference: ModelReference, options: OpenOptions) -> Any:
        whole = open_zoo(reference, options)
        return replace(whole, **{name: one(whole, options) for name, one in facts.items()})

    return replace(ZOO, open=open_changed)


def shuffled(model: Any, options: OpenOptions) -> Any:
    order = drawn.sample(list(model.tensors), len(model.tensors))
    return {name: model.tensors[name] for name in order}


SOURCES: list[tuple[str, ModelSource, str]] = [
    ("accepts", replace(ZOO, accepts=lambda *_: 1), "`accepts` returns 1 for 'zoo:"),  # type: ignore[arg-type]
    ("odd", replace(ZOO, accepts=lambda r, o: r.path[0] == "z"), "raises IndexError"),
    ("others", replace(ZOO, accepts=lambda r, o: True), "it accepts a plain folder and is asked before"),
    (
        "first",
        replace(ZOO, accepts=lambda r, o: "zoo:" in r.path, rank=99, name="zzz"),
        "which is asked before",
    ),
    ("opened", changed(tensors=lambda model, options: {}), "has no tensors"),
    ("same", changed(tensors=shuffled), "the tensors stand in another order"),
    (
        "weights",
        changed(config=lambda model, options: model.config if options.weights else {}),
        "with `weights=False`, the config is another one",
    ),
    ("read", computed(Odd, "nan"), "not finite"),
    ("pieces", computed(Odd, "pieces"), "has other numbers where it is read in pieces of"),
    ("threads", computed(Odd, "threads"), "has other numbers where several threads read it"),
    ("pickle", computed(Unpicklable), "cannot be pickled"),
    ("memory", computed(Greedy), "is -1; two numbers of bytes are expected"),
    ("merge", replace(ZOO, open=lambda r, o: lost(open_zoo(r, o), o)), "merged alone, "),
]


def lost(model: Any, options: OpenOptions) -> Any:
    """A model whose numbers are others each time it is opened."""
    CALLS.append(1)
    data = {
        name: TensorInfo(name, Scaled((one.data,), "", len(CALLS))) for name, one in model.tensors.items()
    }
    return replace(model, tensors=data)


@dataclass(frozen=True)
class Scaled(Odd):
    by: int = 1

    @property
    def identity(self) -> str:
        return "scaled"

    def load(self, reader: Any, start: int, stop: int, into: torch.Tensor) -> None:
        self.parts[0].load(reader, start, stop, into)
        into *= self.by


def test_a_source_that_keeps_everything_passes(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    check_source(ZOO, f"zoo:{model}")


@pytest.mark.parametrize(("name", "source", "text"), SOURCES, ids=[name for name, *_ in SOURCES])
def test_a_fault_of_a_source_is_named(name: str, source: ModelSource, text: str, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model", layers=1)
    if name == "first":
        rival = replace(ZOO, name="rival")
        registry_ = registry().with_sources(source, rival)
        breaks(check_source, text, source, f"zoo:{model}", registry=registry_, without=only(SOURCE, name))
        return
    breaks(check_source, text, source, f"zoo:{model}", without=only(SOURCE, name))


def test_numbers_of_a_source_are_compared_with_those_expected(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = tiny_model(tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    check_source(ZOO, f"zoo:{model}", tensors=tensors, without=only(SOURCE, "numbers"))
    tensors["model.norm.weight"] = tensors["model.norm.weight"] + 1
    breaks(check_source, "'model.norm.weight' has other numbers", ZOO, f"zoo:{model}", tensors=tensors)


def test_every_property_of_sources_is_broken() -> None:
    assert {name for name, *_ in SOURCES} | {"numbers"} == names(SOURCE)


# ---- architectures ----------------------------------------------------------------------------------------

NAMES = registry().get(Architecture, "names")


def described(change: Callable[[Description], Description]) -> Architecture:
    def describe(model: Any) -> Description | None:
        said = NAMES.describe(model)
        return None if said is None else change(said)

    return replace(NAMES, name="odd", describe=describe)


def every(said: Description, **facts: Any) -> Description:
    """All tensors with other facts."""
    return replace(said, tensors={name: replace(one, **facts) for name, one in said.tensors.items()})


ARCHITECTURES: list[tuple[str, Architecture, str]] = [
    ("describes", replace(NAMES, describe=lambda model: {}), "returns dict for the model of type"),  # type: ignore[arg-type, return-value]
    ("same", described(lambda said: replace(said, family=str(drawn.random()))), "asked twice"),
    ("name", described(lambda said: replace(said, by="")), "`Description.by` is empty"),
    (
        "tensors",
        described(lambda said: replace(said, tied={"a": "b"})),
        "`tied` says that 'b' stands for 'a'",
    ),
    (
        "stacks",
        described(
            lambda said: replace(said, stacks=tuple(Stack(one.prefix, 1) for one in said.stacks), main=None)
        ),
        "in layer 1 of a stack of 1 layers",
    ),
    (
        "axes",
        described(lambda said: every(said, vocabulary_axis=7)),
        "and axis 7 is said to be that of tokens",
    ),
    (
        "counts",
        described(lambda said: replace(said, layer_count_key=("vocab_size",))),
        "layers at vocab_size, and the stack has",
    ),
    (
        "modules",
        described(lambda said: replace(every(said, module="x"), modules=(module("y"),))),
        "is in the module 'x'",
    ),
    ("keys", replace(NAMES, map_keys=lambda one, other: {}), "lacks tensors; `map_keys` must keep every one"),
]


def module(name: str) -> Any:
    from mergecore.types import Module

    return Module(name)


@pytest.mark.parametrize(("name", "odd", "text"), ARCHITECTURES, ids=[name for name, *_ in ARCHITECTURES])
def test_a_fault_of_an_architecture_is_named(name: str, odd: Architecture, text: str) -> None:
    breaks(check_architecture, text, odd, without=only(ARCHITECTURE, name))


def test_a_model_that_is_given_must_be_described(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    nobody = replace(NAMES, describe=lambda model: None)
    breaks(check_architecture, "it does not describe the model of type 'llama'", nobody, model)
    check_architecture(nobody)
    check_architecture(NAMES, model)


def test_every_property_of_architectures_is_broken() -> None:
    assert {name for name, *_ in ARCHITECTURES} == names(ARCHITECTURE)


# ---- families of mixtures ---------------------------------------------------------------------------------

MIXTRAL = replace(registry().get(MoeFamily, "mixtral"), name="odd", proved_by="mixtral")


def test_faults_of_a_family_of_mixtures_are_named() -> None:
    check_moe_family(MIXTRAL)
    breaks(
        check_moe_family, "'mixtral': this is the name of a built-in one", replace(MIXTRAL, name="mixtral")
    )
    breaks(check_moe_family, "`title` is empty", replace(MIXTRAL, title=""))
    names_ = replace(MIXTRAL.names, router="")
    breaks(check_moe_family, "`names.router` is empty", replace(MIXTRAL, names=names_))

    def fail(mixture: Any) -> dict[str, Any]:
        raise KeyError("no")

    breaks(
        check_moe_family, "KeyError: 'no'", replace(MIXTRAL, config=fail), without=only(MOE_FAMILY, "mixture")
    )
    nameless = replace(MIXTRAL.names, experts={"w": ()})
    breaks(check_moe_family, "names.experts names the part 'gate' 0 times", replace(MIXTRAL, names=nameless))
    assert names(MOE_FAMILY) == {"named", "experts", "mixture", "whole"}
