"""Whatever is wrong with a file of methods is said of the file: when it is loaded, or with its line while it runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from fixture_types import Cli
from tiny import llama, llama_config, write_checkpoint
from written_methods import HEAD, write

from mergecore import ConfigError, PluginError, Registry
from mergecore.testing import run_method
from mergecore_contrib.method_files import VARIABLE, methods_of

NAMED = "@merge_method(name='one')\n"
KERNEL = """
from mergekit.merge_methods import *
@merge_method(name="one")
{}def one(group: TensorGroup, {}) -> torch.Tensor:
    return group.tensors[0]
"""
CLASS = """
from mergekit.merge_methods import *
class One(GroupMergeMethod):
    spec = MergeMethodSpec("one", (ParameterSpec("k", float, ParameterScope.SHARED, {}),))
    def merge_group(self, group, /{}):
        return group.tensors[0]
from mergekit.merge_methods.registry import register
register(One())
"""
MECHA = "from sd_mecha import Parameter, Return, StateDict, merge_method\nfrom torch import Tensor\n@merge_method\n"


def function(parameters: str, before: str = "", body: str = "return tensors[0]") -> str:
    return f"{NAMED}{before}def one(tensors: List[torch.Tensor]{parameters}) -> torch.Tensor:\n    {body}\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            function(", k: float = 'abc'"),
            "4: TypeError: the default of parameter 'k' is 'abc'; a number is expected",
        ),
        (
            function(", k: int = 1.5"),
            "parameter 'k' is 1.5; it should be a valid integer, got a number with a frac",
        ),
        (function(", k: int = 'x'"), "parameter 'k' is 'x'; a whole number is expected"),
        (function(", k: bool = 'x'"), "parameter 'k' is 'x'; True or False is expected"),
        (function(", k: str = 1"), "parameter 'k' is 1; text is expected"),
        (function(", k: List[float] = [1.0, 2.0]"), r"is \[1.0, 2.0\]; a number for all models is expected"),
        (function(", k: Literal['a', 'b'] = 'c'"), "parameter 'k' is 'c'; it should be 'a' or 'b'"),
        (
            "from pydantic import Field\n" + function(", k: Annotated[float, Field(ge=0)] = -1"),
            "parameter 'k' is -1; it should be greater than or equal to 0",
        ),
        (
            function(", k: torch.device = None"),
            "'k' has the type device, which no config can hold; use float, int",
        ),
        (
            function(", k: float = 1, /"),
            "'one' cannot be called: the arguments before '/' are given by name: tens",
        ),
        (
            function(", /, *, k: float = 1"),
            "'one' cannot be called: the arguments before '/' .*: tensors. Hint",
        ),
        (function("", "async "), "'one' is async; a function that returns a tensor is expected"),
        (function("", body="yield tensors[0]"), "'one' yields; a function that returns a tensor is expected"),
        (
            function("").replace("tensors:", "models:"),
            "'one' has no argument 'tensors', which are those of the models",
        ),
        (function("").replace("name='one'", ""), r"a merge method needs a name: @merge_method\(name=\"…\"\)"),
        (function("").replace("'one'", "3"), "a merge method needs a name"),
        (
            function("").replace("'one'", "'one two@3'"),
            "the name 'one two@3' is not one of letters, digits, '_', '-'",
        ),
        (function("") * 2, "own.py:7: TypeError: two merge methods are called 'one'"),
        (KERNEL.format("", "k: float = 'x'"), "parameter 'k' is 'x'; a number is expected"),
        (KERNEL.format("", "k: float = 1, /"), "arguments before '/' are given by name: k"),
        (KERNEL.format("async ", "k: float = 1"), "'one' is async"),
        (CLASS.format("1.0", ""), "'merge_group' cannot be called: got an unexpected keyword argument 'k'"),
        (CLASS.format("'x'", ", *, k"), "parameter 'k' is 'x'; a number is expected"),
        (MECHA + "async def one(a: Parameter(Tensor)): return a\n", "'one' is async"),
        (
            MECHA + "def one(a: Parameter(Tensor), k: Parameter(float) = 1, /): return a\n",
            "are given by name: k",
        ),
        (
            MECHA + "def one(a: Parameter(Tensor), k: Parameter(float) = 'x'): return a\n",
            "'k' is 'x'; a number is exp",
        ),
        ("def one(:\n", "own.py:4: SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(3)\n", "own.py:5: SystemExit: 3"),
    ],
)
def test_what_would_fail_in_the_middle_of_a_merge_is_refused_before(
    text: str, what: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        methods_of(write(tmp_path, text))
    assert caught.value.what.startswith(f"{tmp_path / 'own.py'}:")
    assert caught.value.hint == "correct the file"


def test_a_parameter_whose_default_is_none_may_be_none(tmp_path: Path) -> None:
    [one] = methods_of(write(tmp_path, function(", k: float = None", body="return tensors[0] * (k or 2)")))
    assert run_method(one, one.params(), [torch.ones(2)]).tolist() == [2, 2]
    assert run_method(one, one.params(k=3), [torch.ones(2)]).tolist() == [3, 3]


def test_the_name_may_stand_first_in_the_decorator(tmp_path: Path) -> None:
    [one] = methods_of(write(tmp_path, function("").replace("name=", "")))
    assert one.name == "one"


# ---- while it runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "what"),
    [
        (
            "return tensors[0] @ torch.zeros(7, 7)",
            "E604",
            "own.py:6: 'one' failed on tensor 'tensor': RuntimeError",
        ),
        (
            "assert False, 'too\\nsmall'",
            "E604",
            "own.py:6: 'one' failed on tensor 'tensor': AssertionError: too small",
        ),
        (
            "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})",
            "E604",
            "own.py:6: 'one' failed on tensor 'tensor': Odd:",
        ),
        ("exit(3)", "E604", "own.py:6: 'one' failed on tensor 'tensor': SystemExit: 3"),
        ("pass", "E605", r"own.py: 'one' failed .*: it returned nothing; a tensor of \[2, 3\] is expected"),
        ("return 1.5", "E605", "it returned float; a tensor of"),
        ("return tuple(tensors)", "E605", "it returned tuple; a tensor of"),
        ("return tensors[0].sum()", "E605", r"it returned \[\]; a tensor of \[2, 3\] is expected"),
        ("return tensors[0] * 1j", "E605", r"it returned \[2, 3\] of complex64; a tensor of"),
        ("return tensors[0].to_sparse()", "E605", r"it returned \[2, 3\] of sparse_coo; a tensor of"),
        ("return tensors[0].to('meta')", "E605", "it returned numbers without values; a tensor of"),
    ],
)
def test_a_fault_of_a_function_is_that_of_its_line(body: str, code: str, what: str, tmp_path: Path) -> None:
    [one] = methods_of(write(tmp_path, function("", body=body)))
    with pytest.raises(PluginError, match=what) as caught:
        run_method(one, one.params(), [torch.ones(2, 3)])
    assert (caught.value.code, caught.value.hint, caught.value.tensor) == (code, "correct the file", "tensor")


def test_a_result_that_needs_a_gradient_counts_by_its_numbers(tmp_path: Path) -> None:
    [one] = methods_of(write(tmp_path, function("", body="return tensors[0].requires_grad_() * 2")))
    assert run_method(one, one.params(), [torch.ones(2)]).tolist() == [2, 2]


@pytest.fixture
def merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        write_checkpoint(Path(name), llama(2, seed=seed), llama_config(2))
    Path("cfg.yml").write_text("merge_method: one\nmodels: [{model: ./a}, {model: ./b}]\n")
    monkeypatch.setenv(VARIABLE, "own.py")
    return tmp_path


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_merge_blames_the_file_and_not_mergecore(merge: Path, cli: Cli, executor: str) -> None:
    write(merge, function("", body="return tensors[0] @ torch.zeros(7, 7)"))
    failed = cli("merge", "cfg.yml", "out", "--executor", executor)
    assert failed.code == 7
    assert f"error E604: {merge / 'own.py'}:6: 'one' failed on tensor 'model." in failed.err
    assert "built-in" not in failed.err
    assert failed.err.rstrip().endswith("Hint: correct the file")


def test_a_merge_says_why_the_file_has_no_such_method(merge: Path, cli: Cli) -> None:
    write(merge, "import nowhere\n")
    failed = cli("merge", "cfg.yml", "out")
    assert (
        "error E606: cfg.yml:1:15: merge method 'one': no installed plugin provides it. Hint: " in failed.err
    )
    assert (
        f"method_files (broken: {VARIABLE}: {merge / 'own.py'}:4: ModuleNotFoundError: No module"
        in failed.err
    )


def test_two_files_with_one_name_are_named(merge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x.py", "y.py"):
        Path(name).write_text(HEAD + function(""))
    monkeypatch.setenv(VARIABLE, os.pathsep.join(("x.py", "y.py")))
    (broken,) = [one for one in Registry.discover().unusable() if one.name == "method_files"]
    assert broken.reason == f"{VARIABLE}: 'x.py' and 'y.py' both define a merge method 'one'"
    assert broken.cure == "give one of them another name, or name one file only"


def test_a_name_of_a_built_in_plugin_that_is_no_method_is_free(tmp_path: Path) -> None:
    [one] = methods_of(write(tmp_path, function("").replace("'one'", "'threads'")))
    assert one.name == "threads"
