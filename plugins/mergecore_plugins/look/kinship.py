"""Who was made of whom, as far as weights can tell; read `kinship`.

Matrices of models that were trained from one start point the same way, and those of models that began apart do not.  Of
three relatives, changes that were made apart are nearly orthogonal.  So the model that the two others left in different
directions stands between them: the others were both made of it, or it was made of one of them and the other of it.
Three models of an ancestor that is not among them are an equilateral triangle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from mergecore_plugins.look.comparing import Comparison, Measured
from mergecore_plugins.look.pairs import Pair

RELATED = 0.6
"""The cosine of matrices from which on models have one origin."""
STRANGERS = 0.25
"""That below which they have not."""
CORNER = 0.2
"""The cosine of two changes up to which the model that they start from stands between the others."""
ALIKE = 0.5
"""That of the changes that three models of one ancestor show, each seen from another, if all went equally far."""
SPREAD = 0.05
"""How much smaller the least of three cosines has to be, to say more than chance."""
MIDWAY = -0.9
"""That below which it lies on the line from one to the other."""
PART = 0.1
"""The share of matrices, at least two, that is no chance where it comes of one model and the rest does not."""
LEAST = 300
"""Entries of matrices, fewer of which say nothing."""


@dataclass(frozen=True)
class Kinship:
    """What the weights say."""

    verdict: str
    """`same`, `relatives`, `partly`, `strangers`; with a base `base`, `nearest`, `between`, `on the line`, `no base`;
    or `unknown`."""
    text: str

    @property
    def judged(self) -> bool:
        """Whether they say anything."""
        return self.verdict != "unknown"


def kinship(found: Comparison) -> Kinship:
    """Whether two models have one origin, and whether the base is theirs."""
    matrices = [one for one in found.measured if len(one.shape) > 1 and min(one.shape) > 1]
    everything = sum(math.prod(one.shape) for one in matrices)
    elsewhere = [*found.skipped, *(name for names in found.only.values() for name in names)]
    if everything < LEAST or len(matrices) < len(elsewhere):
        few = f"{len(matrices)} matrices with {everything} entries can be compared, {len(elsewhere)} tensors cannot"
        return Kinship("unknown", f"cannot judge who was made of whom: {few}")
    if found.with_base:
        return _of_three(found, matrices)
    a, b = found.labels
    return _of_two(found, a, b, [one.pairs[0] for one in found.measured], [one.pairs[0] for one in matrices])


def _of_two(found: Comparison, a: str, b: str, every: Sequence[Pair], matrices: Sequence[Pair]) -> Kinship:
    if not sum(one.changed for one in every):
        return Kinship("same", f"{a} and {b} {_same(found)}")
    cosine = _middle(matrices)
    if cosine is None:
        return Kinship("unknown", "cannot judge who was made of whom: the matrices of one are zero")
    told = f"the cosine of their matrices is {cosine:.3f} in the middle"
    if cosine >= RELATED:
        more = "which of them came first, weights do not say; --base MODEL compares both with a third"
        return Kinship("relatives", f"{a} and {b} come from one model: {told}; {more}")
    if cosine <= -RELATED:
        return Kinship(
            "relatives", f"{a} and {b} come from one model, the signs of one of them turned: {told}"
        )
    if alike := _alike(matrices):
        most = f"{alike} of {len(matrices)} matrices"
        more = "as where layers of several models are stacked"
        return Kinship("partly", f"{a} and {b} come from one model in {most} only, {more}: {told}")
    if cosine < STRANGERS:
        more = "their units may also be in another order"
        return Kinship("strangers", f"{a} and {b} were trained from different starts: {told}; {more}")
    return Kinship("unknown", f"cannot judge whether {a} and {b} come from one model: {told}")


def _of_three(found: Comparison, matrices: Sequence[Measured]) -> Kinship:
    a, b, base = found.labels
    alone = [
        _of_two(
            found, name, base, [one.pairs[i] for one in found.measured], [one.pairs[i] for one in matrices]
        )
        for i, name in enumerate((a, b))
    ]
    for one in alone:
        if one.verdict in ("unknown", "partly", "strangers"):
            return one if one.verdict == "unknown" else Kinship("no base", f"not a base of both: {one.text}")
    same = [name for name, one in zip((a, b), alone, strict=True) if one.verdict == "same"]
    if same:
        return Kinship("same", f"{' and '.join(same)} and {base} {_same(found)}")
    return _corner(a, b, base, [one.between for one in matrices if one.between])


def _same(found: Comparison) -> str:
    """How the same the weights are that do not differ."""
    rounded = any(len(set(one.dtypes)) > 1 for one in found.measured)
    parts = [
        "have the same weights",
        *(["in the tensors that can be compared"] if found.skipped or any(found.only.values()) else []),
        *(["once they are rounded to the coarser format"] if rounded else []),
    ]
    return " ".join(parts)


def _corner(a: str, b: str, base: str, changes: Sequence[Pair]) -> Kinship:
    """Which of three relatives stands between the two others."""
    total = sum(changes, Pair())
    if not (total.first and total.second and total.delta):
        return Kinship(
            "unknown", f"cannot judge who was made of whom: matrices of two of {a}, {b}, {base} are the same"
        )
    corners = {base: _cosine(total.dot, total.first, total.second)}
    corners[a] = _cosine(total.first - total.dot, total.first, total.delta)
    corners[b] = _cosine(total.second - total.dot, total.second, total.delta)
    least = min(corners, key=corners.__getitem__)
    told = f"what leads from it to the other two has the cosine {round(corners[least], 2) + 0.0:.2f}"
    if corners[least] > CORNER:
        return _nearest(base, least, corners)
    ends = [one for one in (base, a, b) if one != least]
    if corners[least] < MIDWAY:
        line = f"{least} lies on the line from {ends[0]} to {ends[1]}, as a merge of the two does: {told}"
        return Kinship("on the line", line)
    if least == base:
        return Kinship("base", f"{base} is a base of {a} and {b}, or close to one: {told}")
    more = f"{ends[1]} was made of it, or it is a merge of {ends[1]} and others"
    return Kinship("between", f"{least} stands between {ends[0]} and {ends[1]}: {told}; {more}")


def _nearest(base: str, least: str, corners: Mapping[str, float]) -> Kinship:
    """What can be said where none of three stands between the others."""
    cosines = sorted(corners.values())
    told = f"the changes from {base} have the cosine {round(corners[base], 2) + 0.0:.2f}"
    if cosines[0] < ALIKE and cosines[1] - cosines[0] > SPREAD:
        more = f"{told}; the origin itself may be another model" if least == base else told
        return Kinship("nearest", f"of the three, {least} is nearest to the origin of all: {more}")
    unseen = "all three may come from a model that is not among them"
    return Kinship("unknown", f"cannot judge who was made of whom: {told}; {unseen}")


def _cosine(dot: float, first: float, second: float) -> float:
    return max(-1.0, min(1.0, dot / math.sqrt(first * second)))


def _alike(pairs: Sequence[Pair]) -> int:
    """How many matrices are of one origin; 0 where that may be chance, or the others are not of different ones."""
    known = [one.cosine for one in pairs if one.cosine is not None]
    alike, strange = sum(one >= RELATED for one in known), sum(one < STRANGERS for one in known)
    least = max(2, PART * len(known))
    return alike if min(alike, strange) >= least else 0


def _middle(pairs: Sequence[Pair]) -> float | None:
    """The cosine in the middle of those of all matrices; None where none has one."""
    known = [one.cosine for one in pairs if one.cosine is not None]
    return median(known) if known else None
