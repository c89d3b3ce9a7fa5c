"""Where a result may differ from mergekit's, and that it then is what it should be.

`may_differ` answers for every element of a tensor.  Selection methods may choose another one of several
elements whose magnitudes are exactly equal; some formulas differ by decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mergecore.types import Plan, Step

Parameters: TypeAlias = Mapping[str, Any]


class Case:
    """One tensor of one case: the differences to the base, flat in float64, and the parameters as resolved."""

    def __init__(self, models: Mapping[str, Mapping[str, Tensor]], plan: Plan, step: Step) -> None:
        assert step.params is not None
        inputs = step.inputs if step.base is None else (step.base, *step.inputs)
        base, *others = (models[plan.models[one.model].name][one.tensor.name] for one in inputs)
        self.method = step.method or ""
        self.base = base.double().flatten()
        self.columns = base.shape[-1]
        self.deltas = [(other.float() - base.float()).double().flatten() for other in others]
        self.params: Parameters = step.params.model_dump(by_alias=True)

    def of_model(self, i: int, name: str, default: float) -> float:
        """A parameter that each model has its own value of."""
        return float(self.params[name][i]) if name in self.params else default


def may_differ(case: Case, places: Sequence[int], ours: Tensor, theirs: Tensor) -> list[int]:
    """Those of `places` (flat) where the two results differ for no good reason."""
    explain = EXPLANATIONS.get(case.method)
    if explain is None:
        return list(places)
    explained = explain(case, ours, theirs)
    return [i for i in places if not explained(i)]


Explained: TypeAlias = Callable[[int], bool]
"""Whether our and their value of an element may differ."""


# ---- equal magnitudes --------------------------------------------------------------------------------------


def _cut_by_magnitude(case: Case, ours: Tensor, theirs: Tensor) -> Explained:
    """The element stands at a cut of one model at least, and the other choice gives the other value."""
    models = range(len(case.deltas))
    kept = [_choices(case, i) for i in models]
    factors = [_factor(case, i) for i in models]

    def explained(place: int) -> bool:
        options = []
        for delta, factor, (certain, at_cut) in zip(case.deltas, factors, kept, strict=True):
            value = delta[place].item() * factor
            options.append((0.0, value) if at_cut[place] else (value,) if certain[place] else (0.0,))
        values = [case.base[place].item() + _combined(case, choice) for choice in product(*options)]
        return len(values) > 1 and _among(ours[place], values) and _among(theirs[place], values)

    return explained


def _choices(case: Case, i: int) -> tuple[Tensor, Tensor]:
    """What is kept in any case, and what has the magnitude of a cut and may be kept."""
    magnitudes = case.deltas[i].abs()
    descending = magnitudes.sort(descending=True).values
    first, last = _band(case, i)
    if last - first >= len(magnitudes):
        return torch.ones_like(magnitudes, dtype=torch.bool), torch.zeros_like(magnitudes, dtype=torch.bool)
    upper = descending[first - 1] if first else math.inf
    lower = descending[last - 1]
    inside = (magnitudes < upper) & (magnitudes > lower)
    return inside, (magnitudes == upper) | (magnitudes == lower)


def _band(case: Case, i: int) -> tuple[int, int]:
    """The ranks that are kept, the largest first, half-open."""
    count = len(case.base)
    target = int(case.of_model(i, "density", 1) * count)
    if not case.method.startswith("breadcrumbs"):
        return 0, max(1, target)
    first = min(int(case.of_model(i, "gamma", 0.01) * count), count - target)
    return first, first + target


def _factor(case: Case, i: int) -> float:
    """What restores the L1 norm; it is the same whichever of the equal magnitudes are kept."""
    if not case.params["rescale"]:
        return 1.0
    magnitudes = case.deltas[i].abs().sort(descending=True).values
    first, last = _band(case, i)
    return (magnitudes.sum() / magnitudes[first:last].sum()).item()


def _combined(case: Case, choice: Sequence[float]) -> float:
    weights: Sequence[float] = case.params["weight"]
    terms = [weight * value for weight, value in zip(weights, choice, strict=True)]
    divisor = sum(weights)
    if case.method.endswith("ties"):
        sign = 1 if sum(terms) >= 0 else -1
        divisor = sum(weight for weight, term in zip(weights, terms, strict=True) if term * sign > 0) or 1.0
        terms = [term for term in terms if term * sign > 0]
    return float(case.params["lambda"] * sum(terms) / (divisor if case.params["normalize"] else 1))


def _among(value: Tensor, values: Sequence[float]) -> bool:
    return any(abs(value.item() - one) <= 2e-6 + 2e-6 * abs(one) for one in values)


# ---- equal variances ---------------------------------------------------------------------------------------


def _cut_by_variance(case: Case, ours: Tensor, theirs: Tensor) -> Explained:
    """Both results follow from a choice among elements whose variance is that of the cut.

    The weights of the models depend on what is selected, so such a choice shows in other elements, too.
    """
    deltas = torch.stack(case.deltas)
    variances = deltas.var(0, correction=0)
    selected = int((variances != 0).sum() * case.params["select_topk"])
    cut = variances.sort(descending=True).values[selected - 1]
    at_cut = (variances - cut).abs() <= 1e-6 * cut  # as far as float32 can tell
    certain = (variances > cut) & ~at_cut

    def follows(result: Tensor) -> Tensor:
        chosen = certain | (at_cut & (result != case.base))
        assert chosen.sum() == selected
        kept = torch.where(chosen, deltas, 0.0)
        agreeing = kept * torch.where(kept.sum(0) >= 0, 1.0, -1.0) > 0
        weights = kept.square().sum(1, keepdim=True) * agreeing
        merged = case.base + (kept * weights).sum(0) / weights.sum(0).where(agreeing.any(0), 1.0)
        return (result - merged).abs() <= 2e-6 + 2e-6 * merged.abs()

    explained = follows(ours) & follows(theirs)
    return lambda place: bool(explained[place])


# ---- decisions ---------------------------------------------------------------------------------------------


def _clamped(case: Case, ours: Tensor, theirs: Tensor) -> Explained:
    """model_stock: the position between base and mean is kept between them."""
    rows = torch.stack(case.deltas).view(len(case.deltas), -1, case.columns)
    lengths = rows.norm(dim=-1)
    pairs = list(combinations(range(len(rows)), 2))
    cosine = sum((rows[i] * rows[j]).sum(-1) / (lengths[i] * lengths[j]) for i, j in pairs) / len(pairs)
    t = torch.as_tensor(len(rows) * cosine / (1 + (len(rows) - 1) * cosine))

    def explained(place: int) -> bool:
        row, column = divmod(place, case.columns)
        base = case.base[place].item()
        ends = {True: base, False: base + rows[:, row, column].mean().item()}
        outside = bool(t[row] < 0 or t[row] > 1)
        return outside and _among(ours[place], [ends[bool(t[row] < 0)]])

    return explained


def _by_exact_importance(case: Case, ours: Tensor, theirs: Tensor) -> Explained:
    """arcee_fusion: ours takes what float64 takes; theirs, with divergences in float32, does in nearly all cases."""
    base = case.base.view(-1, case.columns)
    other = base + case.deltas[0].view(base.shape)
    p, q = other.softmax(-1) + 1e-8, base.softmax(-1) + 1e-8
    importance = ((other - base).abs() * (p * (p / q).log()).sum(-1, keepdim=True)).flatten()
    ordered = importance.sort().values
    low, middle, high = (ordered[int(part * (len(ordered) - 1))] for part in (0.25, 0.5, 0.75))
    least = middle + 1.5 * (high - low)
    taken = torch.where(importance >= least, other.flatten(), case.base)
    level = (importance - least).abs() <= 1e-6 * least  # as far as float32 can tell
    few = int(((ours - theirs).abs() > 1e-6).sum()) <= max(1, 0.005 * len(ours))

    def explained(place: int) -> bool:
        either = [case.base[place].item(), other.flatten()[place].item()]
        right = bool(level[place]) or _among(ours[place], [taken[place].item()])
        return few and right and _among(theirs[place], either)

    return explained


EXPLANATIONS: Mapping[str, Callable[[Case, Tensor, Tensor], Explained]] = {
    "ties": _cut_by_magnitude,
    "breadcrumbs": _cut_by_magnitude,
    "breadcrumbs_ties": _cut_by_magnitude,
    "sce": _cut_by_variance,
    "model_stock": _clamped,
    "arcee_fusion": _by_exact_importance,
}
