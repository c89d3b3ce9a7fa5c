"""What a document of a transplant says; read `TransplantDocument`."""

from __future__ import annotations

from typing import ClassVar

from mergecore import Field, Params
from mergecore.config import Reference
from mergecore_plugins.transplant.methods import FillParams, Method, Metric, Pieces, Weights


class Transplant(Params):
    """Who gets the tokenizer of whom, and how the rows of its tokens are made."""

    title: ClassVar[str] = "a transplant"
    model: Reference = Field(description="the model that gets another vocabulary")
    donor: Reference = Field(description="the model whose tokenizer it gets")
    method: Method = Field(default="omp", description="how the rows of tokens that the model lacks are made")
    k: int = Field(
        default=64, ge=1, description="omp, common_interpolation: shared tokens that a row is made of"
    )
    center: bool = Field(default=True, description="omp: subtract the mean of the rows first")
    ridge: float = Field(default=0.0, ge=0, description="omp: penalty on large weights; 0.1 is a strong one")
    metric: Metric = Field(default="cosine", description="common_interpolation: how tokens are compared")
    weights: Weights = Field(
        default="distance", description="common_interpolation: how the nearest tokens are weighted"
    )
    pieces: Pieces = Field(
        default="mean", description="subword: how the rows of the pieces of a token are combined"
    )
    pad_to_multiple_of: int | None = Field(
        default=None, ge=1, description="add rows until their number is a multiple of this"
    )

    @property
    def params(self) -> FillParams:
        """The parameters of the method."""
        return FillParams(**{name: getattr(self, name) for name in FillParams.model_fields})


class TransplantDocument(Params):
    """A whole document, but for what every document may say."""

    title: ClassVar[str] = "the document of a transplant"
    transplant: Transplant = Field(description="the model, and the vocabulary that it gets")
    chat_template: str | None = Field(default=None, description="the chat template, as in a merge config")
