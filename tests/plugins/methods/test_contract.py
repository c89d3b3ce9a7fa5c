"""What every installed merge method keeps; new ones are found by themselves.

Each method brings an example, which is a config that works: it gives the parameters for the checks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from examples import example_config, example_plan, example_step
from tiny import llama, read_tensors, registry

from mergecore import MergeMethod, execute
from mergecore.config.parameters.declared import describe_params
from mergecore.testing import check_method

METHODS: dict[str, MergeMethod[Any]] = {method.name: method for method in registry().all(MergeMethod)}
every_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@every_method
def test_a_method_keeps_its_contract_with_the_parameters_of_its_example(name: str, folder: Path) -> None:
    step = example_step(METHODS[name], registry(), folder)
    assert step.params is not None
    check_method(METHODS[name], step.params, len(step.inputs), without=("process",))


@every_method
def test_the_example_of_a_method_is_merged(name: str, folder: Path, tmp_path: Path) -> None:
    made = example_plan(METHODS[name], registry(), folder)
    assert {step.method for step in made.steps} == {name}
    assert made.warnings == ()
    tensors = read_tensors(execute(made, tmp_path / "out", registry=registry()))
    assert set(tensors) >= set(llama(1))
    assert all(bool(one.isfinite().all()) for one in tensors.values())
    assert {one.dtype for one in tensors.values()} == {torch.bfloat16}


@every_method
def test_a_method_says_what_it_does(name: str) -> None:
    method = METHODS[name]
    assert method.formula
    assert dedent(method.example).strip().startswith(f"merge_method: {name}\n")
    assert all(row.help for row in describe_params(method.params))
    assert method.merge.__doc__
    assert method.input_passes >= 1


@every_method
def test_the_name_of_a_method_is_that_of_its_function_and_its_module(name: str) -> None:
    method = METHODS[name]
    assert (method.merge.__module__.rpartition(".")[2], method.merge.__name__) == (name, name)


@pytest.mark.slow
def test_results_do_not_depend_on_the_instructions_of_the_processor(folder: Path) -> None:
    """Without vector units, and without a multiplication that adds before it rounds, the bytes are the same."""
    for method in METHODS.values():
        example_config(method, registry(), folder)
    script = Path(__file__).with_name("example_digests.py")
    found = []
    for capability in ("", "default"):
        environment = {
            **os.environ,
            "ATEN_CPU_CAPABILITY": capability,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        if not capability:
            del environment["ATEN_CPU_CAPABILITY"]
        run = subprocess.run(
            [sys.executable, script, folder], env=environment, capture_output=True, text=True, check=True
        )
        found.append(json.loads(run.stdout))
    assert {name for name in found[0] if found[0][name] != found[1][name]} == set()
