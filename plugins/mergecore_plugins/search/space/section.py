"""The section `search` of a config: what is looked for, how long, and with which data; read `SearchSection`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, model_validator

from mergecore import Field, Params
from mergecore.types import Json

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(value: object) -> object:
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", value.strip())):
        return float(found[1]) * UNITS[found[2]]
    if isinstance(value, str):
        raise ValueError("a time is written such as 90m, 2h or 1d")
    return value


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class _Chosen(Params):
    """A plugin by its name, with its parameters beside it."""

    model_config = ConfigDict(extra="allow")

    @property
    def params(self) -> dict[str, Json]:
        """The keys beside those that are declared."""
        return dict(self.model_extra or {})


class SamplerSection(_Chosen):
    """How the next points are chosen."""

    title: ClassVar[str] = "the sampler"
    name: str = Field(default="tpe", description="a sampler by its name")


class Objective(_Chosen):
    """What is to be good."""

    title: ClassVar[str] = "an objective"
    evaluator: str = Field(description="an evaluator by its name; its parameters stand beside it")
    name: str | None = Field(default=None, description="what tables call it")
    score: str | None = Field(
        default=None, description="which of its scores counts; the first if none is named"
    )
    goal: Literal["min", "max"] | None = Field(default=None, description="min or max; as the evaluator says")
    weight: float | None = Field(
        default=None, gt=0, description="how much it counts where several are made into one number"
    )

    def entry(self, more: Mapping[str, Json]) -> dict[str, Json]:
        """What a list of evaluators would say, with other parameters where `more` has them."""
        said: dict[str, Json] = {"evaluator": self.evaluator, **({"name": self.name} if self.name else {})}
        return {**said, **self.params, **more}


Holdout = Annotated[
    tuple[dict[str, Any], ...],
    BeforeValidator(lambda value: [value] if isinstance(value, Mapping) else value),
]


class SearchSection(Params):
    """What a search does."""

    title: ClassVar[str] = "'search'"
    sampler: Annotated[SamplerSection, BeforeValidator(_named)] = Field(
        default=SamplerSection(), description="how the next point is chosen"
    )
    trials: int | None = Field(default=None, ge=1, description="how many points are tried")
    time: Annotated[float | None, BeforeValidator(_seconds)] = Field(
        default=None, gt=0, description="how long it may take, such as 2h; a batch that has begun is ended"
    )
    seed: int = Field(default=0, ge=0, description="what the points depend on")
    batch: int = Field(
        default=4, ge=1, le=256, description="how many points are chosen before the first of them is scored"
    )
    objectives: tuple[Objective, ...] = Field(min_length=1, description="evaluators, and what counts of them")
    holdout: Holdout = Field(
        default=(), description="other data for the evaluators, looked at once, at the end"
    )
    start: tuple[Literal["uniform", "each_parent", "base"] | dict[str, Any], ...] = Field(
        default=(),
        description="points of the search to begin with; average, parents and base are always scored",
    )
    prune: bool = Field(default=True, description="whether hopeless evaluations are ended early")
    allow_public_test_sets: bool = Field(
        default=False, description="search on the public test set of a benchmark all the same"
    )

    @model_validator(mode="after")
    def _consistent(self) -> SearchSection:
        if len(self.holdout) not in (0, 1, len(self.objectives)):
            raise ValueError(
                f"'holdout' has {len(self.holdout)} entries for {len(self.objectives)} objectives; "
                "write one for all, or one for each"
            )
        weighted = [one.weight is not None for one in self.objectives]
        if any(weighted) and not all(weighted):
            raise ValueError("some objectives have a weight and some have none; give one to each, or to none")
        return self

    @property
    def count(self) -> int:
        """How many numbers say how good a point is."""
        return (
            1 if len(self.objectives) == 1 or self.objectives[0].weight is not None else len(self.objectives)
        )

    @property
    def entries(self) -> list[dict[str, Json]]:
        """The evaluators of the objectives."""
        return [one.entry({}) for one in self.objectives]

    @property
    def held_out(self) -> list[dict[str, Json]]:
        """The same with the data that is looked at once; empty where there is none."""
        more = self.holdout * len(self.objectives) if len(self.holdout) == 1 else self.holdout
        return [one.entry(each) for one, each in zip(self.objectives, more, strict=False)] if more else []
