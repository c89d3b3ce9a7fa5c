"""Models stored in several layouts: they merge with one another, and the base's layout is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import llama, llama_config, read_tensors, registry, write_checkpoint
from torch import Tensor

from mergecore import merge, plan
from mergecore.cli.show_plan import plan_as_json
from mergecore.engine.memory import Estimate
from mergecore.errors import MergecoreError, Problems
from mergecore.output.manifest import identity
from mergecore.plugins.registry import Registry
from mergecore.types import Architecture, Joined, Json, Plan, Segment

Tensors = Mapping[str, Tensor]

UNHEARD: dict[str, Json] = {"architectures": ["UnheardForCausalLM"], "model_type": "unheard"}
"""What transformers does not know, so that only names count."""


def mean(base: Path, other: Path) -> dict[str, Json]:
    models: list[Json] = [{"model": str(base)}, {"model": str(other)}]
    return {"merge_method": "linear", "models": models, "parameters": {"weight": 0.5}}


def merged(tmp_path: Path, base: Tensors, other: Tensors, config: Mapping[str, Json]) -> dict[str, Tensor]:
    """The mean of two checkpoints of one config, in the layout of the first."""
    one, two = (
        write_checkpoint(tmp_path / name, tensors, config) for name, tensors in (("a", base), ("b", other))
    )
    return read_tensors(merge(mean(one, two), tmp_path / "out", registry=registry()))


def middle(one: Tensors, two: Tensors) -> dict[str, Tensor]:
    return {name: (tensor + two[name]) / 2 for name, tensor in one.items()}


def assert_same(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].equal(tensor), name


# ---- one prefix --------------------------------------------------------------------------------------------


def stripped(tensors: Tensors) -> dict[str, Tensor]:
    """The tensors as a model without a head is saved: without prefix and head."""
    return {name.removeprefix("model."): one for name, one in tensors.items() if name.startswith("model.")}


@pytest.mark.parametrize("config", [llama_config(2), llama_config(2, **UNHEARD)])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_model_without_its_prefix_merges_with_one_that_has_it(
    tmp_path: Path, config: Mapping[str, Json], reverse: bool
) -> None:
    one = {name: tensor for name, tensor in llama(2, seed=1).items() if name != "lm_head.weight"}
    two = {name: tensor for name, tensor in llama(2, seed=2).items() if name != "lm_head.weight"}
    expected = middle(one, two)
    if reverse:
        assert_same(merged(tmp_path, stripped(one), two, config), stripped(expected))
    else:
        assert_same(merged(tmp_path, one, stripped(two), config), expected)


def test_a_prefix_that_is_not_before_all_names_is_another_model(tmp_path: Path) -> None:
    config = llama_config(1, **UNHEARD)
    one = llama(1)
    two = {**stripped(one), "lm_head.weight": one["lm_head.weight"], "strange": torch.ones(1)}
    a, b = write_checkpoint(tmp_path / "a", one, config), write_checkpoint(tmp_path / "b", two, config)
    with pytest.raises(Problems) as caught:
        plan(mean(a, b), registry=registry())
    assert [error.code for error in caught.value.errors] == ["E231", "E232"]


def test_the_plan_tells_of_the_layout(tmp_path: Path) -> None:
    config = llama_config(1)
    one = {name: tensor for name, tensor in llama(1).items() if name != "lm_head.weight"}
    a = write_checkpoint(tmp_path / "a", one, config)
    b = write_checkpoint(tmp_path / "b", stripped(one), config)
    made = plan(mean(a, b), registry=registry())
    assert made.models[1].mapped == "read with the keys of the base (names: 11 renamed)"
    assert made.models[0].mapped == ""
    assert sources(made, "model.norm.weight") == ["norm.weight", "model.norm.weight"][::-1]
    assert made.dropped == ()


def sources(made: Plan, name: str) -> list[str]:
    """The stored tensors that an output tensor is read from."""
    step = next(step for step in made.steps if step.name == name)
    return [one.name for given in step.inputs for one in given.tensor.stored]


def test_equal_names_ask_no_describer(tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a mapping was looked for")

    a = write_checkpoint(tmp_path / "a", llama(1), llama_config(1))
    b = write_checkpoint(tmp_path / "b", llama(1), llama_config(1))
    found = Registry.discover()
    for architecture in found.all(Architecture):
        object.__setattr__(architecture, "map_keys", fail)
    plan(mean(a, b), registry=found)


# ---- experts, and models that see --------------------------------------------------------------------------

MIXTRAL: dict[str, Json] = {
    **llama_config(1),
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
}


def mixtral(seed: int) -> dict[str, Tensor]:
    """A Mixtral of one layer as it is published: a tensor for each matrix of each expert."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: one for name, one in llama(1, seed=seed).items() if ".mlp." not in name}
    prefix = "model.layers.0.block_sparse_moe."
    tensors[f"{prefix}gate.weight"] = torch.randn(2, 4, generator=generator)
    for expert in range(2):
        for part, shape in (("w1", (6, 4)), ("w2", (4, 6)), ("w3", (6, 4))):
            tensors[f"{prefix}experts.{expert}.{part}.weight"] = torch.randn(shape, generator=generator)
    return tensors


def fused(tensors: Tensors) -> dict[str, Tensor]:
    """The same with all experts in one tensor, gate before up, as the model has it in memory."""
    prefix, new = "model.layers.0.block_sparse_moe.", "model.layers.0.mlp."
    made = {name: one for name, one in tensors.items() if not name.startswith(prefix)}
    made[f"{new}gate.weight"] = tensors[f"{prefix}gate.weight"]
    w1, w2, w3 = (
        [tensors[f"{prefix}experts.{i}.{part}.weight"] for i in range(2)] for part in ("w1", "w2", "w3")
    )
    made[f"{new}experts.gate_up_proj"] = torch.cat([torch.stack(w1), torch.stack(w3)], 1)
    made[f"{new}experts.down_proj"] = torch.stack(w2)
    return made


def test_experts_in_one_tensor_merge_with_experts_in_many(tmp_path: Path) -> None:
    one, two = mixtral(1), mixtral(2)
    assert_same(merged(tmp_path / "many", one, fused(two), MIXTRAL), middle(one, two))
    assert_same(merged(tmp_path / "one", fused(one), two, MIXTRAL), fused(middle(one, two)))


def test_the_plan_tells_which_part_of_which_tensor_is_read(tmp_path: Path) -> None:
    a = write_checkpoint(tmp_path / "a", mixtral(1), MIXTRAL)
    b = write_checkpoint(tmp_path / "b", fused(mixtral(2)), MIXTRAL)
    made = plan(mean(a, b), registry=registry())
    assert (
        made.models[1].mapped == "read with the keys of the base (transformers: 1 renamed, 6 joined or cut)"
    )
    name = "model.layers.0.block_sparse_moe.experts.1.w3.weight"
    assert told_sources(made, name)[1] == f"{b}: part of model.layers.0.mlp.experts.gate_up_proj F32"
    other = plan(mean(b, a), registry=registry())
    first = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
    assert told_sources(other, "model.layers.0.mlp.experts.gate_up_proj")[1] == f"{a}: {first} and 3 more F32"
    assert other.dropped == ()


def told_sources(made: Plan, name: str) -> list[str]:
    told = plan_as_json(made, Estimate(1, 0, 0), name)
    tensors = told["tensors"]
    assert isinstance(tensors, list)
    assert isinstance(tensors[0], dict)
    inputs = tensors[0]["inputs"]
    assert isinstance(inputs, list)
    return [str(one) for one in inputs]


def test_what_is_read_from_where_is_part_of_the_identity(tmp_path: Path) -> None:
    a = write_checkpoint(tmp_path / "a", mixtral(1), MIXTRAL)
    b = write_checkpoint(tmp_path / "b", fused(mixtral(2)), MIXTRAL)
    copy = write_checkpoint(tmp_path / "copy", mixtral(3), MIXTRAL)
    assert "made_of_sha256" not in identity(plan(mean(a, copy), registry=registry()))
    made = plan(mean(a, b), registry=registry())
    known = identity(made)["made_of_sha256"]
    step = next(one for one in made.steps if isinstance(one.inputs[1].tensor.data, Joined))
    data = step.inputs[1].tensor.data
    assert isinstance(data, Joined)
    [segment] = data.segments
    moved = replace(data, segments=(Segment(0, segment.data, segment.start + 1, segment.count),))
    tensor = replace(step.inputs[1].tensor, data=moved)
    other = replace(step, inputs=(step.inputs[0], replace(step.inputs[1], tensor=tensor)))
    changed = replace(made, steps=tuple(other if one is step else one for one in made.steps))
    assert identity(changed)["made_of_sha256"] != known


def test_experts_of_other_sizes_are_no_other_layout(tmp_path: Path) -> None:
    other = {
        name: one[..., :5] if name.endswith("down_proj") else one for name, one in fused(mixtral(2)).items()
    }
    a = write_checkpoint(tmp_path / "a", mixtral(1), MIXTRAL)
    b = write_checkpoint(tmp_path / "b", other, MIXTRAL)
    with pytest.raises(Problems) as caught:
        plan(mean(a, b), registry=registry())
    assert [error.code for error in caught.value.errors] == ["E231", "E232"]
    assert "block_sparse_moe.experts.0.w2.weight" in caught.value.errors[0].what


def in_words_of(tensors: Tensors, rename: Callable[[str], str]) -> dict[str, Tensor]:
    return {rename(name): one for name, one in tensors.items()}


def test_a_model_that_sees_merges_in_any_of_its_layouts(tmp_path: Path) -> None:
    """As published, and as transformers 4.5x saved it: with everything but the head under `model.`."""
    vision: dict[str, Json] = {"model_type": "clip_vision_model", "hidden_size": 4, "intermediate_size": 6}
    vision |= {"num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 4, "patch_size": 2}
    config: dict[str, Json] = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": llama_config(1),
        "vision_config": vision,
        "image_token_index": 7,
    }

    def published(seed: int) -> dict[str, Tensor]:
        text = in_words_of(llama(1, seed=seed), lambda name: f"language_model.{name}")
        projector = {
            f"multi_modal_projector.linear_{i}.weight": torch.full((4, 4), float(seed)) for i in (1, 2)
        }
        return {**text, **projector}

    def later(tensors: Tensors) -> dict[str, Tensor]:
        moved = in_words_of(
            tensors, lambda name: name.replace("language_model.model.", "model.language_model.")
        )
        moved = in_words_of(moved, lambda name: name.replace("language_model.lm_head", "lm_head"))
        return in_words_of(moved, lambda name: name.replace("multi_modal", "model.multi_modal"))

    one, two = published(1), published(2)
    expected = middle(one, two)
    assert_same(merged(tmp_path / "x", one, later(two), config), expected)
    assert_same(merged(tmp_path / "y", later(one), two, config), later(expected))


def test_a_describer_that_fails_with_a_layout_is_blamed(
    tmp_path: Path, write_plugin: Callable[..., Path]
) -> None:
    code = (
        "from mergecore import *\n"
        "def f(a, b): raise KeyError('x')\n"
        "@hookimpl\n"
        "def mergecore_architectures():\n"
        "    yield Architecture(name='v', describe=lambda one: None, map_keys=f, rank=1)\n"
    )
    write_plugin("p", code, {"v": "p"})
    config = llama_config(1, **UNHEARD)
    a = write_checkpoint(tmp_path / "a", llama(1), config)
    b = write_checkpoint(tmp_path / "b", stripped(llama(1)), config)
    with pytest.raises(
        MergecoreError, match=r"architecture 'v' of plugin 'p' \(p 1.0\) failed: KeyError: 'x'"
    ):
        plan(mean(a, b), registry=Registry.discover())
