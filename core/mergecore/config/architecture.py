"""What a short YAML file says about the tensors of a model family; read `parse_architecture` and `refined`.

::

    match: {model_type: acme}
    layers: blocks.
    layer_count_key: text.n_blocks
    tied: {head.weight: tok.weight}
    tensors:
      - {filter: "re:q_weird$", role: attn.q}
      - {filter: tok.weight, role: embed, vocabulary_axis: 0}

It adds to what a describer finds in the names, and puts it right; it cannot take a tensor away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)

from mergecore.config.messages import complaints, explained, fault
from mergecore.config.parameters.filters import Filter, parse_filter
from mergecore.errors import ConfigError, Problems
from mergecore.files.yaml_document import Document, read_document
from mergecore.types import Json


def _filter(value: Json) -> Filter:
    try:
        return parse_filter(value) or Filter("*", lambda name, role: True)
    except ConfigError as error:
        raise fault(error) from None


def _role(value: Json) -> Json:
    if isinstance(value, str) and not _ROLE.fullmatch(value):
        what = f"'{value}' is not a role; words with dots between them are expected, such as attn.q"
        raise fault(ConfigError("E105", what))
    return value


_ROLE = re.compile(r"\w+(\.\w+)*", re.ASCII)


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    title: ClassVar[str]


class Matching(_Section):
    """The models that a file is for: all conditions that are given hold."""

    title = "the conditions"
    model_type: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    architectures: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()

    def accepts(self, config: Mapping[str, Json]) -> bool:
        """Whether a config.json is that of such a model."""
        named = config.get("architectures")
        classes = {str(one) for one in named} if isinstance(named, list) else set()
        return (not self.model_type or str(config.get("model_type")) in self.model_type) and (
            not self.architectures or not classes.isdisjoint(self.architectures)
        )


class TensorRule(_Section):
    """What is true of the tensors that a filter matches."""

    title = "a rule for tensors"
    filter: Annotated[Filter, PlainValidator(_filter), WithJsonSchema({"type": "string"})]
    role: Annotated[str, BeforeValidator(_role)] | None = None
    vocabulary_axis: Annotated[int, Field(ge=0)] | None = None
    after: bool | None = Field(default=None, description="applied after the layers, as a final norm is")


class ArchitectureFile(_Section):
    """What is known about a model family."""

    title = "an architecture"
    match: Matching = Matching()
    layers: str | None = Field(default=None, description="prefix of the layers that layer ranges mean")
    layer_count_key: str | None = Field(default=None, description="where config.json counts them, with dots")
    tied: dict[str, str] = Field(default={}, description="names that may be missing, and what replaces them")
    tensors: tuple[TensorRule, ...] = Field(default=(), description="the first rule that matches counts")

    def as_json(self) -> dict[str, Json]:
        """What was written, as plain values."""
        given = self.model_dump(exclude_unset=True, exclude={"tensors"}, mode="json")
        rules: list[Json] = [
            {**rule.model_dump(exclude_unset=True, exclude={"filter"}), "filter": rule.filter.text}
            for rule in self.tensors
        ]
        return {**given, **({"tensors": rules} if rules else {})}


def read_architecture(path: Path) -> ArchitectureFile:
    """The architecture in a YAML file.

    Raises:
        ConfigError: what `read_document` and `parse_architecture` raise.
    """
    return parse_architecture(read_document(path))


def parse_architecture(document: Document) -> ArchitectureFile:
    """The architecture that a document describes.

    Raises:
        ConfigError: E103 to E105, with places; several as `Problems`.
    """
    try:
        return ArchitectureFile.model_validate(dict(document.data))
    except ValidationError as error:
        faults = [explained(one, document, ArchitectureFile, "", None) for one in complaints(error)]
        raise faults[0] if len(faults) == 1 else Problems(faults) from None
