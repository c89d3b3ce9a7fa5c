"""The parameters that methods on task vectors have in common; a method subclasses them, and may change a default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from mergecore import ConfigError, Field, Params, PerModel

Rescale: TypeAlias = bool | Literal["l1"]
"""`True`: what a task vector loses is made up for in the way of the paper; "l1": its L1 norm is restored."""

Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Epsilon: TypeAlias = Annotated[float, Field(ge=0)]
Threshold: TypeAlias = Annotated[float, Field(ge=0)]


class TaskVectorParams(Params):
    """How task vectors are weighted."""

    weight: PerModel[float] = Field(description="factor of the model's task vector")
    normalize: bool = Field(False, description="divide by the sum of the weights, unless it is 0")
    int8_mask: bool = Field(
        False,
        description="accepted for compatibility; has no effect",
        json_schema_extra={"deprecated": True},
    )


class SparseParams(TaskVectorParams):
    """How task vectors are made sparse, and what happens to their sum."""

    density: PerModel[Fraction] = Field(
        (1.0,), description="fraction of entries kept; 1 leaves all as they are"
    )
    rescale: Rescale = Field(False, description="restore each task vector's L1 norm")
    scale: float = Field(1.0, alias="lambda", description="factor of the merged task vector")


class MagnitudeParams(SparseParams):
    """What methods that select by magnitude have in common."""

    rescale: Rescale = Field(False, description="restore each task vector's L1 norm after trimming")
    scope: Literal["tensor", "model"] = Field(
        "tensor", description="fractions are of each tensor, or of the whole task vector as in the paper"
    )


class DropParams(SparseParams):
    """What methods that drop entries at random have in common."""

    rescale: Rescale = Field(
        True, description="divide what is kept by the density; l1: restore the L1 norm instead"
    )


class RankParams(SparseParams):
    """What methods have in common that drop entries at random, small ones sooner."""

    epsilon: PerModel[Epsilon] = Field(
        (0.15,), description="how far the keep probability departs from the density"
    )
    rescale: Rescale = Field(
        True, description="divide each entry by its keep probability; l1: restore the L1 norm instead"
    )


class OutlierParams(MagnitudeParams):
    """What methods have in common that leave out the largest entries too."""

    gamma: PerModel[Fraction] = Field((0.01,), description="fraction of largest entries left out")


class ConsensusParams(TaskVectorParams):
    """What methods have in common that keep the places which several models call important."""

    k: int = Field(1, ge=0, description="how many models must call a place important")
    threshold: PerModel[Threshold] = Field(
        (1.0,), alias="lambda", description="how strict the model is: larger means fewer places"
    )


def check_ranks(densities: Sequence[float], epsilons: Sequence[float]) -> None:
    """Raise E105 when density - epsilon or density + epsilon is not a probability between 0 and 1."""
    for density, epsilon in zip(densities, epsilons, strict=True):
        if 0 < density < 1 and not 0 < density - epsilon <= density + epsilon < 1:
            raise ConfigError(
                "E105",
                f"epsilon {epsilon:g} with density {density:g} gives keep probabilities from "
                f"{density - epsilon:g} to {density + epsilon:g}; they must lie between 0 and 1",
                hint=f"choose an epsilon below {min(density, 1 - density):g}",
            )


def check_consensus(k: int, inputs: int) -> None:
    """Raise E105 when more models must agree than there are."""
    if k > inputs:
        raise ConfigError(
            "E105",
            f"k is {k}, and only {inputs} models are merged: nothing would be kept",
            hint=f"choose a k from 1 to {inputs}",
        )
