"""Registries of chosen plugins, and what pytest has of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from fixture_types import WritePlugin
from odd_plugins import method

from mergecore import ConfigError, MergeMethod, ModelSource, Params, Registry, hookimpl
from mergecore.testing import registry_of
from mergecore.types import Checkpoint


class Nothing(Params):
    pass


MEAN = MergeMethod(
    name="my_mean", merge=lambda group, params: group.map(lambda b: b.x.mean(0)), params=Nothing
)


def test_a_value_is_there_beside_the_built_in_ones() -> None:
    registry = registry_of(MEAN)
    assert registry.get(MergeMethod, "my_mean") is MEAN
    assert registry.get(MergeMethod, "linear").name == "linear"
    assert {one.distribution for one in registry.plugins()} == {"mergecore", "<session>"}


def test_without_the_built_in_ones_there_is_nothing_else() -> None:
    registry = registry_of(MEAN, builtins=False)
    assert [one.name for one in registry.plugins()] == ["my_mean"]


def test_a_chosen_plugin_takes_the_place_of_a_built_in_one_of_its_name() -> None:
    mine = MergeMethod(name="linear", merge=MEAN.merge, params=Nothing)
    assert registry_of(mine).get(MergeMethod, "linear") is mine


def test_a_module_is_a_plugin() -> None:
    module = ModuleType("my_plugin")
    module.mergecore_merge_methods = hookimpl(lambda: iter([MEAN]))  # type: ignore[attr-defined]
    assert registry_of(module, builtins=False).get(MergeMethod, "my_mean") is MEAN


def test_installed_plugins_are_named(write_plugin: WritePlugin) -> None:
    write_plugin("one", method("first"))
    write_plugin("two", method("second"))
    registry = registry_of("one", builtins=False)
    assert [one.name for one in registry.plugins()] == ["one"]
    assert registry.get(MergeMethod, "first").name == "first"
    with pytest.raises(ConfigError, match="registry_of: 'three' is not an installed plugin"):
        registry_of("three")


def test_other_things_are_refused() -> None:
    with pytest.raises(TypeError, match="int is neither a module, nor a name, nor what a hook yields"):
        registry_of(1)


# ---- pytest ------------------------------------------------------------------------------------------------


def accepts(reference: object, options: object) -> bool:
    return False


def opens(reference: object, options: object) -> Checkpoint:
    raise AssertionError("it accepts nothing")


NOWHERE = ModelSource(name="nowhere", accepts=accepts, open=opens)


@pytest.mark.mergecore_plugins(MEAN, NOWHERE, builtins=False)
def test_the_mark_limits_the_registry_of_a_test(mergecore_registry: Registry) -> None:
    assert sorted(one.name for one in mergecore_registry.plugins()) == ["my_mean", "nowhere"]


def test_without_the_mark_all_installed_plugins_are_there(mergecore_registry: Registry) -> None:
    assert mergecore_registry.get(MergeMethod, "ties").name == "ties"


def test_tiny_models_are_made_in_the_folder_of_the_test(
    tiny_models: Callable[..., list[Path]], tmp_path: Path
) -> None:
    made = [*tiny_models(2), *tiny_models(1, "bert", layers=1), *tiny_models(1)]
    assert [one.relative_to(tmp_path).as_posix() for one in made] == [
        "llama-0",
        "llama-1",
        "bert-0",
        "llama-2",
    ]
    weights = {(one / "model.safetensors").read_bytes() for one in made}
    assert len(weights) == 4


def test_pytest_loads_nothing_heavy_where_mergecore_is_installed_and_not_used(tmp_path: Path) -> None:
    heavy = ["torch", "numpy", "transformers", "pydantic", "click", "mergecore.plugins", "mergecore.types"]
    (tmp_path / "test_other.py").write_text(
        f"import sys\n\n\ndef test_nothing_is_loaded():\n    assert not set({heavy}) & set(sys.modules)\n"
        "    assert 'mergecore.testing.pytest_plugin' in sys.modules\n"
    )
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-I", "-m", "pytest", *options, "-p", "no:xdist", "-p", "no:hypothesispytest"]
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
