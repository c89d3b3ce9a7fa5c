"""What flows through a model that is run layer by layer, against transformers' own `output_hidden_states`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from safetensors.torch import load_file, save_file
from torch import Tensor

import mergecore
from mergecore.errors import InputError
from mergecore_architectures import describe
from mergecore_plugins.activations import (
    Moments,
    Point,
    Runnable,
    input_statistics,
    observe,
    passes,
    runnable,
)
from mergecore_plugins.activations.decoder import Decoder

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
KEYS: dict[str, Any] = {**SIZES, "num_key_value_heads": 2}
GPT: dict[str, Any] = {"vocab_size": 97, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: t.LlamaConfig(**KEYS),
    "llama, tied": lambda: t.LlamaConfig(**KEYS, tie_word_embeddings=True),
    "mistral, sliding": lambda: t.MistralConfig(**KEYS, sliding_window=8),
    "qwen2": lambda: t.Qwen2Config(**KEYS),
    "qwen3": lambda: t.Qwen3Config(**KEYS, head_dim=8),
    "gemma2": lambda: t.Gemma2Config(**KEYS, head_dim=8, sliding_window=8),
    "gemma3": lambda: t.Gemma3TextConfig(**KEYS, head_dim=8, sliding_window=8),
    "phi3": lambda: t.Phi3Config(**KEYS),
    "olmo2": lambda: t.Olmo2Config(**KEYS),
    "cohere": lambda: t.CohereConfig(**KEYS),
    "stablelm": lambda: t.StableLmConfig(**KEYS),
    "gpt-neox": lambda: t.GPTNeoXConfig(**SIZES),
    "gpt2": lambda: t.GPT2Config(**GPT),
    "gptj": lambda: t.GPTJConfig(**GPT, rotary_dim=4),
    "bloom": lambda: t.BloomConfig(vocab_size=97, hidden_size=32, n_layer=3, n_head=4),
    "opt": lambda: t.OPTConfig(
        **{key: SIZES[key] for key in SIZES if key != "intermediate_size"}, ffn_dim=48, word_embed_proj_dim=32
    ),
    "mixtral": lambda: t.MixtralConfig(**KEYS, num_local_experts=4),
    "qwen3-moe": lambda: t.Qwen3MoeConfig(
        **KEYS, num_experts=4, moe_intermediate_size=16, num_experts_per_tok=2
    ),
}

TEXTS = [[5, 6, 7], [*range(8, 20)], [20], [21, 22, 23, 24, 25], [1, 96, 1, 96]]


class Kept:
    """Keeps all that is shown."""

    def __init__(self) -> None:
        self.values: dict[tuple[Point, int], Tensor] = {}
        self.left: list[str] = []

    def see(self, point: Point, text: int, values: Tensor) -> None:
        assert (point, text) not in self.values
        self.values[point, text] = values.clone()

    def done(self, layer: str) -> None:
        self.left.append(layer)


def write(folder: Path, config: Any, dtype: torch.dtype = torch.float32) -> None:
    """A model whose numbers, norms and biases included, are all different."""
    torch.manual_seed(0)
    model = t.AutoModelForCausalLM.from_config(config)
    for one in model.parameters():
        one.data += 0.1 * torch.randn_like(one)
    model.to(dtype).save_pretrained(folder)


def seen(
    model: str, texts: Sequence[Sequence[int]], points: Callable[[Runnable], list[Point]], **how: Any
) -> Kept:
    planner = mergecore.planner()
    checkpoint = planner.open(model)
    run = runnable(planner, checkpoint)
    kept = Kept()
    with mergecore.open_tensors([checkpoint, *checkpoint.parts], run.inputs()) as weights:
        observe(run.layout, weights, texts, points(run), kept, **how)
    assert kept.left == list(run.layout.layers)
    return kept


def entering(run: Runnable) -> list[Point]:
    return [Point(layer) for layer in run.layout.layers]


def leaving(run: Runnable) -> list[Point]:
    return [Point(layer, "output") for layer in run.layout.layers]


def hidden(model: Path, text: Sequence[int]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        loaded = t.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        made = loaded(input_ids=torch.tensor([text]), output_hidden_states=True, use_cache=False)
    return tuple(made.hidden_states)


def apart(mine: Tensor, theirs: Tensor) -> float:
    return float((mine - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("family", CONFIGS)
def test_hidden_states_are_those_of_transformers(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one part in a million, though texts are padded in several batches."""
    monkeypatch.setattr(passes, "TOKENS", 12)
    write(tmp_path, CONFIGS[family]())
    kept = seen(str(tmp_path), TEXTS, entering)
    for number, text in enumerate(TEXTS):
        for layer, state in enumerate(hidden(tmp_path, text)[:-1]):
            assert apart(kept.values[[*_points(kept)][layer], number], state[0]) < 1e-6, (layer, text)


def _points(kept: Kept) -> dict[Point, None]:
    return dict.fromkeys(sorted((point for point, _ in kept.values), key=lambda one: one.module))


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3", "gpt2", "gpt-neox", "mixtral"])
def test_what_a_router_would_see_is_what_the_norm_before_the_mlp_makes(family: str, tmp_path: Path) -> None:
    """Hooks on the norm of the model itself, in an ordinary forward pass."""
    norms = {
        "llama": "model.layers.1.post_attention_layernorm",
        "gemma2": "model.layers.1.pre_feedforward_layernorm",
        "phi3": "model.layers.1.post_attention_layernorm",
        "gpt2": "transformer.h.1.ln_2",
        "gpt-neox": "gpt_neox.layers.1.post_attention_layernorm",
        "mixtral": "model.layers.1.post_attention_layernorm",
    }
    write(tmp_path, CONFIGS[family]())
    kept = seen(str(tmp_path), TEXTS, lambda run: [Point(str(run.layout.mlps[1]))])
    loaded = t.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    made: list[Tensor] = []
    loaded.get_submodule(norms[family]).register_forward_hook(lambda *given: made.append(given[-1]))
    for (_, number), values in kept.values.items():
        with torch.no_grad():
            loaded(input_ids=torch.tensor([TEXTS[number]]), use_cache=False)
        assert apart(values, made[-1][0]) < 1e-6


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks for what transformers calls otherwise by now
def test_a_model_with_an_adapter_is_run_with_it(tmp_path: Path) -> None:
    import peft

    write(tmp_path / "base", CONFIGS["llama"]())
    model: Any = t.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    chosen: Any = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    tuned = peft.get_peft_model(model, chosen)
    tuned.save_pretrained(tmp_path / "adapter")
    kept = seen(f"{tmp_path / 'base'}+{tmp_path / 'adapter'}", TEXTS, entering)
    plain = seen(str(tmp_path / "base"), TEXTS, entering)
    with torch.no_grad():
        made: Any = tuned(input_ids=torch.tensor([TEXTS[1]]), output_hidden_states=True, use_cache=False)
    last = Point("model.layers.2")
    assert apart(kept.values[last, 1], made.hidden_states[2][0]) < 1e-6
    assert apart(plain.values[last, 1], made.hidden_states[2][0]) > 1e-2


def test_numbers_do_not_depend_on_what_torch_was_told_of_threads(tmp_path: Path) -> None:
    write(tmp_path, t.LlamaConfig(**{**KEYS, "hidden_size": 256, "intermediate_size": 700}))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(seen(str(tmp_path), TEXTS, entering))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for key, values in found[0].values.items():
        assert torch.equal(values, found[1].values[key])


def test_other_texts_of_the_batch_change_nothing_but_the_last_bits(tmp_path: Path) -> None:
    write(tmp_path, CONFIGS["gpt2"]())  # it has a row for each position
    alone = seen(str(tmp_path), TEXTS[:1], entering)
    both = seen(str(tmp_path), TEXTS[:2], entering)
    for (point, text), values in alone.values.items():
        assert apart(both.values[point, text], values) < 1e-6


def test_the_weights_of_one_layer_are_in_memory_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 x 32^2-like matrices: of six layers, never more than one; of the embeddings only the rows in use."""
    monkeypatch.setattr(passes, "TOKENS", 12)
    write(tmp_path, t.LlamaConfig(**{**KEYS, "num_hidden_layers": 6, "vocab_size": 5000}))
    held: list[int] = []
    bring = Decoder.bring

    def counted(self: Decoder, layer: str) -> None:
        bring(self, layer)
        held.append(sum(one.nbytes for one in self.module.parameters() if not one.is_meta))

    monkeypatch.setattr(Decoder, "bring", counted)
    seen(str(tmp_path), TEXTS, entering)
    planner = mergecore.planner()
    layout = runnable(planner, planner.open(str(tmp_path))).layout
    layer = 4 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32)
    assert layout.memory == layer + 4 * 32  # with the last norm
    assert held == [layout.memory] * 6


def test_another_dtype_can_be_had(tmp_path: Path) -> None:
    write(tmp_path, CONFIGS["llama"](), torch.bfloat16)
    kept = seen(str(tmp_path), TEXTS, entering, dtype=torch.bfloat16)
    assert {one.dtype for one in kept.values.values()} == {torch.bfloat16}
    wide = seen(str(tmp_path), TEXTS, entering)
    for key, values in kept.values.items():
        assert apart(values.float(), wide.values[key]) < 0.05


def test_statistics_of_inputs_are_those_of_a_loop_by_hand(tmp_path: Path) -> None:
    write(tmp_path, CONFIGS["llama"]())
    planner = mergecore.planner()
    checkpoint = planner.open(str(tmp_path))
    run = runnable(planner, checkpoint)
    with mergecore.open_tensors([checkpoint], run.inputs()) as weights:
        found = input_statistics(
            run.layout,
            weights,
            TEXTS,
            "model.layers.*.mlp.*_proj",
            lambda name: Moments(cross=name.endswith("up_proj")),
        )
    assert [name for name in found if "layers.1" in name] == [
        f"model.layers.1.mlp.{part}_proj" for part in ("gate", "up", "down")
    ]
    loaded = t.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    name = "model.layers.1.mlp.up_proj"
    rows: list[Tensor] = []
    loaded.get_submodule(name).register_forward_pre_hook(lambda module, given: rows.append(given[0][0]))
    with torch.no_grad():
        for text in TEXTS:
            loaded(input_ids=torch.tensor([text]), use_cache=False)
    x = torch.cat(rows)  # (tokens, width)
    assert found[name].count == len(x) == sum(map(len, TEXTS))
    assert torch.allclose(found[name].mean, x.mean(dim=0), atol=1e-6)
    assert torch.allclose(found[name].products, x.T @ x, atol=1e-4)
    gate = found["model.layers.1.mlp.gate_proj"]
    assert torch.allclose(gate.products, x.square().sum(dim=0), atol=1e-4)


# ---- what cannot be run ------------------------------------------------------------------------------------


def refused(folder: Path) -> InputError:
    planner = mergecore.planner()
    with pytest.raises(InputError) as caught:
        runnable(planner, planner.open(str(folder)))
    return caught.value


def changed(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def test_a_model_whose_class_transformers_lacks_is_refused_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path, CONFIGS["llama"]())
    changed(tmp_path, model_type="odd", architectures=["OddForCausalLM"], auto_map={"AutoModel": "odd.Odd"})
    error = refused(tmp_path)
    assert error.code == "E224"
    assert error.what.startswith("the model cannot be run: transformers ")
    assert error.what.endswith(" knows no model type 'odd'")
    assert error.hint == (
        "hidden states come from the model itself; use a model that transformers runs without code of its own"
    )


def test_a_model_with_an_encoder_is_refused(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2}
    t.T5ForConditionalGeneration(t.T5Config(**shape, num_heads=4)).save_pretrained(tmp_path)
    error = refused(tmp_path)
    assert (error.code, error.what) == (
        "E224",
        "the model cannot be run: T5ForConditionalGeneration has no decoder of text",
    )


def test_a_model_that_lacks_tensors_is_refused_before_it_is_run(tmp_path: Path) -> None:
    write(tmp_path, CONFIGS["llama"]())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    error = refused(tmp_path)
    assert (error.code, error.what) == (
        "E231",
        "it lacks tensors that LlamaForCausalLM needs to be run: 'model.layers.1.mlp.up_proj.weight'",
    )


def test_a_tensor_of_another_shape_than_its_class_takes_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, CONFIGS["llama"]())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(47, 32)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError) as caught:
        seen(str(tmp_path), TEXTS, entering)
    assert caught.value.code == "E221"
    assert caught.value.what == (
        "tensor 'model.layers.1.mlp.up_proj.weight' has the shape [47, 32]; its class takes [48, 32]"
    )


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"])
def test_a_nan_in_a_weight_is_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "TOKENS", 1)  # the token comes in a later batch
    write(tmp_path, CONFIGS["llama"]())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[name][8, 4] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="not finite"):
        seen(str(tmp_path), TEXTS, entering)


def test_a_class_that_leaves_a_buffer_empty_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers would be garbage: rotary frequencies come from nowhere."""
    write(tmp_path, CONFIGS["llama"]())
    monkeypatch.setattr(t.LlamaForCausalLM, "_init_weights", lambda self, module: None)
    with pytest.raises(InputError) as caught:
        seen(str(tmp_path), TEXTS, entering)
    assert (caught.value.code, caught.value.what) == (
        "E224",
        "the model cannot be run: its class does not compute the buffer 'rotary_emb.inv_freq'",
    )


def test_a_class_without_a_table_of_tokens_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, CONFIGS["llama"]())
    monkeypatch.setattr(t.LlamaForCausalLM, "get_input_embeddings", lambda self: self.lm_head)
    assert refused(tmp_path).what == "the model cannot be run: LlamaForCausalLM has no embeddings of tokens"


def test_a_class_without_layers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mergecore_plugins.activations import layout

    write(tmp_path, CONFIGS["llama"]())
    monkeypatch.setattr(layout, "describe", lambda model: replace(describe(model), main=None))
    assert refused(tmp_path).what == "the model cannot be run: LlamaForCausalLM has no stack of layers"
