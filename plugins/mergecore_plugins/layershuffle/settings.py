"""What a document of a shuffle says; read `ShuffleDocument`."""

from __future__ import annotations

from typing import ClassVar

from mergecore import Field, Params
from mergecore.config import Reference


class Shuffled(Params):
    """A model whose layers take part, and how often they are drawn."""

    title: ClassVar[str] = "a model of a shuffle"
    model: Reference = Field(description="a model whose layers take part")
    weight: float = Field(
        default=1.0, ge=0, description="chance of its layers; with full_random, how many it gives, as a share"
    )


class Shuffle(Params):
    """The models that layers are drawn from."""

    title: ClassVar[str] = "a shuffle of layers"
    models: tuple[Shuffled, ...] = Field(description="the models that layers are drawn from")
    full_random: bool = Field(default=False, description="draw which layers, too, and put them in any order")


class ShuffleDocument(Params):
    """A whole document, but for what every document may say."""

    title: ClassVar[str] = "the document of a shuffle"
    layershuffle: Shuffle = Field(description="the models, and how their layers are shuffled")
    dtype: str | None = Field(default=None, description="precision of the output, as in a merge config")
    out_dtype: str | None = Field(
        default=None, description="precision of what is written, as in a merge config"
    )
    tokenizer_source: str | None = Field(default=None, description="whose vocabulary the output has")
    chat_template: str | None = Field(default=None, description="the chat template, as in a merge config")
