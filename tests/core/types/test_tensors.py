"""Tensors by where their numbers come from: a file, memory, segments of others."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mergecore.compute.scratch import Scratch
from mergecore.engine.weights import Fault, InputReader, WeightFiles
from mergecore.errors import InputError
from mergecore.types import (
    Computed,
    InMemory,
    Joined,
    Origin,
    Reader,
    Segment,
    Stored,
    TensorData,
    TensorInfo,
)

Array = Tensor | npt.NDArray[np.generic]


def reader(faults: dict[Origin, Fault] | None = None) -> InputReader:
    return InputReader(WeightFiles([]), Scratch(torch.device("cpu")), faults)


def loaded(data: TensorData, start: int, stop: int, dtype: torch.dtype = torch.float32) -> Tensor:
    into = torch.full((stop - start,), 99).to(dtype)
    data.load(reader(), start, stop, into)
    return into


# ---- in memory ---------------------------------------------------------------------------------------------

ARRAYS: dict[str, Array] = {
    "torch": torch.arange(24.0).view(2, 3, 4),
    "transposed": torch.arange(24.0).view(4, 3, 2).permute(2, 1, 0),
    "strided": torch.arange(48.0).view(2, 3, 8)[:, :, ::2],
    "bfloat16": torch.arange(24.0).view(2, 3, 4).bfloat16(),
    "gradient": torch.arange(24.0).view(2, 3, 4).requires_grad_(),
    "numpy": np.arange(24.0).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4)),
    "big-endian": np.arange(24, dtype=">f4").reshape(2, 3, 4),
    "integers": np.arange(24, dtype=np.int64).reshape(2, 3, 4),
    "backwards": np.arange(24.0)[::-1].reshape(2, 3, 4),
}


LINES = {
    "strided": torch.arange(12.0)[::2],
    "one number for all": torch.ones(1).expand(5),
    "halves": torch.arange(12.0).bfloat16()[1::3],
    "negated when it is read": torch.view_as_complex(torch.arange(8.0).view(4, 2)).conj().imag,
}


@pytest.mark.parametrize("name", sorted(LINES))
def test_a_tensor_of_one_axis_may_lie_in_memory_as_it_likes(name: str) -> None:
    line = LINES[name]
    plain = torch.tensor(line.tolist(), dtype=line.dtype)
    assert InMemory("w", line).identity == InMemory("w", plain).identity
    assert loaded(InMemory("w", line), 1, len(line)).tolist() == plain[1:].tolist()


@pytest.mark.parametrize("name", sorted(ARRAYS))
@given(ends=st.tuples(st.integers(0, 24), st.integers(0, 24)))
def test_any_stretch_of_an_array_is_loaded_in_the_order_of_its_elements(
    name: str, ends: tuple[int, int]
) -> None:
    array = ARRAYS[name]
    data = InMemory("w", array)
    assert data.shape == (2, 3, 4)
    wanted = np.asarray(
        array.detach().float() if isinstance(array, Tensor) else array, dtype=np.float32
    ).ravel()
    start, stop = sorted(ends)
    assert loaded(data, start, stop).tolist() == wanted[start:stop].tolist()


def test_an_array_that_is_read_only_is_loaded_without_a_warning() -> None:
    array = np.arange(6.0)
    array.setflags(write=False)
    assert loaded(InMemory("w", array), 1, 3).tolist() == [1.0, 2.0]
    assert loaded(InMemory("w", np.array(7.0)), 0, 1).tolist() == [7.0]
    assert loaded(InMemory("w", torch.tensor(7.0)), 0, 1).tolist() == [7.0]


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (torch.zeros(1, dtype=torch.bfloat16), "BF16"),
        (np.zeros(1, dtype=np.float16), "F16"),
        (np.zeros(1, dtype=">f8"), "F64"),
        (np.zeros(1, dtype=np.bool_), "BOOL"),
        (torch.zeros(1, dtype=torch.float8_e4m3fn), "F8_E4M3"),
        (np.zeros(1, dtype=np.uint16), "U16"),
    ],
)
def test_the_format_of_an_array_is_named_as_in_a_header(array: Tensor, dtype: str) -> None:
    assert InMemory("w", array).dtype == dtype


def test_an_array_of_anything_else_is_refused() -> None:
    with pytest.raises(InputError, match="tensor 'w': unknown dtype 'complex128'") as caught:
        _ = InMemory("w", np.zeros(1, dtype=np.complex128)).dtype
    assert caught.value.code == "E205"


def test_the_identity_of_an_array_is_that_of_its_numbers() -> None:
    one = InMemory("w", torch.arange(24.0).view(2, 3, 4))
    same = InMemory("w", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    assert one.identity == same.identity
    others = [
        torch.arange(24.0),
        torch.arange(24.0).view(2, 3, 4).double(),
        torch.arange(1.0, 25).view(2, 3, 4),
    ]
    assert len({one.identity, *(InMemory("w", other).identity for other in others)}) == 4


def test_what_is_not_finite_in_an_array_is_noted_by_its_place() -> None:
    data = InMemory("w", torch.tensor([[0.0, 1.0], [torch.inf, torch.nan]]))
    faults: dict[Origin, Fault] = {}
    data.load(reader(faults), 1, 4, torch.empty(3))
    assert [(one.name, fault.count, fault.first) for one, fault in faults.items()] == [("w", 2, 2)]


def test_an_array_is_not_written_to() -> None:
    array = torch.arange(4.0)
    into = torch.empty(4)
    InMemory("w", array).load(reader(), 0, 4, into)
    into += 1
    assert array.tolist() == [0, 1, 2, 3]


# ---- segments ----------------------------------------------------------------------------------------------


@given(
    cuts=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(1, 10)), min_size=1, max_size=6
    ),
    ends=st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
def test_segments_are_joined_from_any_place_to_any_other(
    cuts: list[tuple[int, int, int]], ends: tuple[int, int]
) -> None:
    parts = [InMemory("a", torch.arange(20.0)), InMemory("b", torch.arange(100.0, 120))]
    segments: list[Segment] = []
    wanted: list[int] = []
    for which, start, count in cuts:
        segments.append(Segment(len(wanted), parts[which], start, count))
        wanted += [100 * which + start + i for i in range(count)]
    data = Joined("F32", (len(wanted),), tuple(segments))
    start, stop = sorted(min(one, len(wanted)) for one in ends)
    assert loaded(data, start, stop).tolist() == wanted[start:stop]
    assert {read.tensor.name for read in data.reads} == {"ab"[which] for which, _, _ in cuts}


def test_which_segments_are_joined_is_their_identity() -> None:
    a, b = (Stored(name, "F32", (6,), Path("f"), 0) for name in "ab")
    made = [Joined("F32", (2,), (Segment(0, one, start, 2),)) for one in (a, b) for start in (0, 1)]
    assert len({one.identity for one in made}) == 4
    assert pickle.loads(pickle.dumps(made[1])) == made[1]  # noqa: S301


def test_a_stored_tensor_under_its_own_name_needs_no_identity() -> None:
    stored = Stored("a", "F32", (6,), Path("f"), 0)
    assert TensorInfo("a", stored).identity == ()
    assert TensorInfo("b", stored).identity == ("", "a")


# ---- computed ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Shifted(Computed):
    by: Tensor
    often: int = 1

    def load(self, reader: Reader, start: int, stop: int, into: Tensor) -> None:
        self.parts[0].load(reader, start, stop, into)
        into += self.often * self.by[start:stop]


def test_the_identity_of_what_is_computed_has_its_parts_and_every_number_of_its_fields() -> None:
    a, b = (Stored(name, "F32", (5000,), Path("f"), 0) for name in "ab")
    by = torch.zeros(5000)
    other = by.clone()
    other[2500] = 1.0  # `repr` leaves it out
    made = [Shifted((a,), by), Shifted((b,), by), Shifted((a,), other), Shifted((a,), by, 2)]
    assert len({one.identity for one in made}) == 4
    assert Shifted((a,), by.clone()).identity == made[0].identity


def test_what_is_computed_of_what_is_computed() -> None:
    one = Shifted((InMemory("a", torch.arange(6.0)),), torch.full((6,), 10.0))
    assert loaded(Shifted((one,), torch.arange(6.0) * 100), 2, 5).tolist() == [212.0, 313.0, 414.0]


# ---- memory ------------------------------------------------------------------------------------------------


def test_memory_that_is_lent_is_lent_once_at_a_time() -> None:
    lender = reader()
    with lender.room((2, 3), torch.float32) as one:
        with lender.room((6,), torch.bfloat16) as two:
            one.fill_(1)
            two.fill_(2)
            assert one.tolist() == [[1.0] * 3] * 2
            kept = two.data_ptr()
        with lender.unchecked.room((1,), torch.float64) as again:
            assert again.data_ptr() == kept
    with pytest.raises(KeyError), lender.room((1,), torch.float32):
        raise KeyError
    with lender.room((0, 5), torch.float32) as none:
        assert none.shape == (0, 5)
