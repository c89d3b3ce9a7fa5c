"""One step of a plan: read, merged, rounded once, checked, written, digested.

Blocks hold 4 elements here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_checkpoint
from torch import Tensor

from mergecore import Block, MergeError, MergeMethod, Params, TensorGroup
from mergecore.compute import group
from mergecore.engine import step
from mergecore.engine.step import Runner
from mergecore.engine.weights import WeightFiles
from mergecore.errors import MergecoreError, Problems
from mergecore.files.dtypes import DTYPES
from mergecore.models.folder import open_folder
from mergecore.output.digests import block_digest, tensor_digest
from mergecore.plugins.registry import Plugin
from mergecore.types import (
    Checkpoint,
    Layout,
    ModelReference,
    OutputTensor,
    Plan,
    Step,
    StepResult,
    TensorInput,
    Written,
)

NAN, INF = float("nan"), float("inf")
NAMES = {str(dtype.torch_name): name for name, dtype in DTYPES.items()}
PLUGIN = Plugin("test", "test", "dist", "1.0")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "BLOCK", 4)
    monkeypatch.setattr(step, "BLOCK", 4)


@dataclass
class Memory:
    """Keeps the bytes of tensors."""

    kept: dict[str, bytearray] = field(default_factory=dict)

    def write(self, name: str, start: int, data: memoryview) -> None:
        whole = self.kept.setdefault(name, bytearray())
        whole.extend(bytes(max(0, start + len(data) - len(whole))))
        whole[start : start + len(data)] = data

    def read(self, name: str, start: int, into: memoryview) -> None:
        into[:] = self.kept[name][start : start + len(into)]


class InOrder:
    def for_each(self, count: int, work: Callable[[int], None]) -> None:
        for index in range(count):
            work(index)


class Backwards:
    def for_each(self, count: int, work: Callable[[int], None]) -> None:
        for index in reversed(range(count)):
            work(index)


Merge = Callable[[TensorGroup], Any]


class Steps:
    """Runs steps on tensors that are first written as checkpoints, all called `w`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.result: StepResult | None = None
        self.bytes = b""

    def models(self, tensors: Sequence[Tensor]) -> tuple[Checkpoint, ...]:
        folders = [write_checkpoint(self.folder / f"m{i}", {"w": tensor}) for i, tensor in enumerate(tensors)]
        return tuple(open_folder(folder, ModelReference(f"m/{folder.name}")) for folder in folders)

    def run(
        self,
        *tensors: Tensor,
        merge: Merge | None = None,
        dtype: str | None = None,
        base: bool = False,
        allow: bool = False,
        crew: Any = None,
        **changes: Any,
    ) -> Tensor:
        """What `merge`, or copying, makes of tensors; the last is the base if `base`."""
        models = self.models(tensors)
        inputs = tuple(TensorInput(i, model.tensors["w"]) for i, model in enumerate(models))
        stored = str(tensors[0].dtype).removeprefix("torch.")
        step = Step(
            (OutputTensor("w", NAMES[dtype or stored], tuple(tensors[0].shape)),),
            inputs[:-1] if base else inputs,
            method="test" if merge else None,
            params=Params() if merge else None,
            base=inputs[-1] if base else None,
        )
        storage = Memory()
        with WeightFiles(models) as files:
            one = Runner(
                plan=Plan(models, 0, (step,), Layout((), {}), {}, 0, "threads", {}),
                methods={"test": method(merge, base)} if merge else {},
                providers={"test": PLUGIN},
                files=files,
                storage=storage,
                device=torch.device("cpu"),
                allow_nonfinite=allow,
                **changes,
            )
            self.result = one(step, crew or InOrder())
        self.bytes = bytes(storage.kept.get("w", b""))
        wanted = getattr(torch, dtype or stored)
        if not self.bytes:
            return torch.empty(tensors[0].shape, dtype=wanted)
        return torch.frombuffer(bytearray(self.bytes), dtype=wanted).view(tensors[0].shape)

    def refusal(self, code: str, *tensors: Tensor, **options: Any) -> MergecoreError:
        with pytest.raises(MergecoreError) as caught:
            self.run(*tensors, **options)
        assert caught.value.code == code
        return caught.value


def method(merge: Merge, delta: bool = False) -> MergeMethod[Any]:
    space: Mapping[bool, Any] = {False: "weight", True: "delta"}
    return MergeMethod(
        name="test",
        merge=lambda group, _: merge(group),
        params=Params,
        space=space[delta],
        needs_whole_tensors=True,
    )


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def same(group: TensorGroup) -> object:
    return group.map(lambda block: block.x[0])


def times(factor: float) -> Merge:
    return lambda group: group.map(lambda block: block.x[0] * factor)


# ---- rounding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_any_format_is_read_and_any_is_written(steps: Steps, stored: str, dtype: str) -> None:
    numbers = torch.tensor([0.1, -2.5, 0.0, 3.0, 65000.0], dtype=torch.float64).to(getattr(torch, stored))
    assert steps.run(numbers, merge=same, dtype=dtype).equal(numbers.to(getattr(torch, dtype)))


def test_results_are_rounded_once(steps: Steps) -> None:
    """1 + 2^-8 is the middle between two bfloat16 numbers; 2^-40 more decides, and is lost in float32."""
    numbers = torch.tensor([1 + 2**-8 + 2**-40, 1 + 2**-8], dtype=torch.float64)
    assert steps.run(numbers, merge=same, dtype="bfloat16").tolist() == [1 + 2**-7, 1]


def test_sums_of_narrow_numbers_are_not_rounded_on_the_way(steps: Steps) -> None:
    """1 + 1/256 + 1/256 is 1 + 1/128 in bfloat16 when rounded at the end, and 1 when at each step."""
    ones, little = torch.ones(5, dtype=torch.bfloat16), torch.full((5,), 2.0**-8, dtype=torch.bfloat16)
    merged = steps.run(ones, little, little, merge=lambda group: group.map(lambda block: block.x.sum(0)))
    assert merged.tolist() == [1 + 2**-7] * 5


def test_the_base_is_added_before_rounding(steps: Steps) -> None:
    base, model = torch.full((2,), 1.0), torch.full((2,), 1 + 2.0**-8)
    assert steps.run(model, base, merge=times(1.5), base=True, dtype="bfloat16").tolist() == [1 + 2**-7] * 2


def test_a_result_that_is_no_stretch_of_memory_is_written(steps: Steps) -> None:
    numbers = torch.arange(9.0).view(3, 3)
    assert steps.run(numbers, merge=lambda group: group.x[0].T).equal(numbers.T)
    assert steps.run(numbers, merge=lambda group: torch.ones(1).expand(3, 3)).equal(torch.ones(3, 3))


def test_a_scalar_is_merged(steps: Steps) -> None:
    assert steps.run(torch.tensor(3.0), merge=times(2)).item() == 6


# ---- numbers that cannot be written ------------------------------------------------------------------------


def test_a_number_too_large_for_the_output_is_an_error(steps: Steps) -> None:
    error = steps.refusal("E403", torch.tensor([1, 2, 3, 4, 7e4, 65504]), merge=same, dtype="float16")
    assert isinstance(error, MergeError)
    assert str(error) == (
        "tensor 'w': 1 value is too large for float16: up to 70000, the limit is 65504; the first at index 4."
        " Hint: choose out_dtype: bfloat16 or float32, or --allow-nonfinite"
    )


@pytest.mark.parametrize(
    ("dtype", "limit", "wider"),
    [("bfloat16", "3.38953e+38", "float32 or float64"), ("float32", "3.40282e+38", "float64")],
)
def test_the_limit_is_that_of_the_output(steps: Steps, dtype: str, limit: str, wider: str) -> None:
    error = steps.refusal("E403", torch.full((7,), 1e300, dtype=torch.float64), merge=same, dtype=dtype)
    assert "7 values are too large" in str(error)
    assert f"Hint: choose out_dtype: {wider}, or" in str(error)
    assert f"the limit is {limit}" in str(error)


def test_a_result_that_is_not_finite_is_an_error(steps: Steps) -> None:
    error = steps.refusal("E401", torch.tensor([1.0, 0, 1, 1, 0]), merge=times(INF), dtype="bfloat16")
    assert str(error) == (
        "tensor 'w': 5 values are not finite after 'test', the first at index 0. Hint: check the parameters of"
        " this tensor with `mergecore plan --tensor`, or use --allow-nonfinite"
    )


def test_what_is_too_large_and_what_is_not_finite_are_told_apart(steps: Steps) -> None:
    def merge(group: TensorGroup) -> object:
        return group.map(lambda block: torch.where(block.x[0] == 2, NAN, block.x[0]))

    error = steps.refusal("E403", torch.tensor([1, 2, 7e4, 1, 2, 9e4]), merge=merge, dtype="float16")
    assert isinstance(error, Problems)
    assert [one.code for one in error.errors] == ["E403", "E401"]
    assert "2 values are too large for float16: up to 90000" in str(error)
    assert "2 values are not finite after 'test', the first at index 1" in str(error)


def test_numbers_that_are_not_finite_may_be_allowed_and_are_counted(steps: Steps) -> None:
    merged = steps.run(torch.tensor([1.0, NAN, 7e4]), merge=same, dtype="float16", allow=True)
    assert str(merged.tolist()) == "[1.0, nan, inf]"
    assert steps.result
    assert [one.nonfinite for one in steps.result.outputs] == [2]


def test_bad_input_is_not_blamed_on_the_method(steps: Steps) -> None:
    def merge(group: TensorGroup) -> object:
        def work(block: Block) -> Tensor:
            if block.x.isnan().any():
                raise ValueError("cannot do it")
            return block.x[0]

        return group.map(work)

    error = steps.refusal("E234", torch.tensor([1.0, NAN]), merge=merge)
    assert "m/m0: tensor 'w': 1 value is not finite" in str(error)


def test_bad_input_is_told_before_the_result_is_judged(steps: Steps) -> None:
    error = steps.refusal("E234", torch.tensor([1.0, 2]), torch.tensor([INF, 2]), merge=same)
    assert "m/m1: tensor 'w': 1 value is not finite (NaN or Inf), the first at index 0" in str(error)


# ---- copies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers",
    [
        torch.arange(10),
        torch.tensor([True, False, True]),
        torch.tensor([255, 0], dtype=torch.uint8),
        torch.tensor([[2**31, 1]], dtype=torch.uint32),
        torch.tensor([1 + 2j]),
        torch.tensor(7),
        torch.empty(0, 3),
    ],
)
def test_what_is_equal_in_all_models_is_copied(steps: Steps, numbers: Tensor) -> None:
    assert steps.run(numbers, numbers, numbers).equal(numbers)


def test_integers_that_differ_are_refused(steps: Steps) -> None:
    other = torch.arange(10)
    other[9] = 0
    error = steps.refusal("E233", torch.arange(10), torch.arange(10), other)
    assert str(error) == (
        "tensor 'w' is I64, which is never averaged, and differs between m/m0 and m/m2."
        " Hint: make it equal in all models, or leave one out"
    )


def test_integers_of_another_format_differ(steps: Steps) -> None:
    steps.refusal("E233", torch.arange(3), torch.arange(3, dtype=torch.int32))


def test_a_copy_is_rounded_to_the_output_format(steps: Steps) -> None:
    numbers = torch.tensor([1.0, 1 + 2.0**-8, 3.0, 4.0, 5.0])
    assert steps.run(numbers, dtype="bfloat16").equal(numbers.bfloat16())


def test_a_copy_that_is_not_finite_is_bad_input(steps: Steps) -> None:
    error = steps.refusal("E234", torch.tensor([1.0, 2, 3, 4, 5, NAN]))
    assert "m/m0: tensor 'w': 1 value is not finite (NaN or Inf), the first at index 5" in str(error)
    assert steps.run(torch.tensor([1.0, INF]), allow=True).tolist() == [1, INF]


def test_a_copy_too_large_for_the_output_is_an_error(steps: Steps) -> None:
    assert "too large for float16" in str(steps.refusal("E403", torch.tensor([7e4]), dtype="float16"))


# ---- digests -----------------------------------------------------------------------------------------------


def digest(data: bytes, width: int) -> str:
    """The rule: over the digests of blocks of 4 elements."""
    return tensor_digest(block_digest(data[i : i + 4 * width]) for i in range(0, len(data), 4 * width))


@pytest.mark.parametrize("crew", [InOrder(), Backwards()])
@pytest.mark.parametrize("shape", [(10,), (4,), (5, 2), (2, 4), (3, 3), (2, 9), (1,), (), (0,)])
@pytest.mark.parametrize("kind", ["flat", "rows", "whole", "copy"])
def test_the_digest_is_that_of_the_written_blocks(
    steps: Steps, kind: str, shape: tuple[int, ...], crew: object
) -> None:
    """Blocks of rows of 2 or 4 fit those of 4 elements, those of 3 or 9 do not and are read back."""
    merges: dict[str, Merge | None] = {
        "flat": same,
        "rows": lambda group: group.map(lambda block: block.x[0], rows=True),
        "whole": lambda group: group.x[0],
        "copy": None,
    }
    numbers = torch.arange(float(torch.Size(shape).numel())).view(shape)
    assert steps.run(numbers, merge=merges[kind], dtype="bfloat16", crew=crew).equal(numbers.bfloat16())
    assert steps.result == StepResult("w", (Written("w", digest(steps.bytes, 2), 2 * numbers.numel(), 0),))


# ---- methods that fail -------------------------------------------------------------------------------------


def test_an_exception_of_a_method_names_method_plugin_and_tensor(steps: Steps) -> None:
    error = steps.refusal("E604", torch.ones(3), merge=lambda group: 1 // 0)
    assert "method 'test' of plugin '" in str(error)
    assert "dist 1.0" in str(error)
    assert "failed on tensor 'w': ZeroDivisionError: integer division or modulo by zero" in str(error)
    assert "report it to the authors of the plugin" in str(error)
    assert (error.tensor, error.plugin) == ("w", "test")
    assert isinstance(error.__cause__, ZeroDivisionError)


def test_a_wrong_result_names_them_too(steps: Steps) -> None:
    error = steps.refusal("E605", torch.ones(3), merge=lambda group: None)
    assert "failed on tensor 'w': it returned nothing, not a tensor or what `map` returns" in str(error)


def test_an_error_that_a_method_words_itself_is_told_as_it_is(steps: Steps) -> None:
    def merge(group: TensorGroup) -> object:
        raise MergeError("E404", "the inputs cancel", tensor=group.name)

    assert str(steps.refusal("E404", torch.ones(3), merge=merge)) == "the inputs cancel"


def test_a_file_that_is_gone_is_not_blamed_on_the_method(steps: Steps) -> None:
    def merge(group: TensorGroup) -> object:
        (steps.folder / "m0" / "model.safetensors").unlink()
        return same(group)

    assert "m/m0/model.safetensors: the file changed" in str(
        steps.refusal("E235", torch.ones(3), merge=merge)
    )
