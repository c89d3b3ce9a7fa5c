"""The gate modes that other tools have: their formulas, and what mergekit 0.1.5 makes of the same prompts.

`mergekit_gates.json` holds what its `get_gate_params` gives for the model of `tiny_gates`, once with prompts of several
lengths and once with prompts of one length; its model was loaded in float32 where it says nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_gates
import torch
import transformers
from gate_passes import layers_of, planned
from torch import Tensor

from mergecore_plugins.moe.gating.prompts import Cut, common_beginnings

MERGEKIT: dict[str, Any] = json.loads(
    (Path(__file__).parent / "mergekit_gates.json").read_text(encoding="utf8")
)
SEVERAL: list[Any] = tiny_gates.PROMPTS["experts"]
ONE_LENGTH: list[Any] = [
    {"positive_prompts": ["the cat sat on", "a dog ran home"]},
    {"positive_prompts": ["if x is y"], "negative_prompts": ["def x then z"]},
]


def rows(base: Path, mode: str, experts: Sequence[Any], **keys: Any) -> Tensor:
    """(layers, experts, width)."""
    made = layers_of(base, gate_mode=mode, experts=experts, **keys)
    return torch.stack([one.rows for one in made])


@pytest.mark.parametrize(
    ("mode", "case", "tolerance"),
    [
        ("hidden", "hidden, several lengths", 1e-6),
        ("hidden", "hidden, one length", 1e-6),
        ("hidden_last", "hidden, several lengths", 1e-6),
        ("hidden_avg", "hidden_avg, one length", 1e-6),
        ("cheap_embed", "cheap_embed, several lengths", 0),
        ("cheap_embed", "cheap_embed, one length", 0),
        ("hidden", "hidden, several lengths, bfloat16", 0.03),  # as mergekit runs it
    ],
)
def test_gates_are_those_of_mergekit(mode: str, case: str, tolerance: float, base: Path) -> None:
    experts = ONE_LENGTH if "one length" in case else SEVERAL
    theirs = torch.tensor(MERGEKIT[case])
    assert float((rows(base, mode, experts) - theirs).abs().max()) <= tolerance


def test_the_mean_of_a_prompt_is_that_of_its_tokens_and_not_of_the_padding(base: Path) -> None:
    """mergekit adds up what a model makes of the padding, too, and divides by the longest prompt."""
    model = transformers.LlamaForCausalLM.from_pretrained(base, dtype=torch.float64)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)

    def mean(prompts: Sequence[str], layer: int) -> Tensor:
        states = []
        for prompt in prompts:
            ids = torch.tensor([tokenizer(f"<s> {prompt}", add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                made: Any = model(input_ids=ids, output_hidden_states=True)
            states.append(made.hidden_states[layer][0].mean(dim=0))
        return torch.stack(states).mean(dim=0)

    mine, theirs = rows(base, "hidden_avg", SEVERAL), torch.tensor(MERGEKIT["hidden_avg, several lengths"])
    for layer in range(2):
        first = mean(SEVERAL[0]["positive_prompts"], layer)
        second = mean(SEVERAL[1]["positive_prompts"], layer) - mean(SEVERAL[1]["negative_prompts"], layer)
        wanted = torch.stack([one / one.norm() for one in (first, second)]).float()
        assert torch.allclose(mine[layer], wanted, atol=1e-6)
        assert float((theirs[layer] - wanted).abs().max()) > 0.01


def test_hidden_is_the_state_of_the_last_token_that_enters_the_layer(base: Path) -> None:
    [layer, _] = layers_of(base, gate_mode="hidden", experts=SEVERAL)
    embeddings = transformers.LlamaForCausalLM.from_pretrained(base).model.embed_tokens.weight
    mat, home = (embeddings[tiny_gates.WORDS.index(word)] for word in ("mat", "home"))
    wanted = (mat + home) / 2  # what enters layer 0 are the embeddings
    assert torch.allclose(layer.rows[0], (wanted / wanted.norm()).detach(), atol=1e-6)


def test_what_the_rows_have_in_common_can_be_taken_away(base: Path) -> None:
    for mode in ("hidden", "hidden_avg", "cheap_embed"):
        plain, made = rows(base, mode, SEVERAL), rows(base, mode, SEVERAL, gate_center=True)
        common = plain - plain.mean(dim=1, keepdim=True)
        assert torch.allclose(made, common / common.norm(dim=2, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("mode", ["hidden", "hidden_avg", "cheap_embed", "router_input"])
@pytest.mark.parametrize("share", [0.6, 0.95])
def test_the_first_choice_gets_the_share_that_is_asked_for(mode: str, share: float, base: Path) -> None:
    """The mean of the largest softmax over the tokens of positive prompts, by an ordinary forward pass."""
    found = rows(base, mode, SEVERAL, top1_share=share)
    model = transformers.LlamaForCausalLM.from_pretrained(base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    for layer, gate in enumerate(found):
        tokens: list[Tensor] = []
        norm = model.model.layers[layer].post_attention_layernorm
        hook = norm.register_forward_hook(_taking(tokens))
        for prompt in [one for expert in SEVERAL for one in expert["positive_prompts"]]:
            with torch.no_grad():
                model(input_ids=torch.tensor([tokenizer(f"<s> {prompt}")["input_ids"]]))
        hook.remove()
        shares = (
            (torch.cat(tokens) @ gate.T).softmax(dim=1).amax(dim=1)
        )  # without the token that begins texts
        assert float(shares.mean()) == pytest.approx(share, abs=1e-4)


def test_what_prompts_of_several_experts_begin_with_is_known() -> None:
    """Up to there a model makes the same of both, and another thing is wanted of each."""
    prompts = [
        Cut(0, False, (0, 7, 8, 1)),
        Cut(0, False, (0, 7, 8, 2)),  # three with the one above, which is of the same expert
        Cut(1, False, (0, 7, 9)),
        Cut(1, True, (0, 7, 9, 4)),  # what its expert is not for
        Cut(2, False, (0, 7)),  # a last token is never left out
        Cut(2, False, (5,)),
    ]
    assert common_beginnings(prompts) == [2, 2, 2, 3, 1, 0]
    assert common_beginnings(prompts[:2]) == [0, 0]


def test_tokens_that_say_nothing_go_to_no_expert_alone(base: Path) -> None:
    """What begins every text gets about the same from all, though others go to one with nine tenths."""
    experts = [
        {"positive_prompts": ["the cat sat", "the dog ran"]},
        {"positive_prompts": ["x is y", "def x"]},
    ]
    found = rows(base, "router_input", experts, top1_share=0.9)
    model = transformers.LlamaForCausalLM.from_pretrained(base)
    for layer, gate in enumerate(found):
        tokens: list[Tensor] = []
        norm = model.model.layers[layer].post_attention_layernorm
        hook = norm.register_forward_hook(lambda module, given, made, kept=tokens: kept.append(made[0]))
        with torch.no_grad():
            model(input_ids=torch.tensor([[0]]))
        hook.remove()
        assert float((tokens[0] @ gate.T).softmax(dim=1).amax()) < 0.65


def test_shares_do_not_change_what_a_row_points_to(base: Path) -> None:
    plain, scaled = rows(base, "hidden", SEVERAL), rows(base, "hidden", SEVERAL, top1_share=0.7)
    for before, after in zip(plain, scaled, strict=True):
        factors = after.norm(dim=1) / before.norm(dim=1)
        assert torch.allclose(factors[0], factors[1])
        assert torch.allclose(after / factors[:, None], before, atol=1e-6)


def test_the_chat_template_is_used_on_request(base: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(base, tmp_path / "chat")
    template = (
        "{{ bos_token }} the {{ messages[0]['content'] }} {% if add_generation_prompt %}then{% endif %}"
    )
    tiny_gates.write_tokenizer(tmp_path / "chat", template=template)
    chat = rows(
        tmp_path / "chat",
        "hidden",
        [{"positive_prompts": ["cat sat"]}, {"positive_prompts": ["x"]}],
        chat_prompts=True,
    )
    plain = rows(
        base, "hidden", [{"positive_prompts": ["the cat sat then"]}, {"positive_prompts": ["the x then"]}]
    )
    assert torch.equal(chat, plain)


def test_a_shared_expert_gets_a_row_of_its_own_behind_the_others(base: Path) -> None:
    [alone, *_] = layers_of(base, gate_mode="hidden", experts=[*SEVERAL, ONE_LENGTH[0]])
    [both, *_] = layers_of(base, gate_mode="hidden", experts=SEVERAL, shared_experts=[ONE_LENGTH[0]])
    assert torch.equal(alone.rows, both.rows)
    assert alone.condition != both.condition  # that of the routed ones


def test_rows_that_are_much_alike_have_a_large_condition_number(base: Path) -> None:
    """By numpy; what enters layers without a prompt's own words is nearly the same."""
    import numpy as np

    for one in layers_of(base, gate_mode="hidden_avg", experts=SEVERAL):
        assert one.condition == pytest.approx(np.linalg.cond(one.rows.double().numpy()), rel=1e-5)


def test_the_plan_says_what_is_read_and_the_manifest_can_tell_prompts_apart(base: Path) -> None:
    _, made = planned(base, {"gate_mode": "hidden", "experts": SEVERAL})
    _, other = planned(base, {"gate_mode": "hidden", "experts": ONE_LENGTH})
    assert made.step.note == "hidden: from 6 prompts, 31 tokens"
    assert made.step.inputs == ()
    assert made.step.matrices[0].tensor.identity != other.step.matrices[0].tensor.identity
    assert {one.tensor.name for one in made.step.matrices[1:]} >= {"model.norm.weight"}
    assert not made.warnings


def _taking(tokens: list[Tensor]) -> Callable[[Any, Any, Tensor], None]:
    """A hook that keeps what a module makes of all tokens but the first."""
    return lambda module, given, made: tokens.append(made[0, 1:])


def _numbers(make: Callable[[], list[Any]]) -> list[Tensor]:
    return [one.rows for one in make()]


def test_numbers_do_not_depend_on_threads(base: Path) -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(_numbers(lambda: layers_of(base, gate_mode="router_input", experts=SEVERAL)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
