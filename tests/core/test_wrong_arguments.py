"""Whatever is handed to the functions of Python, what is wrong with it is an error of mergecore that says so."""

from __future__ import annotations

import inspect
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import llama, llama_config, write_checkpoint

import mergecore.methods
from mergecore import MergecoreError, PlanOptions, RunOptions

api: Any = mergecore  # the types of its functions forbid most of these calls
linear, ram, slerp = (getattr(mergecore.methods, name) for name in ("linear", "ram", "slerp"))
task_arithmetic: Any = mergecore.methods.task_arithmetic
options: Any = RunOptions
plan_options: Any = PlanOptions

A, B = torch.tensor([3.0, 5.0]), torch.tensor([-1.0, 5.0])
with warnings.catch_warnings(action="ignore"):
    NESTED = torch.nested.nested_tensor([A, B])
CONFIG = {"merge_method": "linear", "models": [{"model": "a"}, {"model": "b"}], "parameters": {"weight": 1}}

CASES: dict[str, tuple[Callable[[], object], str]] = {
    "a list for all models": (
        lambda: ram([A, B], base=A, epsilon=[1e-6, 100.0]),
        r"parameter 'epsilon' is one value for all models, and 2 were given. Hint: for a gradient over the layers of "
        r"models, pass {'value': \[first, ..., last\]}",
    ),
    "an array for all models": (
        lambda: slerp([A], base=B, t=np.array([0, 1])),
        "'t' is one value for all models, and 2",
    ),
    "a list of a state dict": (
        lambda: api.merge_state_dicts("slerp", {"a": {"x": A}, "b": {"x": B}}, base="a", t=[0, 1]),
        "'t' is one value for all models",
    ),
    "a gradient for one tensor": (
        lambda: linear([A, B], weight=[[0, 1], [1, 0]]),
        "parameter 'weight' has a list of values for a model, and a single tensor has no layers. Hint: give one value",
    ),
    "such an array": (
        lambda: api.merge_tensors("linear", [A, B], weight=np.eye(2)),
        "tensor has no layers",
    ),
    "options": (
        lambda: linear([A, B], weight=1, run_options=3),
        "a int was given where mergecore.RunOptions is exp",
    ),
    "options of a plan": (
        lambda: api.plan(CONFIG, options=options()),
        "a RunOptions was given where mergec",
    ),
    "a field": (
        lambda: api.merge(CONFIG, "out", run_options=options(max_memory="2GB")),
        r"RunOptions\(max_memory='2GB'\): it should be a valid integer",
    ),
    "a bound": (
        lambda: linear([A, B], weight=1, run_options=options(threads=0)),
        r"RunOptions\(threads=0\): it should be 1 or more",
    ),
    "a word": (
        lambda: api.plan(CONFIG, options=plan_options(missing="ignore")),
        r"PlanOptions\(missing='ignore'\): it should be 'error', 'base', 'skip' or 'drop'",
    ),
    "progress": (
        lambda: api.merge(CONFIG, "out", progress=3),
        "progress is a int; a function that takes an event is expected",
    ),
    "a registry": (lambda: api.plan(CONFIG, registry="x"), "a str was given where mergecore.Registry"),
    "a folder": (lambda: api.merge(CONFIG, 3), "out is a int; a path is expected"),
    "a manifest": (lambda: api.verify_folder(3), "the folder is a int; a path is expected"),
    "a config": (
        lambda: api.plan(3),
        "the config is a int; a mapping, a list of mappings or a path is",
    ),
    "a plan": (lambda: api.run(CONFIG), "the plan is a dict; what mergecore.plan returns is expected"),
    "a model": (
        lambda: api.open_model(3).__enter__(),
        "the model is a int; a path or the name of one is expected",
    ),
    "a dtype": (
        lambda: linear([A, B], weight=1, dtype=3),
        "dtype is a int; the name of one is expected, or one of torch or numpy. Hint: such as dtype='bfloat16'",
    ),
    "a method": (
        lambda: api.merge_tensors(3, [A]),
        "the method is a int; a name or a MergeMethod is expected",
    ),
    "a name": (lambda: linear([A, B], weight=1, name=3), "name is 3; text is expected"),
    "no name": (lambda: linear([A, B], weight=1, name=""), "name is ''; text is expected"),
    "one number": (
        lambda: linear(A[0], weight=1),
        "the models are a Tensor; a list of tensors or of state dicts",
    ),
    "nested tensors": (
        lambda: linear([NESTED], weight=1),
        "tensor 'tensor' is nested, not plain numbers",
    ),
    "a parameter without numbers": (
        lambda: linear([A, B], weight=torch.zeros(2, device="meta")),
        "parameter 'weight' is a tensor that is on the device 'meta', without numbers. Hint: pass numbers",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said(case: str) -> None:
    call, told = CASES[case]
    with pytest.raises(MergecoreError, match=told):
        call()


def test_the_dtype_may_be_one_of_numpy() -> None:
    assert linear([A, B], weight=1, dtype=np.float16).dtype is torch.float16
    assert linear([A.numpy(), B.numpy()], weight=1, dtype=np.dtype("float64")).dtype == np.float64
    assert api.merge_tensors("linear", [A, B], weight=1, dtype=np.float16).dtype is torch.float16


def test_a_gradient_over_layers_is_written_as_one() -> None:
    """Of three layers, the second is half of the way from 0 to 1."""
    models = [
        {f"model.layers.{i}.mlp.up_proj.weight": one.clone().view(1, 2) for i in range(3)} for one in (A, B)
    ]
    found = task_arithmetic(models, base=models[0], weight=[0, 1], scale={"value": [0, 1]})
    rows = [found[f"model.layers.{i}.mlp.up_proj.weight"].tolist()[0] for i in range(3)]
    assert rows == [[3, 5], [1, 5], [-1, 5]]


def test_a_folder_may_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        write_checkpoint(Path(name), llama(2, seed=seed), llama_config(2))
    api.merge(CONFIG, "out")
    assert api.verify_folder("out").tensors == api.verify_folder(Path("out")).tensors
    assert api.read_manifest("out").tensors


# ---- at random ---------------------------------------------------------------------------------------------

ODD: list[Any] = [
    *(None, 3, -1, 1.5, float("nan"), "x", "", b"x", True, [], [1], [[1]], {}, {"a": 1}, {1: 2}, (), {1}),
    *(object(), int, range(3), 1j, 10**400, Path("x"), slice(1), Exception("x"), ..., iter([1]), lambda: 1),
    *(
        np.float16,
        np.float32(1),
        np.zeros(3),
        np.array(["a"]),
        np.array([object()]),
        np.longdouble(1),
        np.int64(5),
    ),
    *(torch.float16, torch.tensor(1.0), A, torch.zeros(2, 3), torch.device("cpu"), torch.nn.Linear(2, 2)),
    *(torch.zeros(2).to_sparse(), torch.zeros(2, device="meta"), torch.zeros(2, dtype=torch.complex64)),
    *([A], {"x": A}, {"x": None}, {"x": {"y": A}}, {3: A}, "float16", "cuda", "\0", "\ud800"),
    *(np.zeros(2, "M8[s]"), np.zeros(2, [("a", "f4")]), NESTED),
]


@pytest.mark.parametrize("seed", range(4))
def test_no_other_error_leaves_a_call_with_random_arguments(seed: int) -> None:
    draw = random.Random(seed)
    names = [one for one in dir(mergecore.methods) if not one.startswith("_")]
    refused = 0
    for _ in range(60):
        function = getattr(mergecore.methods, draw.choice(names))
        words = [*inspect.signature(function).parameters][1:]
        given = {word: draw.choice(ODD) for word in words if draw.random() < 0.3}
        given |= {"base": A} if "base" in words and draw.random() < 0.7 else {}
        models = draw.choice([[A, B], [A, B], [draw.choice(ODD)], [draw.choice(ODD), A], draw.choice(ODD)])
        try:
            function(models, **given)
        except MergecoreError:
            refused += 1
    assert refused > 20
