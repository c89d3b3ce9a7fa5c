"""Models to be evaluated: a folder, a config, a plan; what they are made of, and what they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import listing, read_config, read_tensors
from transformers import AutoModelForCausalLM

from mergecore import InputError, merge, plan
from mergecore.testing import tiny_model
from mergecore_plugins.evaluation.models import PlannedModel, opened


@pytest.fixture
def mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of the mean of two tiny models, `a` and `b`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        tiny_model(tmp_path / name, seed=seed)
    lines = "".join(f"  - {{model: ./{name}, parameters: {{weight: 0.5}}}}\n" for name in "ab")
    path = tmp_path / "mean.yml"
    path.write_text(f"merge_method: linear\nmodels:\n{lines}")
    return path


def weights(model: PlannedModel) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = model.module().state_dict()
    return found


def test_a_merge_in_memory_is_the_model_that_would_be_written(mean: Path) -> None:
    before = listing(mean.parent)
    made = weights(opened(mean))
    assert listing(mean.parent) == before
    written: Any = AutoModelForCausalLM.from_pretrained(merge(mean, mean.parent / "out"))
    assert made.keys() == written.state_dict().keys()
    for name, one in written.state_dict().items():
        assert torch.equal(made[name], one), name


def test_config_mapping_and_plan_are_one_model_of_other_names(mean: Path) -> None:
    as_plan = opened(plan(mean), name="mine")
    assert (opened(mean).name, as_plan.name) == (str(mean), "mine")
    assert opened(mean).identity == as_plan.identity
    assert [one.name for one in opened(mean).parents] == ["./a", "./b"]
    assert [one.name for one in opened("a").parents] == []


def test_the_identity_of_a_model_is_its_content(mean: Path) -> None:
    shutil.copytree("a", "same")
    assert opened("a").identity == opened("same").identity != opened("b").identity
    config = read_config(Path("same")) | {"rms_norm_eps": 0.5}
    Path("same/config.json").write_text(json.dumps(config))
    assert opened("a").identity != opened("same").identity


def test_the_identity_of_a_merge_changes_with_its_config_and_its_models(mean: Path) -> None:
    first = opened(mean).identity
    assert opened(mean).identity == first
    tiny_model(Path("b"), seed=7)
    second = opened(mean).identity
    mean.write_text(mean.read_text().replace("0.5", "0.25", 1))
    assert len({first, second, opened(mean).identity}) == 3


def test_a_module_is_made_once_until_it_is_released(mean: Path) -> None:
    model = opened(mean)
    module = model.module()
    assert model.module() is module
    assert not module.training
    model.release()
    assert model.module() is not module


def test_a_folder_is_the_model_itself_or_a_merge_that_is_written_for_the_time(mean: Path) -> None:
    assert opened("a").folder() == Path("a").resolve()
    model = opened(mean)
    folder = model.folder()
    assert folder == model.folder()
    assert {*read_tensors(folder)} == {*read_tensors(Path("a"))}
    assert read_config(folder)["architectures"] == ["LlamaForCausalLM"]
    del model
    assert not folder.exists()


def test_another_model_is_opened_in_the_same_place(mean: Path) -> None:
    assert opened("a").open("b").identity == opened("b").identity


def test_a_model_of_no_class_is_refused(mean: Path) -> None:
    Path("a/config.json").write_text(json.dumps(read_config(Path("a")) | {"architectures": ["Nothing"]}))
    with pytest.raises(InputError, match=r"a: transformers has no class for it: \['Nothing'\]") as caught:
        opened("a").module()
    assert caught.value.hint == "config.json names the class under 'architectures'"
    Path("a/config.json").write_text("{}")
    with pytest.raises(InputError, match=r"transformers cannot read its config\.json") as caught:
        opened("a").module()
    assert caught.value.hint == "add the config.json of the model"
