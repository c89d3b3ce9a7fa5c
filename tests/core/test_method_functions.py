"""Merge methods as plain functions: the numbers of a merge on disk, and of an independent reference."""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import pydoc
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from fixture_types import WritePlugin
from method_stubs import STUB, stub
from odd_plugins import HEAD, method
from torch import Tensor

import mergecore
import mergecore.methods
from mergecore import MergecoreError, MergeMethod, PluginError, Registry
from mergecore.methods import dare_linear, linear, task_arithmetic, ties
from mergecore.pipeline.functions import attribute_of, for_module, function_of

A, B, BASE = torch.tensor([3.0, 5.0]), torch.tensor([-1.0, 5.0]), torch.tensor([2.0, 2.0])


def named(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(mergecore.methods, name)
    return function


def found_in(registry: Registry, name: str) -> Callable[..., Any]:
    return function_of(registry.get(MergeMethod, name), registry)


# ---- what goes in and comes out ----------------------------------------------------------------------------


def test_tensors_of_torch_give_one_and_arrays_of_numpy_give_one() -> None:
    """ties by hand: deltas 1 and -3, of which the second wins the vote."""
    found = ties([A, B], base=BASE, weight=1.0)
    assert isinstance(found, Tensor)
    assert found.tolist() == [-1.0, 5.0]
    array = ties([A.numpy(), B.numpy()], base=BASE.numpy(), weight=[1.0, 1.0])
    assert isinstance(array, np.ndarray)
    assert (array.tolist(), str(array.dtype)) == ([-1.0, 5.0], "float32")
    mixed = linear([A, B.numpy()], weight=1.0)  # type: ignore[type-var]
    assert isinstance(mixed, Tensor)
    assert mixed.tolist() == [1.0, 5.0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numpy_keeps_its_dtype(dtype: str) -> None:
    arrays = [np.array([[1, 2], [3, 4]], dtype=dtype), np.array([[3, 2], [1, 0]], dtype=dtype)]
    found = linear(arrays, weight=1)
    assert (found.dtype, found.tolist()) == (np.dtype(dtype), [[2, 2], [2, 2]])
    with pytest.raises(
        MergecoreError, match=r"numpy has no dtype 'bfloat16'. Hint: pass tensors of torch, such"
    ):
        linear(arrays, weight=1, dtype="bfloat16")
    assert linear(arrays, weight=1, dtype="float64").dtype == np.float64


def test_an_array_of_numpy_in_bfloat16_gives_one() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    arrays = [np.array([1, 3], dtype=ml_dtypes.bfloat16), np.array([3, 4], dtype=ml_dtypes.bfloat16)]
    found = linear(arrays, weight=1)
    assert (found.dtype, found.tolist()) == (arrays[0].dtype, [2, 3.5])


def test_state_dicts_and_modules_give_a_dict() -> None:
    found = task_arithmetic([{"x": A, "y": B}, {"x": B, "y": A}], base={"x": BASE, "y": BASE}, weight=[1, 2])
    assert {name: one.tolist() for name, one in found.items()} == {"x": [-3.0, 11.0], "y": [1.0, 11.0]}
    arrays = linear([{"x": A.numpy()}, {"x": B.numpy()}], weight=1)
    assert isinstance(arrays["x"], np.ndarray)
    modules = [torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)]
    merged = linear(modules, weight=[1, 3])
    assert {*merged} == {"weight", "bias"}
    exact = (modules[0].bias.double() + 3 * modules[1].bias.double()) / 4
    torch.testing.assert_close(merged["bias"], exact.float().detach(), rtol=1e-6, atol=1e-7)


def test_names_that_are_tied_stay_tied() -> None:
    tied = [{"a": one, "b": one} for one in (A, B)]
    found = linear(tied, weight=1)
    assert found["a"] is found["b"]


def test_random_numbers_depend_on_seed_and_name() -> None:
    ones, zeros = [torch.ones(400)], torch.zeros(400)
    made = [
        dare_linear(ones, base=zeros, weight=1, density=0.5, **more).numpy().tobytes()
        for more in ({}, {}, {"seed": 1}, {"name": "other"})
    ]
    assert made[0] == made[1]
    assert len(set(made)) == 3
    by_name = dare_linear([{"w": ones[0]}], base={"w": zeros}, weight=1, density=0.5)
    assert torch.equal(by_name["w"], dare_linear(ones, base=zeros, weight=1, density=0.5, name="w"))


def test_nothing_is_changed() -> None:
    given = [A.clone().requires_grad_(), B.clone().requires_grad_()]
    found = ties(given, base=BASE, weight=1.0)
    assert not found.requires_grad
    assert torch.equal(given[0], A)
    assert torch.equal(given[1], B)


# ---- signatures and help -----------------------------------------------------------------------------------


def test_a_function_has_the_signature_of_its_method() -> None:
    signature = inspect.signature(ties)
    assert list(signature.parameters) == [
        "models", "base", "weight", "normalize", "int8_mask", "density", "rescale", "scale", "scope",
        "dtype", "seed", "name", "run_options",
    ]  # fmt: skip
    assert signature.parameters["base"].default is inspect.Parameter.empty
    assert signature.parameters["scale"].default == 1.0
    assert "density: float | Sequence[float] = 1.0" in str(signature)
    assert "base" not in inspect.signature(linear).parameters
    assert inspect.signature(named("nuslerp")).parameters["base"].default is None


@pytest.mark.parametrize("name", dir(mergecore.methods))
def test_help_names_every_argument(name: str) -> None:
    function = named(name)
    text = pydoc.plain(pydoc.render_doc(function))
    assert f"{name}(models" in text
    for argument in inspect.signature(function).parameters:
        assert f"\n    {argument}: " in text
    assert max(map(len, text.splitlines()[3:])) <= 84
    assert (function.__name__, function.__module__) == (name, "mergecore.methods")


def test_the_module_lists_the_methods_and_nothing_else() -> None:
    names = dir(mergecore.methods)
    assert {"ties", "linear", "slerp"} <= {*names}
    assert names == [*cast("Any", mergecore.methods).__all__]
    space: dict[str, Any] = {}
    exec("from mergecore.methods import *", space)  # noqa: S102
    assert {*space} - {"__builtins__"} == {*names}
    assert "ties(models" in pydoc.plain(pydoc.render_doc(mergecore.methods))


def test_a_name_stands_for_one_function() -> None:
    assert mergecore.methods.ties is ties
    assert pickle.loads(pickle.dumps(ties)) is ties  # noqa: S301


def test_the_stub_for_type_checkers_is_that_of_the_methods() -> None:
    assert ast.dump(ast.parse(STUB.read_text(encoding="utf8"))) == ast.dump(ast.parse(stub())), (
        "run `python tests/method_stubs.py`"
    )


def test_type_checkers_know_arguments_and_results(tmp_path: Path) -> None:
    mypy = pytest.importorskip("mypy.api")
    (tmp_path / "use.py").write_text(
        "import numpy as np, torch\n"
        "from mergecore.methods import of_others, linear, ties\n"
        "a = torch.ones(3)\n"
        "reveal_type(ties([a, a], base=a, weight=[1.0, 2.0], density=0.5))\n"
        "reveal_type(ties([{'x': a}], base={'x': a}, weight=1))\n"
        "reveal_type(linear([torch.nn.Linear(1, 2)], weight=1))\n"
        "reveal_type(of_others([a], x=3))\n"
        "ties([a], base=a, wieght=1)\n"
    )
    out, _, code = mypy.run(["--cache-dir", str(tmp_path / "cache"), str(tmp_path / "use.py")])
    assert code == 1
    told = [line.partition("Revealed type is ")[2] for line in out.splitlines() if "Revealed" in line]
    tensor = "torch._tensor.Tensor"
    assert [line.strip('"').replace("builtins.", "") for line in told] == [
        tensor, f"dict[str, {tensor}]", f"dict[str, {tensor}]", tensor,
    ]  # fmt: skip
    assert 'Unexpected keyword argument "wieght"' in out


def test_importing_a_function_does_not_load_torch() -> None:
    code = "import sys\nfrom mergecore.methods import ties\nhelp(ties)\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "scale: number, called 'lambda' in configs." in done.stdout


# ---- faults ------------------------------------------------------------------------------------------------

TIES, LINEAR, SLERP = named("ties"), named("linear"), named("slerp")  # as type checkers do not see them


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: TIES([A, B], base=BASE, weight=1, densty=0.5),
            ["E109 ties has no parameter 'densty'; did you mean 'density'?"],
        ),
        (
            lambda: TIES([A, B], wieght=1),
            [
                "E110 ties needs a base. Hint: pass base=…",
                "E105 missing required parameter 'weight' of ties. Hint: pass weight=…",
                "E109 ties has no parameter 'wieght'; did you mean 'weight'?",
            ],
        ),
        (
            lambda: LINEAR([A, B], weight=1, base=BASE),
            ["E109 linear has no parameter 'base'. Hint: its parameters: weight, normalize"],
        ),
        (
            lambda: LINEAR([A, B], weight=1, density=0.5),  # in a config, what another method has is a warning
            ["E109 linear has no parameter 'density'. Hint: its parameters: weight, normalize"],
        ),
        (
            lambda: TIES([A, B], base=BASE, weight=[1]),
            [
                "E105 parameter 'weight' has 1 value for 2 models. Hint: the base has none, "
                "unless it is listed among the models"
            ],
        ),
        (
            lambda: TIES([A, B], base=BASE, weight=1, density=1.5),
            ["E105 parameter 'density' is 1.5; a number from 0 to 1 is expected"] ,
        ),
        (
            lambda: LINEAR({"x": A}, weight=1),
            [
                "E104 the models are a dict; a list of tensors or of state dicts is expected. "
                "Hint: `mergecore.merge_state_dicts` takes models by names"
            ],
        ),
        (lambda: LINEAR(5, weight=1), ["E104 the models are a int; a list of tensors or of state dicts is"]),
        (lambda: LINEAR([], weight=1), ["E104 no models were given to merge"]),
        (
            lambda: LINEAR([{"x": A}, B], weight=1),
            ["E104 model 'models[1]' is a Tensor; a state dict or a module is expected"],
        ),
        (
            lambda: LINEAR([A, [1.0, 2.0]], weight=1),
            ["E233 tensors[1]: tensor 'tensor' is a list, not a tensor. Hint: pass a plain tensor"],
        ),
        (
            lambda: LINEAR([A, torch.ones(3)], weight=1),
            ["E230 shapes differ for 'tensor': tensors[0] [2], tensors[1] [3]"],
        ),
        (
            lambda: SLERP([A, B], base=BASE, t=0.5),
            ["E105 slerp merges exactly 1 model beside base_model, not 2"],
        ),
    ],
)  # fmt: skip
def test_errors_are_those_of_the_command_line(call: Callable[[], object], told: Sequence[str]) -> None:
    with pytest.raises(MergecoreError) as caught:
        call()
    errors = getattr(caught.value, "errors", (caught.value,))
    said = [f"{one.code} {one}" for one in errors]
    assert len(said) >= len(told)
    for one, wanted in zip(said, told, strict=False):
        assert one.startswith(wanted), said


def test_a_second_list_is_an_argument_too_many() -> None:
    with pytest.raises(TypeError, match=r"ties\(\) takes 1 positional argument but 2 were given"):
        ties(A, B)  # type: ignore[call-overload]


def test_a_name_that_no_method_has_is_an_attribute_error() -> None:
    with pytest.raises(
        AttributeError, match=r"module 'mergecore\.methods' has no attribute 'tise'; did you mean 'ties'\?"
    ):
        _ = mergecore.methods.tise
    assert not hasattr(mergecore.methods, "_private")
    with pytest.raises(ImportError, match="cannot import name 'tise'"):
        from mergecore.methods import tise  # noqa: F401


# ---- methods of others -------------------------------------------------------------------------------------


def test_a_method_of_another_package_is_a_function(write_plugin: WritePlugin) -> None:
    write_plugin("mine", method("half-way"))
    code = """
from mergecore.methods import half_way
import torch
print(half_way([torch.ones(1), torch.zeros(1)], weight=1))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout == "tensor([0.5000])\n"


def test_all_names_can_be_imported_at_once(write_plugin: WritePlugin) -> None:
    write_plugin("odd", several("2way", "a.b", "a-b", "c-d", "c_d", "annotations"))
    code = """
from mergecore.methods import *
import mergecore.methods as methods, torch
print(_2way([torch.ones(1), torch.zeros(1)], weight=1).item(), c_d.__doc__ == annotations.__doc__)
shown = set(dir(methods))
print(sorted(shown & {"_2way", "a_b", "c_d", "annotations"}), type(methods.__all__))
for name in sorted(shown):
    assert getattr(methods, name).__name__ == name
    assert name.isidentifier()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.stderr == ""
    assert done.stdout == "0.5 True\n['_2way', 'annotations', 'c_d'] <class 'list'>\n"


def several(*names: str) -> str:
    """A plugin with methods of these names."""
    yields = "".join(f"    yield MergeMethod(name={name!r}, merge=mean, params=Weights)\n" for name in names)
    return f"{HEAD}\n@hookimpl\ndef mergecore_merge_methods():\n{yields}"


def test_what_stands_for_two_methods_is_none_of_them(write_plugin: WritePlugin) -> None:
    write_plugin("odd", several("a.b", "a-b"))
    get, _ = for_module("some.module")
    with pytest.raises(
        AttributeError, match=r"no attribute 'a_b'; a-b and a\.b are written so: getattr\(some"
    ):
        get("a_b")
    assert [get(name).__name__ for name in ("a-b", "a.b")] == ["a_b", "a_b"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute '__wrapped__'"):
        get("__wrapped__")


def test_of_two_packages_one_is_chosen_by_its_name(write_plugin: WritePlugin) -> None:
    write_plugin("z_evil", method("ties"), {"ties": "z_evil"})
    get, names = for_module("some.module")
    stranger: Any = get("ties@z_evil")
    assert stranger([A, B], weight=1).tolist() == [1.0, 5.0]
    assert stranger.__name__ == "ties_z_evil"
    assert "ties_z_evil" not in names()
    assert "base" in inspect.signature(get("ties")).parameters  # type: ignore[arg-type]


def test_a_method_whose_plugin_is_broken_says_so_when_it_is_imported(write_plugin: WritePlugin) -> None:
    write_plugin("brk", "raise ImportError('no cuda')")
    get, _ = for_module("some.module")
    with pytest.raises(PluginError, match=r"which cannot be used: ImportError: no cuda\. Hint: install"):
        get("brk")
    assert callable(get("ties"))


def test_parameters_that_an_argument_hides_end_in_an_underscore(write_plugin: WritePlugin) -> None:
    code = HEAD.replace(
        "weight: PerModel[float]", "seed: float\n    name: float = 1.0\n    base: float = 2.0"
    ).replace("block.x.mean(0)", "block.x.mean(0) * params.seed * params.name * params.base")
    hook = "@hookimpl\ndef mergecore_merge_methods():\n"
    value = "    yield MergeMethod(name='odd', merge=mean, params=Weights)\n"
    write_plugin("odd", f"{code}\n{hook}{value}")
    odd = found_in(Registry.discover((), {}), "odd")
    assert list(inspect.signature(odd).parameters)[:4] == ["models", "seed_", "name_", "base_"]
    assert odd([A, B], seed_=3.0, seed=7).tolist() == [6.0, 30.0]  # the mean [1, 5] times 3 · 1 · 2


@pytest.mark.parametrize(
    ("name", "attribute"), [("half-way", "half_way"), ("v1.5", "v1_5"), ("2x", "_2x"), ("lambda", "lambda_")]
)
def test_a_method_has_a_name_that_python_can_write(name: str, attribute: str) -> None:
    assert attribute_of(name) == attribute


def test_a_plugin_may_use_a_function_while_it_is_imported(write_plugin: WritePlugin) -> None:
    write_plugin(
        "mine", "from mergecore.methods import ties\nassert ties.__name__ == 'ties'\n" + method("mine")
    )
    code = "from mergecore.methods import mine\nimport torch\nprint(mine([torch.ones(1)], weight=1).item())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert (done.stdout, done.stderr) == ("1.0\n", "")


@pytest.mark.parametrize("both", [{"scale": 1.0, "lambda": 2.0}, {"lambda": [2.0], "scale": 2.0}])
def test_a_parameter_that_is_given_twice_is_refused(both: dict[str, Any]) -> None:
    said = (
        r"parameter 'lambda' is given twice, as (scale and lambda|lambda and scale)\. Hint: pass one of them"
    )
    with pytest.raises(MergecoreError, match=said):
        ties([A, B], base=BASE, weight=1.0, **both)
    with pytest.raises(MergecoreError, match=said):
        mergecore.merge_tensors("ties", [A, B], base=BASE, weight=1.0, **both)
    models = {"a": {"x": A}, "b": {"x": B}, "base": {"x": BASE}}
    with pytest.raises(MergecoreError, match=said):
        mergecore.merge_state_dicts("ties", models, base="base", weight=1.0, **both)
