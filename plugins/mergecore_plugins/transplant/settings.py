"""What a document of a transplant says; read `TransplantDocument`."""

from __future__ import annotations

from pydantic import Field, ValidationError

from mergecore import Document, Registry
from mergecore.config.chosen import check_chosen
from mergecore.config.grammar import OutputConfig, Part
from mergecore.config.messages import explained
from mergecore.config.values import ChatTemplate, Reference
from mergecore.errors import Collector, ConfigError
from mergecore_plugins.transplant.methods import FillParams, Method, Metric, Pieces, Weights


class Transplant(Part):
    """Who gets the tokenizer of whom, and how the rows of its tokens are made."""

    title = "a transplant"
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
        """What the method is told."""
        return FillParams(**{name: getattr(self, name) for name in FillParams.model_fields})


class TransplantDocument(Part):
    """A whole document."""

    title = "the document of a transplant"
    transplant: Transplant
    name: str | None = None
    seed: int = Field(default=0, ge=0)
    chat_template: ChatTemplate | None = None
    output: OutputConfig = OutputConfig()


def read_settings(document: Document, registry: Registry, doubts: list[ConfigError]) -> TransplantDocument:
    """The settings in a document; `doubts` takes what may be another thing than it looks like.

    Raises:
        ConfigError: E103 to E105, E109, E112, with places; several as `Problems`.
    """
    problems = Collector()
    check_chosen(document, registry, {"output": OutputConfig.model_fields}, problems, doubts)
    try:
        settings = TransplantDocument.model_validate(dict(document.data))
        problems.raise_any()
        return settings
    except ValidationError as error:
        for detail in error.errors():
            problems.add(explained(detail, document, TransplantDocument, "transplant", None))
    problems.raise_any()
    raise AssertionError("what pydantic refuses is an error")
