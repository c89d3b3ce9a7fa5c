"""What a document of a mixture of experts says; read `MoeDocument`.  The grammar is that of mergekit-moe."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from mergecore import Field, Params
from mergecore.config import Dtype, Reference
from mergecore_plugins.moe.gating.settings import GateKeys, PromptKeys


class Expert(PromptKeys):
    """A model whose feed-forward blocks are an expert, and what is done to them."""

    title: ClassVar[str] = "an expert"
    source_model: Reference = Field(description="the model whose feed-forward blocks it gets")
    noise_scale: float | None = Field(
        default=None, ge=0, description="standard deviation of normal noise that is added to its weights"
    )
    residual_scale: float | None = Field(
        default=None, description="a factor of what it adds to the stream: its down projection is multiplied"
    )


class MoeDocument(GateKeys):
    """A whole document, but for what every document may say."""

    title: ClassVar[str] = "the document of a mixture of experts"
    base_model: Reference = Field(description="the model that gives all but the experts")
    experts: tuple[Expert, ...] = Field(min_length=1, description="the routed experts, in order")
    shared_experts: tuple[Expert, ...] | None = Field(
        default=None, description="experts that see every token, where the family has such"
    )
    dtype: Dtype | None = Field(default=None, description="precision of the output; else that of the base")
    experts_per_token: int = Field(default=2, ge=1, description="how many experts see a token")
    architecture: str | None = Field(
        default=None, description="the family, or the beginning of its name; else the first that fits"
    )
    layout: Literal["hub", "fused"] = Field(
        default="hub",
        description="tensors as they are published, or as transformers 5 holds them in memory",
    )
    allow_identical: bool = Field(
        default=False, description="make a mixture whose experts are all the same, to be trained further"
    )
    check: bool = Field(
        default=True, description="compare the class of the family with that of the base, at a tiny size"
    )


class Pick(Params):
    """Which experts of a mixture are kept."""

    title: ClassVar[str] = "a choice of experts"
    model: Reference = Field(description="the mixture")
    keep: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, description="numbers of the experts that are kept, in the order that they get"
    )
    drop: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, description="numbers of the experts that are left out"
    )
    experts_per_token: int | None = Field(
        default=None, ge=1, description="how many experts see a token; as before, if that many are left"
    )


class PickDocument(Params):
    """A whole document, but for what every document may say."""

    title: ClassVar[str] = "the document of a choice of experts"
    pick_experts: Pick = Field(description="the mixture, and which of its experts are kept")
