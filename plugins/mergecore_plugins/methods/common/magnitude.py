"""The slot *pre*, by magnitude: which entries of the task vectors are kept, of each tensor or of the whole model.

`TRIM` keeps the largest, `BAND` those that come after the largest.  A method calls `sparse`; it hands `prepare` and
`check_plan` to the core, which calls them for `scope: model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from mergecore import ConfigError
from mergecore.types import Json, Step
from mergecore_plugins.methods.common.parameters import MagnitudeParams
from mergecore_plugins.methods.common.pre import Sparse, norm_matched, norm_ratio, norm_sums, scaled

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore import Block, TensorGroup
    from mergecore.compute import ModelCut
    from mergecore.types import Cut


@dataclass(frozen=True)
class ByMagnitude:
    """A way to select by magnitude.

    fractions: the parameters that say how much is kept.
    counts: from these of one input, and how many entries it has: how many each of its cuts keeps.
    keep: zeroes in x (m,) what these cuts mean to leave out, given the number of the flat block.
    """

    fractions: tuple[str, ...]
    counts: Callable[..., Sequence[int]]
    keep: Callable[[Tensor, Sequence[Cut], int], Tensor]

    def sparse(self, group: TensorGroup, params: MagnitudeParams) -> Sparse:
        """Each x_i with what is selected only, its L1 norm restored if that is wanted."""
        if params.scope == "model":
            return self._as_prepared(group, params)
        sparse = self.in_tensor(group, *(getattr(params, name) for name in self.fractions))
        return norm_matched(group, sparse) if params.rescale else sparse

    def in_tensor(self, group: TensorGroup, *fractions: Sequence[float]) -> Sparse:
        """Each x_i with what is selected of this tensor; the cuts are found in the same passes."""
        return self._by(
            group.cuts_each([self.counts(*row, group.count) for row in zip(*fractions, strict=True)])
        )

    def prepare(self, groups: Sequence[TensorGroup], params: Sequence[MagnitudeParams]) -> Json:
        """With `scope: model`, by model: the cuts through its task vector, and what restores the norm of that."""
        if not params or params[0].scope != "model":
            return None
        from mergecore.compute import find_cuts, inputs_by_model

        counts = {}
        for model, parts in inputs_by_model(groups).items():
            first = params[parts[0].group]
            row = [getattr(first, name)[parts[0].slot] for name in self.fractions]
            counts[model] = self.counts(*row, sum(part.elements for part in parts))
        cuts = find_cuts(groups, counts)
        ratios = self._ratios(groups, cuts) if any(one.rescale for one in params) else {}
        return [
            {"model": model, "cuts": [list(cut) for cut in row], "ratio": ratios.get(model, 1.0)}
            for model, row in cuts.items()
        ]

    def check_plan(self, steps: Sequence[Step], names: Sequence[str]) -> None:
        """Raise E105 when `scope: model` holds for some tensors only, or what is kept differs between them."""
        scopes = {_params(step).scope: step.name for step in steps}
        if len(scopes) > 1:
            told = " and ".join(f"'{scope}' for '{name}'" for scope, name in sorted(scopes.items()))
            raise ConfigError(
                "E105",
                f"scope is {told}; it must be the same for all tensors",
                hint="write one scope, without filters",
            )
        for name in self.fractions if "model" in scopes else ():
            _check_one_fraction(name, steps, names)

    def _by(self, cuts: Sequence[Sequence[Cut]]) -> Sparse:
        def select(block: Block) -> Tensor:
            for x, row in zip(block.x, cuts, strict=True):
                self.keep(x, row, block.index)
            return block.x

        return select

    def _as_prepared(self, group: TensorGroup, params: MagnitudeParams) -> Sparse:
        from mergecore.compute import ModelCut

        state = {one["model"]: one for one in cast("list[dict[str, Any]]", group.state)}
        cuts = {model: [ModelCut(*cut) for cut in one["cuts"]] for model, one in state.items()}
        sparse = self._within(group, cuts)
        return scaled(sparse, [state[model]["ratio"] for model in group.models]) if params.rescale else sparse

    def _within(self, group: TensorGroup, cuts: Mapping[int, Sequence[ModelCut]]) -> Sparse:
        """What selects in one tensor by cuts through whole models."""
        return self._by(
            [[cut.within(group, slot) for cut in cuts[model]] for slot, model in enumerate(group.models)]
        )

    def _ratios(
        self, groups: Sequence[TensorGroup], cuts: Mapping[int, Sequence[ModelCut]]
    ) -> dict[int, float]:
        """For each model the L1 norm of its task vector over that of what is selected of it."""
        sums: dict[int, Tensor] = {}
        for group in groups:
            for model, both in zip(group.models, norm_sums(group, self._within(group, cuts)).T, strict=True):
                sums[model] = sums[model] + both if model in sums else both
        return {model: norm_ratio(*both.tolist()) for model, both in sums.items()}


def _params(step: Step) -> MagnitudeParams:
    return cast("MagnitudeParams", step.params)


def _check_one_fraction(name: str, steps: Sequence[Step], names: Sequence[str]) -> None:
    seen: dict[int, tuple[float, str]] = {}
    for step in steps:
        for one, fraction in zip(step.inputs, getattr(step.params, name), strict=True):
            first, tensor = seen.setdefault(one.model, (fraction, step.name))
            if fraction != first:
                raise ConfigError(
                    "E105",
                    f"{names[one.model]}: {name} is {first:g} for '{tensor}' and {fraction:g} for '{step.name}'; "
                    "with scope: model it is a fraction of the whole task vector",
                    tensor=step.name,
                    hint=f"write one {name} for the model, or scope: tensor",
                )


# ---- trimming ----------------------------------------------------------------------------------------------


def _trim_counts(density: float, count: int) -> tuple[int]:
    from mergecore.compute import kept_count

    return (kept_count(density, count),)


def _trim_(x: Tensor, cuts: Sequence[Cut], index: int) -> Tensor:
    return cuts[0].trim_(x, index)


TRIM = ByMagnitude(("density",), _trim_counts, _trim_)
"""The largest magnitudes."""


# ---- bands -------------------------------------------------------------------------------------------------


def band_counts(density: float, gamma: float, count: int) -> tuple[int, int]:
    """How many of `count` magnitudes the outer cut of a band keeps, and the inner one.

    The largest gamma · count are left out, and of the others the largest density · count kept, both truncated;
    where that is more than there are, fewer of the largest are left out.
    """
    kept = int(density * count)
    outer = min(count, kept + int(gamma * count))
    return outer, outer - kept


def _keep_band_(x: Tensor, cuts: Sequence[Cut], index: int) -> Tensor:
    outer, inner = cuts
    largest = inner.trim_(x.clone(), index)
    return outer.trim_(x, index).sub_(largest)


BAND = ByMagnitude(("density", "gamma"), band_counts, _keep_band_)
"""What comes after the largest magnitudes."""
