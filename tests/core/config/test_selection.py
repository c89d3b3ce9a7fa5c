"""Merging a part of a model: selected tensors, and models that are a part of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from tiny import llama, llama_config, read_tensors, registry, write_checkpoint, write_llama
from torch import Tensor

from mergecore import merge, plan
from mergecore.types import Json, Plan
from mergecore.types.execution import RunOptions

Config = dict[str, Any]


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder with the models a, all ones, and b, all threes."""
    monkeypatch.chdir(tmp_path)
    write_llama(Path("a"), 2, 1.0)
    write_llama(Path("b"), 2, 3.0)


def mean(*models: str | Config, **extra: Any) -> Config:
    """The mean of models; of a and b it is 2 everywhere."""
    entries = [{"model": one} if isinstance(one, str) else one for one in models or ("a", "b")]
    return {"merge_method": "linear", "models": entries, "parameters": {"weight": 1}, **extra}


def values(config: Config) -> dict[str, set[float]]:
    """The numbers in each tensor of the merged model."""
    merge(config, "out", registry=registry())
    return {name: set(one.flatten().tolist()) for name, one in read_tensors(Path("out")).items()}


def merged(config: Config) -> set[str]:
    """The tensors that are 2; all others are those of the first model."""
    found = values(config)
    assert {name for name, numbers in found.items() if numbers != {2.0}} == {
        name for name, numbers in found.items() if numbers == {1.0}
    }
    return {name for name, numbers in found.items() if numbers == {2.0}}


def planned(config: Config) -> Plan:
    return plan(config, registry=registry())


EVERYTHING = set(llama(2, 0.0))


# ---- include and exclude -----------------------------------------------------------------------------------


def test_without_selectors_everything_is_merged() -> None:
    assert merged(mean()) == EVERYTHING


def test_only_what_is_included_is_merged() -> None:
    assert merged(mean(include="q_proj")) == {f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)}


def test_what_is_excluded_is_not_merged() -> None:
    both = {"lm_head.weight", "model.embed_tokens.weight"}
    assert merged(mean(exclude=["lm_head", "role:embed"])) == EVERYTHING - both


def test_selectors_are_filters() -> None:
    config = mean(include=["role:mlp", "re:layers\\.1.*_proj"], exclude="glob:*down*")
    parts = ("mlp.gate", "mlp.up", "self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o")
    wanted = {f"model.layers.1.{part}_proj.weight" for part in parts}
    assert merged(config) == wanted | {f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up")}
    assert merged_again(mean(include="*", exclude="norm")) == {one for one in EVERYTHING if "norm" not in one}


def merged_again(config: Config) -> set[str]:
    """Like `merged`, into the same folder."""
    merge(config, "out", registry=registry(), run_options=RunOptions(overwrite=True))
    tensors = read_tensors(Path("out"))
    return {name for name, one in tensors.items() if set(one.flatten().tolist()) == {2.0}}


def test_the_rest_is_copied_as_it_is_stored() -> None:
    """Not even the dtype of the output changes it."""
    made = planned(mean(include="norm", dtype="bfloat16"))
    formats = {step.name: (step.outputs[0].dtype, step.method, step.note) for step in made.steps}
    assert formats["model.norm.weight"] == ("BF16", "linear", "")
    assert formats["lm_head.weight"] == ("F32", None, "not selected")


def test_tensors_that_are_not_selected_need_no_partner() -> None:
    tensors = {name: one for name, one in llama(2, 3.0).items() if "lm_head" not in name}
    write_checkpoint(Path("c"), {**tensors, "extra": torch.ones(1)}, llama_config(2))
    assert len(refused(mean("a", "c"))) == 2
    assert merged(mean("a", "c", exclude=["lm_head", "extra"])) == EVERYTHING - {"lm_head.weight"}


def test_a_tensor_that_is_not_selected_and_not_in_the_first_model_is_dropped() -> None:
    write_checkpoint(Path("c"), {**llama(2, 3.0), "extra": torch.ones(1)}, llama_config(2))
    made = planned(mean("a", "c", exclude="extra"))
    assert [(made.models[one.model].name, one.names) for one in made.dropped] == [("c", ("extra",))]
    assert {step.name for step in made.steps} == EVERYTHING


def test_the_base_gives_the_rest_of_a_merge_of_differences() -> None:
    config: Config = {**mean("b"), "merge_method": "task_arithmetic", "base_model": "a", "include": "mlp"}
    found = values(config)
    assert {name for name, numbers in found.items() if numbers == {3.0}} == {
        n for n in EVERYTHING if "mlp" in n
    }
    assert {name for name, numbers in found.items() if numbers == {1.0}} == {
        n for n in EVERYTHING if "mlp" not in n
    }


def test_layers_that_are_not_selected_are_those_of_the_first_source() -> None:
    sources = [{"model": name, "layer_range": [1, 2]} for name in ("a", "b")]
    config = {**mean(), "slices": [{"sources": sources}], "exclude": "q_proj"}
    del config["models"]
    found = values(config)
    assert found["model.layers.0.self_attn.q_proj.weight"] == {1.0}
    assert found["model.layers.0.self_attn.k_proj.weight"] == {2.0}


def test_every_selector_that_matches_nothing_is_refused() -> None:
    assert refused(mean(include=["norm", "qroj"], exclude="role:mpl")) == [
        "E105 the selector 'qroj' matches no tensor",
        "E105 the selector 'role:mpl' matches no tensor; the roles here are attn, embed, head, mlp, norm",
    ]


def test_selectors_that_leave_nothing_to_merge_are_refused() -> None:
    wanted = "E105 include and exclude select no tensor. Hint: they exclude all that they include"
    assert refused(mean(exclude="*")) == [wanted]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("include", 3, "E104 a filter must be a string, got 3; put it in quotes"),
        ("include", ["norm", {"a": 1}], "E104 a filter must be a string, got {'a': 1}; put it in quotes"),
        ("exclude", "re:(", "E105 the filter 're:(': not a regular expression"),
    ],
)
def test_what_is_no_selector_is_refused(key: str, value: Json, told: str) -> None:
    (found,) = refused(mean(**{key: value}))
    assert found.startswith(told)


# ---- models that are a part --------------------------------------------------------------------------------


def seeing(value: float) -> dict[str, Tensor]:
    """A model that sees: a Llama under `language_model.`, and a projector."""
    text = {f"language_model.{name}": one for name, one in llama(2, value).items()}
    return {**text, "multi_modal_projector.linear_1.weight": torch.full((4, 4), value)}


def write_seeing(name: str, value: float) -> None:
    config: Mapping[str, Json] = {"model_type": "unheard", "text_config": llama_config(2)}
    write_checkpoint(Path(name), seeing(value), config)


def test_a_language_model_is_merged_into_one_that_sees() -> None:
    write_seeing("v", 1.0)
    entry = {"model": "b", "from": "", "into": "language_model."}
    config = mean("v", entry, base_model="v", dtype="float16")
    assert merged(config) == {f"language_model.{name}" for name in EVERYTHING}
    made = planned(config)
    step = next(one for one in made.steps if one.name.startswith("multi"))
    assert (step.outputs[0].dtype, step.note) == ("F32", "no other model has this part")
    assert made.models[1].mapped == "'' read as 'language_model.': 21 renamed"
    assert made.dropped == ()


def test_the_dot_at_the_end_of_a_prefix_may_be_left_out() -> None:
    write_seeing("v", 1.0)
    assert merged(mean("v", {"model": "b", "into": "language_model"})) == {
        f"language_model.{name}" for name in EVERYTHING
    }


def test_models_of_two_families_are_refused_with_what_there_is_for_parts() -> None:
    write_seeing("v", 1.0)
    (found,) = refused(mean("v", "b"))
    assert "or say with 'from' and 'into' which part of the others it matches" in found


def test_a_part_of_the_names_is_moved() -> None:
    """The published layout of some models: only what was under `model.` is moved, the head stays."""
    moved = {name.replace("model.", "model.text."): one for name, one in llama(2, 1.0).items()}
    write_checkpoint(Path("v"), {**moved, "visual.weight": torch.ones(2)}, {"model_type": "unheard"})
    assert merged(mean("v", {"model": "b", "from": "model.", "into": "model.text."})) == set(moved)


def test_a_part_needs_no_other_to_be_there_while_whole_models_do() -> None:
    write_seeing("v", 1.0)
    write_checkpoint(Path("w"), {**seeing(3.0), "more": torch.ones(1)}, {"model_type": "unheard"})
    entry = {"model": "b", "into": "language_model."}
    (found,) = refused(mean("w", "v", entry))
    assert found.startswith("E231 1 tensor missing in v: 'more'")


def test_what_a_part_has_too_many_is_told() -> None:
    write_seeing("v", 1.0)
    write_checkpoint(Path("c"), {**llama(2), "more": torch.ones(1)}, llama_config(2))
    (found,) = refused(mean("v", {"model": "c", "into": "language_model."}))
    assert found.startswith("E232 1 tensor unexpected in c: 'language_model.more'")


def test_a_place_that_the_whole_does_not_have_is_refused() -> None:
    write_seeing("v", 1.0)
    (found,) = refused(mean("v", {"model": "b", "into": "langage_model"}))
    assert found.startswith("E105 no tensor of v begins with 'langage_model.'; they begin with ")


def test_a_prefix_that_no_tensor_has_is_refused() -> None:
    (found,) = refused(mean("a", {"model": "b", "from": "modle.", "into": "x."}))
    assert found == "E105 no tensor of b begins with 'modle.'; they begin with lm_head., model."


def test_a_name_that_is_taken_is_refused() -> None:
    tensors = {"x.norm.weight": torch.ones(2), "model.norm.weight": torch.ones(2)}
    write_checkpoint(Path("c"), tensors, {"model_type": "unheard"})
    (found,) = refused(mean("a", {"model": "c", "from": "model.", "into": "x."}))
    assert (
        found == "E105 c has a tensor 'x.norm.weight' already; 'model.norm.weight' cannot be renamed to that"
    )


def test_a_misspelt_key_of_an_entry_is_told() -> None:
    (found,) = refused(mean("a", {"model": "b", "form": "x"}))
    assert found == "E103 unknown key 'form' in a model entry; did you mean 'from'?"
