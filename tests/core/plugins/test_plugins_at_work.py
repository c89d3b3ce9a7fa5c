"""What a merge says when a plugin fails at its work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fixture_types import Cli, WritePlugin
from odd_plugins import HEAD, discover, method, reporter

from mergecore import MergeMethod
from mergecore.types.events import Display, Warned

# ---- at work -----------------------------------------------------------------------------------------------


def test_a_reporter_that_raises_is_named_once_and_then_left_alone(
    write_plugin: WritePlugin, config_for: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("loud", reporter("raise ValueError('too loud')"))
    outcome = cli("merge", config_for("linear"), "out")
    assert outcome.code == 0
    told = "reporter 'loud' (loud 1.0) failed and is silenced: ValueError: too loud"
    assert outcome.err.count(told) == 1
    assert json.loads(Path("out/mergecore-manifest.json").read_text())["warnings"] == [told]


def test_a_reporter_cannot_end_the_program(write_plugin: WritePlugin) -> None:
    write_plugin("quits", reporter("raise SystemExit(0)"))
    registry, event = discover(), Warned(Display("none"), "careful")
    assert registry.report(event) == ["reporter 'quits' (quits 1.0) failed and is silenced: SystemExit: 0"]
    assert registry.report(event) == []


RAISING = f"""{HEAD}
def bad(group, params):
    {{body}}

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="boom", merge=bad, params=Weights)
"""


FAULTS = {
    "raises": ("raise ValueError('boom')", "E604", "ValueError: boom"),
    "exits": ("raise SystemExit(0)", "E604", "SystemExit: 0"),
    "returns nothing": ("pass", "E605", "it returned nothing, not a tensor"),
    "returns another shape": (
        "import torch; return torch.ones(1)",
        "E605",
        r"\[1\] of float32 for a tensor of \[\d",
    ),
    "returns blocks of another shape": (
        "return group.map(lambda block: block.x)",
        "E605",
        r"\[2, \d\] of float32",
    ),
    "returns whole numbers": ("return group.map(lambda block: block.x[0].int())", "E605", "int32"),
}


@pytest.mark.parametrize(("body", "code", "told"), FAULTS.values(), ids=FAULTS)
def test_a_method_that_breaks_its_contract_is_blamed_with_its_plugin_and_the_tensor(
    body: str, code: str, told: str, write_plugin: WritePlugin, config_for: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("p", RAISING.format(body=body), {"boom": "p"})
    outcome = cli("merge", config_for("boom"), "out", "-j", "2")
    assert outcome.code == 7
    [line] = [line for line in outcome.err.splitlines() if "error" in line]
    assert line.startswith(f"mergecore: error {code}: method 'boom' of plugin 'p' (p 1.0)")
    assert re.search(told, line)
    assert re.search(r"tensor '[a-z0-9_.]+.weight'", line)
    assert not Path("out").exists()


CALLED = {
    "model source": "def f(*a): raise KeyError('x')\n@hookimpl\ndef mergecore_model_sources():\n"
    "    yield ModelSource(name='v', accepts=f, open=f, rank=1)\n",
    "architecture": "def f(*a): raise KeyError('x')\n@hookimpl\ndef mergecore_architectures():\n"
    "    yield Architecture(name='v', describe=f, rank=1)\n",
    "recipe": "def f(*a): raise KeyError('x')\n@hookimpl\ndef mergecore_recipes():\n"
    "    yield Recipe(name='v', accepts=f, compile=f)\n",
    "merge method": method("v").replace("params=", "check_params=f, params=")
    + "def f(*a): raise KeyError('x')\n",
}


@pytest.mark.parametrize(("kind", "code"), CALLED.items(), ids=CALLED)
def test_whatever_a_plugin_raises_while_planning_is_blamed_on_it(
    kind: str, code: str, write_plugin: WritePlugin, config_for: Callable[[str], Path], cli: Cli
) -> None:
    write_plugin("p", "from mergecore import *\n" + code, {"v": "p"})
    config = config_for("v" if kind == "merge method" else "linear")
    if kind == "recipe":  # which merge configs do not reach
        config.write_text("soup: [./a]\n")
    outcome = cli("plan", config)
    assert outcome.code == 7
    told = f"{kind} 'v' of plugin 'p' (p 1.0) failed: KeyError: 'x'"
    assert f"{told}. Hint: --debug shows where; report it to the authors of the plugin" in outcome.err
    assert outcome.err.startswith("mergecore: error E604: ")


def test_a_bug_of_a_built_in_plugin_keeps_its_traceback() -> None:
    registry = discover()
    with pytest.raises(KeyError), registry.calling(MergeMethod, "linear"):
        raise KeyError("x")
