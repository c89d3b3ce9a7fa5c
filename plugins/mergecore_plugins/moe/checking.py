"""What is wrong with a document, whatever its models are, and what its user should know; read `faults`."""

from __future__ import annotations

from collections.abc import Iterator

from mergecore import Document
from mergecore.errors import ConfigError
from mergecore.types import Mixture
from mergecore_plugins.moe.document import MoeDocument
from mergecore_plugins.moe.gating.settings import RANDOM
from mergecore_plugins.moe.opening import Opened


def faults(asked: MoeDocument, document: Document) -> Iterator[ConfigError]:
    """What is wrong, with its place."""
    experts, place = asked.experts, document.place
    if asked.experts_per_token > len(experts):
        what = f"experts_per_token is {asked.experts_per_token}, and the number of experts is {len(experts)}"
        hint = "list more experts, or let each token see fewer"
        yield ConfigError("E105", what, place=place(("experts_per_token",)), hint=hint)
    same = {(one.source_model, one.residual_scale) for one in experts}
    noisy = any(one.noise_scale for one in experts)
    if len(same) == 1 < len(experts) and not asked.allow_identical and not noisy:
        what = "all experts are the same model, so the mixture computes what that model does, at more cost"
        hint = "name different models, give them a noise_scale, or say 'allow_identical: true' to train it further"
        yield ConfigError("E105", what, place=place(("experts",)), hint=hint)
    if asked.gate_mode not in RANDOM:
        yield from _of_prompts(asked, document)


def _of_prompts(asked: MoeDocument, document: Document) -> Iterator[ConfigError]:
    experts, place = asked.experts, document.place
    prompts = {(one.positive_prompts, one.negative_prompts or ()) for one in experts}
    if len(prompts) == 1 < len(experts) and experts[0].positive_prompts:
        what = "all experts have the same prompts, so all of them get the same rows in the routers"
        hint = "write prompts like the texts that each expert is for"
        yield ConfigError("E105", what, place=place(("experts",)), hint=hint)
    shared = {bool(one.positive_prompts) for one in asked.shared_experts or ()}
    if len(shared) > 1:
        what = "some shared experts have positive_prompts and others do not"
        hint = "write prompts for all of them, or for none"
        yield ConfigError("E105", what, place=place(("shared_experts",)), hint=hint)


def warnings(asked: MoeDocument, opened: Opened, mixture: Mixture) -> Iterator[str]:
    """What the user should know before the mixture is used."""
    base = opened.dense[0]
    for one in opened.dense[1:]:
        if one.family != base.family:
            yield (
                f"{one.model.name} is of the type {one.family} and {base.model.name} of {base.family}: its "
                "feed-forward blocks fit, but were trained behind other layers"
            )
    count = mixture.experts
    if count & (count - 1):
        yield f"{count} experts are not a power of two: some versions of llama.cpp cannot load the model"
    if asked.gate_mode in RANDOM and count > 1 and any(one.positive_prompts for one in asked.experts):
        yield f"prompts have no effect with 'gate_mode: {asked.gate_mode}'"
    for key in ("top1_share", "gate_center", "chat_prompts"):
        if asked.gate_mode in RANDOM and getattr(asked, key):
            yield f"{key} has no effect with 'gate_mode: {asked.gate_mode}'"
