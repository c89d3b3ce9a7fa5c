"""Which describer is believed, and that none can lose a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from mergecore.errors import InputError, Place, PluginError, Problems
from mergecore.files.yaml_document import nowhere
from mergecore.models.opener import Opener, complete
from mergecore.plugins.registry import Registry
from mergecore.types import (
    Architecture,
    Checkpoint,
    Description,
    Loadability,
    ModelReference,
    ModelSource,
    OpenOptions,
    Proposal,
    Stack,
    Stored,
    TensorFacts,
    TensorInfo,
    WeightFile,
)

V = TypeVar("V")


def checkpoint(*names: str) -> Checkpoint:
    tensors = {name: TensorInfo(name, Stored(name, "F32", (1,), Path("f"), 0)) for name in names}
    return Checkpoint(ModelReference("m"), Path(), tensors, ())


def description(by: str, *names: str) -> Description:
    stack = Stack("a.", 1)
    return Description(
        by, "", (stack,), stack, {name: TensorFacts(suffix=name, role="norm") for name in names}
    )


def test_a_description_has_exactly_the_tensors_of_the_checkpoint() -> None:
    found = complete(
        description("x", "b.weight", "ghost"), checkpoint("a.0.weight", "b.weight", "c.7.weight")
    )
    assert found.tensors == {
        "b.weight": TensorFacts(suffix="b.weight", role="norm"),
        "a.0.weight": TensorFacts("a.", 0, "weight"),
        "c.7.weight": TensorFacts(suffix="c.7.weight"),
    }
    assert found.main == Stack("a.", 1)


class Offering(Registry):
    """A registry that offers these describers and sources, and nothing else."""

    def __init__(self, *offered: Architecture | ModelSource) -> None:
        super().__init__(())
        self.values = offered

    def all(self, kind: type[V]) -> list[V]:
        return [one for one in self.values if isinstance(one, kind)]

    @contextmanager
    def calling(self, kind: type, name: str) -> Iterator[None]:
        yield


def opener(*architectures: Architecture) -> Opener:
    return Opener(Offering(*architectures), OpenOptions(), nowhere)


def says(by: str, rank: int, slow: bool = False, knows: bool = True) -> Architecture:
    return Architecture(
        name=by, describe=lambda one: description(by, *one.tensors) if knows else None, rank=rank, slow=slow
    )


def test_the_lowest_rank_that_knows_the_model_is_believed() -> None:
    found = opener(says("z", 3), says("a", 2), says("b", 1, knows=False))
    assert found.describe(checkpoint("b.weight")).by == "a"


def test_a_slow_describer_is_asked_only_for_a_thorough_description() -> None:
    found = opener(says("slow", 1, slow=True), says("quick", 2))
    assert found.describe(checkpoint("b.weight")).by == "quick"
    assert found.describe(checkpoint("b.weight"), thorough=True).by == "slow"


def test_a_model_that_nobody_describes_is_an_error() -> None:
    told = r"^no installed plugin describes checkpoints\. Hint: enable the plugin 'names'$"
    for one in (opener(), opener(says("n", 1, knows=False))):
        with pytest.raises(PluginError, match=told) as caught:
            one.describe(checkpoint("w"))
        assert caught.value.code == "E605"


def test_a_source_that_makes_something_else_is_blamed() -> None:
    source = ModelSource(name="odd", accepts=lambda *_: True, open=lambda *_: 3)  # type: ignore[arg-type]
    one = Opener(Offering(source), OpenOptions(), nowhere)
    with pytest.raises(
        PluginError, match=r"^model source 'odd' returns int in place of a Checkpoint$"
    ) as caught:
        one.open(ModelReference("m"), ())
    assert caught.value.code == "E605"


def test_the_first_that_can_judge_a_model_does() -> None:
    def judging(rank: int, answer: Loadability | None) -> Architecture:
        return Architecture(
            name=f"j{rank}", describe=lambda one: None, rank=rank, loadability=lambda proposal: answer
        )

    proposal = Proposal(checkpoint(), {}, {}, ())
    yes = Loadability({}, ("no",))
    assert (
        opener(says("n", 1), judging(3, Loadability({})), judging(2, yes), judging(1, None)).loadability(
            proposal
        )
        is yes
    )
    assert opener(says("n", 1), judging(1, None)).loadability(proposal) is None


def test_a_network_that_is_down_is_told_once_for_all_models() -> None:
    def open_(reference: ModelReference, options: OpenOptions) -> Checkpoint:
        if reference.path == "damaged":
            raise InputError("E202", "not safetensors", place="damaged/model.safetensors")
        raise InputError("E704", f"'{reference}': no network") from OSError("down")

    source = ModelSource(name="hub", accepts=lambda *_: True, open=open_)
    one = Opener(Offering(source), OpenOptions(), lambda path: Place("c.yml", int(path[0]), 1))
    names = ("m/a", "damaged", "m/b", "m/c", "m/d", "m/e")
    with pytest.raises(Problems) as caught:
        one.open_all([(ModelReference(name), (i,)) for i, name in enumerate(names)])
    assert [str(error) for error in caught.value.errors] == [
        "c.yml:0:1: 'm/a': no network; so it is for 4 more models: 'c.yml:2:1', 'c.yml:3:1', 'c.yml:4:1' and 1 more",
        "damaged/model.safetensors: not safetensors",
    ]


def test_files_of_weights_that_lie_elsewhere_are_told_apart() -> None:
    paths = [
        "/m/own/x.safetensors",
        "/b/base/x.safetensors",
        "/a/base/x.safetensors",
        "/a/base/y.safetensors",
    ]
    files = tuple(WeightFile(Path(path), 0, "", ()) for path in paths)
    model = Checkpoint(ModelReference("m"), Path("/m/own"), {}, files)
    names = [model.file_name(file) for file in files]
    assert names == ["x.safetensors", "b/base/x.safetensors", "a/base/x.safetensors", "y.safetensors"]


def test_options_without_an_opener_open_nothing() -> None:
    with pytest.raises(InputError, match="'m': there are no plugins here that could open it"):
        OpenOptions().open_model("m")
