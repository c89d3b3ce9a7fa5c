"""{{ cookiecutter.name }}: mixtures whose experts are called moe.0.gate, moe.0.up and moe.0.down."""

from collections.abc import Iterator

from mergecore import MoeFamily, hookimpl
from mergecore.types import ExpertNames, Mixture

NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
ATTENTION = tuple(f"self_attn.{part}_proj.weight" for part in "qkvo")
NAMES = {"moe.{expert}." + part: (part,) for part in ("gate", "up", "down")}


def config(mixture: Mixture) -> dict[str, int]:
    """What config.json says about the experts."""
    return {"experts": mixture.experts, "experts_used": mixture.experts_per_token}


@hookimpl
def mergecore_moe_families() -> Iterator[MoeFamily]:
    yield MoeFamily(
        name="{{ cookiecutter.name }}",
        title="{{ cookiecutter.name }}",
        architecture="MyMoeForCausalLM",
        layer={name: name for name in (*NORMS, *ATTENTION)},
        names=ExpertNames(router="moe.router", experts=NAMES),
        config=config,
        proved_by="mixtral",  # computes the same, and transformers knows it
    )
