"""What Python callers may hand over, and what they are told while it runs."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import write_llama

import mergecore
from mergecore import MergeMethod, Params, Registry, TensorGroup
from mergecore.files import parse_documents
from mergecore.types import Blocks
from mergecore.types.events import Event, ModelSealed, PlanReady, StepDone


class NoParams(Params):
    """The methods of these tests have no parameters."""


def first(group: TensorGroup, params: NoParams) -> Blocks:
    return group.map(lambda block: block.x[0])


def second(group: TensorGroup, params: NoParams) -> Blocks:
    return group.map(lambda block: block.x[1])


def method(merge: Any, name: str = "pick") -> MergeMethod[Any]:
    return MergeMethod(name=name, merge=merge, params=NoParams)


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [write_llama(tmp_path / name, 2, seed=seed) for seed, name in enumerate("ab")]


@pytest.fixture
def config(models: list[Path]) -> dict[str, object]:
    parameters = {"weight": 0.5}
    return {"merge_method": "linear", "models": [{"model": one} for one in models], "parameters": parameters}


def digests(folder: Path) -> dict[str, bytes]:
    return {name: one.numpy().tobytes() for name, one in load_file(folder / "model.safetensors").items()}


def of_pick(config: dict[str, object]) -> dict[str, object]:
    return {"merge_method": "pick", "models": config["models"]}


def test_a_path_is_a_model_wherever_a_model_is_named(models: list[Path], tmp_path: Path) -> None:
    inputs = tuple({"model": one, "parameters": {"weight": np.float32(0.5)}} for one in models)
    config = {"merge_method": "task_arithmetic", "base_model": models[0], "models": inputs}

    out = mergecore.merge(config, tmp_path / "out")

    a, b, merged = (load_file(one / "model.safetensors") for one in (*models, out))
    for name, numbers in merged.items():
        assert torch.allclose(numbers, (a[name] + b[name]) / 2, atol=1e-6)


def test_the_same_config_as_mapping_and_as_file_gives_the_same_plan(
    config: dict[str, object], models: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "config.yml"
    text = f"merge_method: linear\nmodels:\n- model: {models[0]}\n- model: {models[1]}\nparameters: {{weight: 0.5}}\n"
    file.write_text(text)

    assert mergecore.plan(config).document == mergecore.plan(file).document


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"a", "b"}, r"set\. Hint: sets have no order; write a list"),
        (b"bytes", r"bytes\. Hint: write text, a number, a list or a dict"),
        (1j, "complex"),
        (object(), "object"),
    ],
)
def test_a_value_that_no_file_could_hold_is_an_error_that_names_its_keys(value: object, kind: str) -> None:
    config = {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": value}}]}

    with pytest.raises(mergecore.ConfigError, match=f"a config cannot hold a {kind}") as caught:
        mergecore.plan(config)

    assert caught.value.code == "E104"
    assert caught.value.place == "config.models[0].parameters.weight"


def test_a_key_that_is_not_text_is_an_error() -> None:
    with pytest.raises(mergecore.ConfigError, match="the key 3 is a int, not text"):
        mergecore.plan({"merge_method": "linear", 3: []})  # type: ignore[dict-item]


def test_progress_is_called_with_every_event_in_order(config: dict[str, object], tmp_path: Path) -> None:
    heard: list[Event] = []

    mergecore.merge(config, tmp_path / "out", progress=heard.append)

    steps = [one for one in heard if isinstance(one, StepDone)]
    assert isinstance(heard[0], PlanReady)
    assert isinstance(heard[-1], ModelSealed)
    assert [one.done for one in steps] == list(range(1, steps[0].total + 1))
    assert {one.name for one in steps} == set(load_file(tmp_path / "out" / "model.safetensors"))


def test_what_progress_raises_stops_the_run_which_can_be_resumed(
    config: dict[str, object], tmp_path: Path
) -> None:
    class StopError(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.done == 5:
            raise StopError

    with pytest.raises(StopError):
        mergecore.merge(config, tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists()

    heard: list[Event] = []
    options = mergecore.RunOptions(mode="resume")
    mergecore.merge(config, tmp_path / "out", run_options=options, progress=heard.append)

    done = [one.done for one in heard if isinstance(one, StepDone)]
    assert done[0] > 1
    straight = mergecore.merge(config, tmp_path / "straight")
    for name in ("model.safetensors", "config.json"):
        assert (straight / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_method_without_a_package_merges(config: dict[str, object], tmp_path: Path) -> None:
    registry = Registry.discover().with_methods(method(second))

    out = mergecore.merge(of_pick(config), tmp_path / "out", registry=registry)

    assert digests(out) == digests(tmp_path / "b")


def test_the_registry_that_a_method_is_added_to_stays_as_it_was() -> None:
    registry = Registry.discover()
    registry.with_methods(method(first))

    with pytest.raises(mergecore.ConfigError, match="'pick': no installed plugin provides it"):
        registry.get(MergeMethod, "pick")


def test_a_method_that_is_added_again_replaces_the_earlier_one_and_its_output(
    config: dict[str, object], tmp_path: Path
) -> None:
    registry = Registry.discover().with_methods(method(first))
    config = of_pick(config)
    mergecore.merge(config, tmp_path / "out", registry=registry)
    registry = registry.with_methods(method(second))

    with pytest.raises(mergecore.OutputError):
        mergecore.merge(config, tmp_path / "out", registry=registry)
    options = mergecore.RunOptions(overwrite=True)
    out = mergecore.merge(config, tmp_path / "out", registry=registry, run_options=options)

    assert digests(out) == digests(tmp_path / "b")


def test_a_method_with_the_name_of_an_installed_plugin_is_refused() -> None:
    with pytest.raises(
        mergecore.PluginError, match=r"'ties' .* is installed already\. Hint: give your method another"
    ) as caught:
        Registry.discover().with_methods(method(first, "ties"))

    assert caught.value.code == "E602"


def test_a_method_with_an_impossible_name_is_refused() -> None:
    registry = Registry.discover().with_methods(method(first, "two words"))

    assert [one.reason for one in registry.unusable()] == [
        "mergecore_merge_methods yields the name 'two words'; letters, digits, '_', '-' and '.' are expected"
    ]


@pytest.mark.parametrize("name", [name for name in mergecore.__all__ if name != "__version__"])
def test_no_signature_prints_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = getattr(mergecore, name)
    members = [value]
    if inspect.isclass(value):
        members += [getattr(value, key) for key in vars(value)]

    for member in members:
        if callable(member):
            try:
                text = str(inspect.signature(member))
            except ValueError:  # a built-in one has none
                continue
            assert "environ({" not in text
            assert "PATH" not in text


def test_a_document_with_other_values_keeps_the_places_of_its_text(models: list[Path]) -> None:
    text = f"models:\n- model: {models[0]}\n- model: {models[1]}\nmerge_method: linear\n"
    (document,) = parse_documents(text, "cfg.yml")
    with pytest.raises(mergecore.ConfigError, match=r"cfg\.yml:4:15: .*'linea'"):
        mergecore.plan(replace(document, data={**document.data, "merge_method": "linea"}))
    with pytest.raises(mergecore.ConfigError, match=r"config\[1\] is a int"):
        mergecore.plan([document, 3])  # type: ignore[list-item]
