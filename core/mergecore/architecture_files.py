"""What a short YAML file says of the tensors of a model family; read `parse_architecture` and `refined`.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
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

from mergecore.config_errors import explained, fault
from mergecore.errors import ConfigError, Problems, did_you_mean
from mergecore.layer_stacks import find_stacks
from mergecore.settings import Filter, parse_filter
from mergecore.types import Checkpoint, Description, Json, TensorFacts, TensorInfo
from mergecore.yaml_document import Document, read_document


def _filter(value: Json) -> Filter:
    try:
        return parse_filter(value) or Filter("*", lambda name, role: True)
    except ConfigError as error:
        raise fault(error) from None


def _role(value: Json) -> Json:
    if isinstance(value, str) and not _ROLE.fullmatch(value):
        what = f"'{value}' is no role; words with dots between them are expected, such as attn.q"
        raise fault(ConfigError("E105", what))
    return value


_ROLE = re.compile(r"\w+(\.\w+)*", re.ASCII)


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    title: ClassVar[str]


class Matching(_Part):
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


class TensorRule(_Part):
    """What is true of the tensors that a filter matches."""

    title = "a rule for tensors"
    filter: Annotated[Filter, PlainValidator(_filter), WithJsonSchema({"type": "string"})]
    role: Annotated[str, BeforeValidator(_role)] | None = None
    vocabulary_axis: Annotated[int, Field(ge=0)] | None = None
    after: bool | None = Field(default=None, description="applied after the layers, as a final norm is")


class ArchitectureFile(_Part):
    """What is known of a model family."""

    title = "an architecture"
    match: Matching = Matching()
    layers: str | None = Field(default=None, description="prefix of the layers that layer ranges mean")
    layer_count_key: str | None = Field(default=None, description="where config.json counts them, with dots")
    tied: dict[str, str] = Field(
        default={}, description="names that may be missing, and what stands for them"
    )
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
        faults = [explained(one, document, ArchitectureFile, "", None) for one in error.errors()]
        raise faults[0] if len(faults) == 1 else Problems(faults) from None


def refined(description: Description, checkpoint: Checkpoint, known: ArchitectureFile) -> Description:
    """The description with what a file says; the same one when the file is for other models.

    Raises:
        ConfigError: E105 when the file speaks of layers that the model does not have.
    """
    if not known.match.accepts(checkpoint.config):
        return description
    main, key = description.main, description.layer_count_key
    if known.layers is not None:
        main = next((one for one in find_stacks(checkpoint.tensors) if one.prefix == known.layers), None)
        if main is None:
            stacks = ", ".join(stack.prefix for stack in description.stacks) or "none"
            what = f"{checkpoint.name} has no layers '{known.layers}'"
            raise ConfigError("E105", what, hint=f"its stacks: {stacks}")
    if known.layer_count_key is not None:
        key = tuple(known.layer_count_key.split("."))
        _check_key(key, checkpoint)
    names = checkpoint.tensors
    tied = {name: other for name, other in known.tied.items() if name not in names and other in names}
    return replace(
        description,
        main=main,
        layer_count_key=key,
        tied={**description.tied, **tied},
        tensors={
            name: _facts(checkpoint.tensors[name], one, known) for name, one in description.tensors.items()
        },
    )


def _check_key(key: tuple[str, ...], checkpoint: Checkpoint) -> None:
    """Raise E105 when the config of a model does not have the key."""
    found: Json = dict(checkpoint.config)
    for word in key:
        known = list(found) if isinstance(found, dict) else []
        if not isinstance(found, dict) or word not in found:
            what = f"the config of {checkpoint.name} has no '{'.'.join(key)}'{did_you_mean(word, known)}"
            raise ConfigError(
                "E105", what, hint="'layer_count_key' is the key that holds the number of layers"
            )
        found = found[word]


def said_in_vain(known: ArchitectureFile, models: Sequence[Checkpoint]) -> Iterator[str]:
    """A sentence for everything in a file that is true of none of the models."""
    meant = [model for model in models if known.match.accepts(model.config)]
    if not meant:
        kinds = ", ".join((*known.match.model_type, *known.match.architectures))
        yield f"what 'architecture' says of {kinds} is for none of these models"
        return
    names = {name for model in meant for name in model.tensors}
    for rule in known.tensors:
        of_role = rule.filter.text.startswith("role:")
        if not of_role and not any(rule.filter.matches(name, "") for name in names):
            yield f"'architecture': the filter '{rule.filter.text}' matches no tensor"
    for name, other in known.tied.items():
        if name not in names and other not in names:
            yield f"'architecture': there is neither '{name}' nor '{other}' to be tied"


def _facts(tensor: TensorInfo, facts: TensorFacts, known: ArchitectureFile) -> TensorFacts:
    rule = next((rule for rule in known.tensors if rule.filter.matches(tensor.name, facts.role)), None)
    if rule is None:
        return facts
    if (rule.vocabulary_axis or 0) >= len(tensor.shape):
        what = f"'{tensor.name}' has the shape {list(tensor.shape)}, and no axis {rule.vocabulary_axis}"
        raise ConfigError("E105", what, hint="'vocabulary_axis' counts from 0")
    return replace(
        facts,
        role=facts.role if rule.role is None else rule.role,
        vocabulary_axis=facts.vocabulary_axis if rule.vocabulary_axis is None else rule.vocabulary_axis,
        after=facts.after if rule.after is None else rule.after,
    )
