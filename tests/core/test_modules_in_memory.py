"""Merging modules of torch that are in memory: what of them counts, and what the result loads into."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import llama_config
from torch import Tensor, nn

import mergecore
from mergecore import InputError, MergecoreError
from mergecore.methods import linear, task_arithmetic


class Net(nn.Module):
    """A module with all that a state dict may and may not have."""

    def __init__(self, tie: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 5, bias=False)
        if tie:
            self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.rand(4))
        self.register_buffer("ids", torch.arange(3))
        self.register_buffer("seen", torch.rand(1), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.embed(ids)) * self.scale)
        return logits


@pytest.fixture
def pair() -> tuple[Net, Net]:
    torch.manual_seed(0)
    return Net(), Net()


def test_parameters_and_buffers_are_merged_and_ties_kept(pair: tuple[Net, Net]) -> None:
    a, b = pair
    merged = linear([a, b], weight=[1, 3])
    assert merged.keys() == a.state_dict().keys()
    assert "seen" not in merged
    for name in ("embed.weight", "scale", "norm.running_mean"):
        exact = (a.state_dict()[name].double() + 3 * b.state_dict()[name].double()) / 4
        torch.testing.assert_close(merged[name].double(), exact, rtol=2e-7, atol=1e-7)
    assert merged["head.weight"] is merged["embed.weight"]
    assert merged["ids"].tolist() == [0, 1, 2]


def test_the_result_loads_into_a_copy_which_keeps_what_is_not_stored(pair: tuple[Net, Net]) -> None:
    a, b = pair
    made = copy.deepcopy(a)
    made.load_state_dict(linear([a, b], weight=1))
    assert made.head.weight is made.embed.weight
    assert torch.equal(made.get_buffer("seen"), a.get_buffer("seen"))
    middle = copy.deepcopy(a)
    with torch.no_grad():
        for one, other in zip(middle.parameters(), b.parameters(), strict=True):
            one.add_(other).div_(2)
        for name in ("scale", "norm.running_mean", "norm.running_var"):
            middle.get_buffer(name).add_(b.get_buffer(name)).div_(2)
    ids = torch.arange(5)
    torch.testing.assert_close(made.eval()(ids), middle.eval()(ids))


def test_counts_of_batches_are_those_of_the_first_module(pair: tuple[Net, Net]) -> None:
    a, b = pair
    a(torch.arange(5))
    assert linear([a, b], weight=1)["norm.num_batches_tracked"].item() == 1
    assert linear([b, a], weight=1)["norm.num_batches_tracked"].item() == 0


def test_a_tie_of_one_module_alone_is_none_of_the_result(pair: tuple[Net, Net]) -> None:
    merged = linear([pair[0], Net(tie=False)], weight=1)
    assert not torch.equal(merged["head.weight"], merged["embed.weight"])


def test_modules_of_transformers_are_merged_with_their_config() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_dict({**llama_config(2), "tie_word_embeddings": True})
    torch.manual_seed(0)
    base, *others = (LlamaForCausalLM(config) for _ in range(3))
    made = copy.deepcopy(base)
    made.load_state_dict(task_arithmetic(others, base=base, weight=[0.5, 0.25]))
    for name, one in base.named_parameters():
        first, second = (dict(other.named_parameters())[name].double() for other in others)
        exact = one.double() + 0.5 * (first - one) + 0.25 * (second - one)
        torch.testing.assert_close(made.get_parameter(name).double(), exact, rtol=1e-6, atol=1e-7)
    assert made.lm_head.weight is made.model.embed_tokens.weight
    assert made(torch.arange(8)[None]).logits.isfinite().all()


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))


CURE = "Hint: load the weights first, or merge the models in their folders by `mergecore.merge`"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            on_meta,
            "models[0]: tensor '0.weight' is on the device 'meta', without numbers; so are '0.bias', '1.weight', "
            f"'1.bias' and 2 more. {CURE}",
        ),
        (
            lambda: nn.LazyLinear(2),
            "models[0]: tensor 'weight' is of a lazy module that was never called, without numbers; so is 'bias'. "
            "Hint: call the module once first",
        ),
        (nn.ReLU, "model 'models[0]' contains no tensors"),
    ],
)
def test_a_module_without_numbers_is_refused(make: Callable[[], nn.Module], told: str) -> None:
    with pytest.raises(InputError) as caught:
        linear([make()], weight=1)
    assert str(caught.value) == told


def test_what_a_module_keeps_beside_tensors_is_refused() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> dict[str, Any]:
            return {"scale": 1.0}

    with pytest.raises(MergecoreError, match=r"a: tensor '_extra_state' is a dict, not a tensor"):
        mergecore.merge_state_dicts("linear", {"a": Extra(2, 2)}, weight=1)
