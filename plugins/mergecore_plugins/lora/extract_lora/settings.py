"""What a document of an extraction says; read `Extraction`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from mergecore import Field, Params
from mergecore.config import Reference

Rank = Annotated[int, Field(ge=1)] | Literal["full"]
Formats = Literal["float32", "float16", "bfloat16"]
HEADER = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class Extraction(Params):
    """What is taken out of which model, and how much of it."""

    title: ClassVar[str] = "an extraction"
    finetuned: Reference
    base: Reference
    rank: Rank = Field(default=32, description="the most singular values of a change that are kept")
    rank_pattern: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={},
        description="ranks by name of module or pattern; the first that fits counts, 0 leaves it out",
    )
    include: tuple[str, ...] = Field(
        default=(), description="names, patterns or roles; all others are left out"
    )
    exclude: tuple[str, ...] = Field(default=(), description="names, patterns or roles that are left out")
    embeddings: Literal["lora", "save", "skip"] = Field(
        default="lora", description="whether embeddings are factored, stored whole, or left out"
    )
    only_linear: bool = Field(default=False, description="leave out all but the weights of linear layers")
    method: Literal["auto", "exact", "randomised"] = Field(
        default="auto", description="how singular values are found"
    )
    dtype: Formats = Field(default="float32", description="of the factors")
    base_name: str = Field(
        default="", description="what the adapter calls its base; else the base as it is named here"
    )
    only_facts: bool = Field(
        default=False, description="make no adapter, only look how large the changes are"
    )


class ExtractionDocument(Params):
    """A whole document, but for what every document may say."""

    title: ClassVar[str] = "the document of an extraction"
    extract_lora: Extraction = Field(description="what is extracted, and how")
