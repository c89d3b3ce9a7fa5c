"""What a document of a transplant says; read `TransplantDocument`."""

from __future__ import annotations

from typing import ClassVar

from mergecore import Field, Params
from mergecore.config import Reference
from mergecore_plugins.transplant.methods import FillParams, Method, Metric, Pieces, Weights


class Transplant(Params):
    """Who gets the tokenizer of whom, and how the rows of its tokens are made."""

    title: ClassVar[str] = "a transplant"
    model: Reference
    donor: Reference
    method: Method = "omp"
    k: int = Field(default=64, ge=1)
    center: bool = True
    ridge: float = Field(default=0.0, ge=0)
    metric: Metric = "cosine"
    weights: Weights = "distance"
    pieces: Pieces = "mean"
    pad_to_multiple_of: int | None = Field(default=None, ge=1)

    @property
    def params(self) -> FillParams:
        """The parameters of the method."""
        return FillParams(**{name: getattr(self, name) for name in FillParams.model_fields})


class TransplantDocument(Params):
    """A whole document, but for what every document may say."""

    title: ClassVar[str] = "the document of a transplant"
    transplant: Transplant = Field(description="the model, and the vocabulary that it gets")
    chat_template: str | None = Field(default=None, description="the chat template, as in a merge config")
