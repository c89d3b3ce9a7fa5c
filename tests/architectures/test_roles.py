"""What tensors do, by the spellings of many families."""

from __future__ import annotations

import pytest

from mergecore_architectures.roles import (
    is_after,
    is_vocabulary_head,
    layer_role,
    modality,
    outer_role,
    tied_head,
)

IN_LAYERS = {
    "attn.q": "self_attn.q_proj.weight attention.self.query.bias attention.wq.weight layer.0.SelfAttention.q.weight "
    "attention.q_lin.weight attention.self.query_proj.weight self_attn.q_b_proj.weight mixer.q_proj.weight",
    "attn.k": "self_attn.k_proj.weight attention.self.key.weight layer.1.EncDecAttention.k.weight attention.k_lin.bias",
    "attn.v": "self_attn.v_proj.weight attention.self.value.weight attention.wv.weight",
    "attn.kv": "self_attn.kv_a_proj_with_mqa.weight self_attn.kv_b_proj.weight",
    "attn.qkv": "attn.c_attn.weight attention.query_key_value.weight self_attn.qkv_proj.weight attn.Wqkv.weight "
    "attention.wqkv.weight self_attn.W_pack.weight attn.in_proj_weight",
    "attn.o": "self_attn.o_proj.weight attention.output.dense.weight attn.c_proj.weight self_attention.dense.weight "
    "attention.wo.weight self_attn.out_proj.weight attention.out_lin.weight attn.proj.weight attn.Wo.weight",
    "attn": "self_attn.sinks layer.0.SelfAttention.relative_attention_bias.weight attention.rotary_emb.inv_freq",
    "mlp.gate": "mlp.gate_proj.weight feed_forward.w1.weight layer.1.DenseReluDense.wi_0.weight mlp.gate.weight",
    "mlp.up": "mlp.up_proj.weight feed_forward.w3.weight mlp.c_fc.bias mlp.dense_h_to_4h.weight fc1.weight "
    "intermediate.dense.weight layer.1.DenseReluDense.wi.weight mlp.fc_in.weight ffn.lin1.weight",
    "mlp.down": "mlp.down_proj.weight feed_forward.w2.weight mlp.c_proj.weight mlp.dense_4h_to_h.weight fc2.weight "
    "output.dense.weight layer.1.DenseReluDense.wo.weight mlp.fc_out.weight ffn.lin2.weight",
    "mlp.gate_up": "mlp.gate_up_proj.weight mlp.Wi.weight",
    "mlp": "feed_forward.key.weight mlp.act.beta",
    "norm": "input_layernorm.weight ln_1.bias ln1.weight attention.output.LayerNorm.weight self_attn.q_norm.weight "
    "norm1.weight layer.0.layer_norm.weight attention_norm.weight mixer.norm.weight",
    "mixer.in": "mixer.in_proj.weight linear_attn.in_proj_qkvz.weight",
    "mixer.out": "mixer.out_proj.weight linear_attn.out_proj.weight",
    "mixer.A": "mixer.A_log",
    "mixer.dt": "mixer.dt_bias mamba.dt_proj.weight",
    "mixer.conv": "mixer.conv1d.bias",
    "mixer": "mixer.act.alpha",
    "": "gate_scale linear.weight",
}
IN_SPARSE_LAYERS = {
    "router": "mlp.gate.weight block_sparse_moe.gate.weight mlp.router.bias block_sparse_moe.router.layer.weight "
    "mlp.shared_expert_gate.weight mlp.gate.e_score_correction_bias",
    "expert.gate": "mlp.experts.3.gate_proj.weight block_sparse_moe.experts.0.w1.weight",
    "expert.up": "mlp.experts.3.up_proj.weight block_sparse_moe.experts.0.w3.weight experts.mlp.v1",
    "expert.down": "mlp.experts.down_proj mlp.experts.down_proj_bias block_sparse_moe.output_linear.weight",
    "expert.gate_up": "mlp.experts.gate_up_proj mlp.experts.gate_up_proj_bias block_sparse_moe.input_linear.weight",
    "expert": "mlp.experts.bias",
    "mlp.up": "mlp.shared_experts.up_proj.weight",
    "mlp.gate_up": "shared_mlp.input_linear.weight",
    "mlp.down": "shared_mlp.output_linear.weight",
}
OUTSIDE = {
    "embed": "model.embed_tokens.weight transformer.wte.weight gpt_neox.embed_in.weight shared.weight "
    "bert.embeddings.word_embeddings.weight model.tok_embeddings.weight backbone.embeddings.weight",
    "embed.position": "transformer.wpe.weight bert.embeddings.position_embeddings.weight",
    "embed.type": "bert.embeddings.token_type_embeddings.weight",
    "norm": "model.norm.weight transformer.ln_f.bias bert.embeddings.LayerNorm.weight backbone.norm_f.weight",
    "head": "lm_head.weight embed_out.weight output.weight lm_head.dense.bias cls.predictions.bias head.weight "
    "final_logits_bias language_model.lm_head.weight vocab_projector.bias decoder.bias lm_loss.bias",
    "head.classifier": "score.weight classifier.out_proj.weight bert.pooler.dense.weight qa_outputs.bias",
    "": "logit_scale multi_modal_projector.linear_1.weight",
}


def cases(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, role) for role, names in table.items() for name in names.split()]


@pytest.mark.parametrize(("name", "role"), cases(IN_LAYERS))
def test_roles_in_layers(name: str, role: str) -> None:
    assert layer_role(name) == role


@pytest.mark.parametrize(("name", "role"), cases(IN_SPARSE_LAYERS))
def test_roles_in_layers_with_experts(name: str, role: str) -> None:
    assert layer_role(name, sparse=True) == role


@pytest.mark.parametrize(("name", "role"), cases(OUTSIDE))
def test_roles_outside_layers(name: str, role: str) -> None:
    assert outer_role(name) == role


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("model.norm.weight", True),
        ("model.embedding_norm.weight", True),  # LFM2
        ("lm_head.weight", True),
        ("score.weight", True),
        ("model.decoder.project_out.weight", True),
        ("text_projection.weight", True),
        ("model.embed_tokens.weight", False),
        ("bert.embeddings.LayerNorm.weight", False),
        ("transformer.word_embeddings_layernorm.bias", False),
        ("vision_model.pre_layrnorm.weight", False),
        ("model.decoder.project_in.weight", False),
        ("embeddings.patch_embeddings.projection.weight", False),  # DINOv2
        ("feature_projection.projection.weight", False),  # wav2vec 2.0
        ("feature_projection.layer_norm.weight", False),
        ("model.per_layer_model_projection.weight", False),  # Gemma 3n
    ],
)
def test_what_comes_after_the_layers(name: str, after: bool) -> None:
    assert is_after(name) is after


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("visual.blocks.0.attn.qkv.weight", "vision"),
        ("multi_modal_projector.linear_1.weight", "vision"),
        ("audio_tower.layers.0.fc1.weight", "audio"),
        ("mtp.layers.0.eh_proj.weight", "extra"),
        ("model.layers.0.mlp.up_proj.weight", None),
        ("vocab_projector.weight", None),
        ("model.imagery.weight", None),
    ],
)
def test_parts_beside_the_text_model(name: str, part: str | None) -> None:
    assert modality(name) == part


def test_the_matrix_of_a_head_is_told_from_what_prepares_for_it() -> None:
    assert is_vocabulary_head("cls.predictions.decoder.weight")
    assert is_vocabulary_head("final_logits_bias")
    assert not is_vocabulary_head("cls.predictions.transform.dense.weight")
    assert not is_vocabulary_head("decoder.layers.0.fc.weight")


@pytest.mark.parametrize(
    ("names", "head"),
    [
        (["model.embed_tokens.weight"], "lm_head.weight"),
        (["cls.predictions.bias"], "cls.predictions.decoder.weight"),
        (["lm_head.bias", "lm_head.layer_norm.weight"], "lm_head.decoder.weight"),
        (["vocab_transform.bias"], "vocab_projector.weight"),
        (["language_model.model.norm.weight"], "language_model.lm_head.weight"),
    ],
)
def test_the_name_of_a_missing_head_follows_from_its_neighbours(names: list[str], head: str) -> None:
    assert tied_head(names) == head
