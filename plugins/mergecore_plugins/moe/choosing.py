"""Which family can express a mixture, and why others cannot; read `choose`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mergecore.errors import ConfigError, did_you_mean, some
from mergecore.types import Json, Mixture, MoeFamily
from mergecore_plugins.moe.dense import PARTS, head_counts

FEW = 2
"""Families whose reasons are told beside those of the closest."""


@dataclass(frozen=True)
class Judged:
    """A family, and why it cannot express a mixture; without reasons it can."""

    family: MoeFamily
    reasons: tuple[str, ...]

    @property
    def told(self) -> str:
        """The reasons in one line."""
        return f"{self.family.name}: {'; '.join(self.reasons)}"


def choose(
    mixture: Mixture,
    families: Sequence[MoeFamily],
    named: str | None,
    model: str,
    differs: Callable[[MoeFamily], str | None],
) -> MoeFamily:
    """The first family, of those that are `named`, that can express a mixture.

    named: a family, or the beginning of its name.  model: what the base is called.
    differs: how the class of a family computes something else than that of the base; it takes a moment.

    Raises:
        ConfigError: E105 for a name that no family has, E117 when none can.
    """
    ranked = sorted(families, key=lambda one: (one.rank, one.name))
    wanted = [one for one in ranked if one.name == named]
    wanted = wanted or [one for one in ranked if named is None or _is_called(one, named)]
    if not wanted:
        known = [one.name for one in ranked]
        what = f"no family of mixtures is called '{named}'{did_you_mean(str(named), known)}"
        raise ConfigError("E105", what, hint=f"there are {', '.join(known)}")
    judged = [Judged(one, tuple(reasons(one, mixture))) for one in ranked]
    checked: list[Judged] = []
    for one in judged:
        if one.family in wanted and not one.reasons:
            if (difference := differs(one.family)) is None:
                return one.family
            one = Judged(one.family, (difference,))
        checked.append(one)
    raise _refusal(checked, wanted, named, model, differs)


def _is_called(family: MoeFamily, named: str) -> bool:
    names = (family.name, family.title, family.architecture)
    return any(_plain(name).startswith(_plain(named)) for name in names)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _refusal(
    judged: Sequence[Judged],
    wanted: Sequence[MoeFamily],
    named: str | None,
    model: str,
    differs: Callable[[MoeFamily], str | None],
) -> ConfigError:
    """Why there is no family, and which one is the closest."""
    asked = [one for one in judged if one.family in wanted]
    others = [one for one in judged if one.family not in wanted]
    fits = next((one for one in others if not one.reasons and differs(one.family) is None), None)
    closest = min(asked, key=lambda one: len(one.reasons))
    if named:
        what = " / ".join(one.told for one in asked[:3])
        if fits:
            return ConfigError("E117", what, hint=f"'architecture: {fits.family.name}' can express it")
        nearest = min(judged, key=lambda one: len(one.reasons))
        hint = f"no family can express it; the closest is {nearest.told}"
        return ConfigError("E117", what, hint=hint if nearest not in asked else "no family can express it")
    what = f"no family of mixtures can express {model}; the closest is {closest.told}"
    rest = sorted((one for one in asked if one is not closest), key=lambda one: len(one.reasons))
    told = " / ".join(one.told for one in rest[:FEW])
    more = ", ".join(one.family.name for one in rest[FEW:])
    hint = f"the next are {told}" + (f"; 'architecture: NAME' says why of {more}" if more else "")
    return ConfigError("E117", what, hint=hint if rest else None)


# ---- why a family cannot -----------------------------------------------------------------------------------


def reasons(family: MoeFamily, mixture: Mixture) -> Iterator[str]:
    """Why a family cannot express a mixture, as far as tensors and config tell."""
    yield from _of_shared(family, mixture)
    layer, gated = mixture.layer, set(PARTS.values())
    if lacking := sorted(gated - layer):
        yield f"a gated feed-forward block is needed, and the model has no {some(lacking, 3)}"
    if foreign := sorted(layer - gated - family.layer.keys()):
        yield f"it has no place for {some(foreign, 4)}"
    needed = family.layer.keys() - family.optional - family.zeros
    if absent := sorted(needed - layer):
        yield f"it needs {some(absent, 4)}, which the model does not have"
    yield from _of_config(family, mixture)
    yield from family.faults(mixture)


def _of_shared(family: MoeFamily, mixture: Mixture) -> Iterator[str]:
    (least, most), count = family.shared_experts, mixture.shared_experts
    if count < least or (most is not None and count > most):
        yield f"{_counted(least, most)}, got {count}"
    elif family.names.shared_gate and count and not (mixture.shared_prompts or mixture.drawn):
        yield "its shared expert has a gate, which is made of positive_prompts, and there are none"
    elif mixture.shared_prompts and not family.names.shared_gate:
        yield "its shared experts have no gate, so their prompts would have no effect"


def _counted(least: int, most: int | None) -> str:
    if most == 0:
        return "no shared experts"
    if least == most:
        return "exactly one shared expert" if most == 1 else f"exactly {most} shared experts"
    if most is None:
        return f"at least {'one shared expert' if least == 1 else f'{least} shared experts'}"
    return f"at most {'one shared expert' if most == 1 else f'{most} shared experts'}"


def _of_config(family: MoeFamily, mixture: Mixture) -> Iterator[str]:
    for key, neutral in _NEUTRAL.items():
        value = mixture.config.get(key)
        if key not in family.keeps and value is not None and value not in neutral:
            yield f"it has no place for {key}: {value}"
    width = head_counts(mixture.config)[2]
    for key, plain in {"attention_multiplier": width**-0.5, "query_pre_attn_scalar": width}.items():
        value = mixture.config.get(key)
        if key not in family.keeps and isinstance(value, int | float) and abs(value / plain - 1) > 1e-6:
            yield f"it has no place for {key}: {value}, where 1/√{width} is meant"
    skipped = mixture.config.get("no_rope_layers")
    if isinstance(skipped, list) and 0 in skipped and "no_rope_layers" not in family.keeps:
        yield "it has no layers without positions, and no_rope_layers lists some"


_NEUTRAL: dict[str, tuple[Json, ...]] = {
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "attention_chunk_size": (),
    "clip_qkv": (),
    "use_parallel_residual": (False,),
}
"""Keys that change what a model computes, and the values that change nothing."""
