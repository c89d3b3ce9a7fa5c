"""What the files of a config know about a family, added to a description."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from mergecore.config.architecture import ArchitectureFile, parse_architecture
from mergecore.errors import ConfigError, did_you_mean
from mergecore.files.yaml_document import parse_document
from mergecore.models.layers import find_stacks
from mergecore.types import Checkpoint, Description, Json, TensorFacts, TensorInfo


def refinement(
    text: str, file: str
) -> Callable[[Checkpoint, Callable[[Checkpoint], Description]], Description | None]:
    """What a YAML file of that text knows about a family, as a function that describes its models.

    It gets a checkpoint and what describes it without the file, and returns None for models the file is not for.

    Raises:
        ConfigError: E103 to E105 and what is wrong with the YAML, with places in `file`; several as `Problems`.
    """
    known = parse_architecture(parse_document(text, file))

    def describe(checkpoint: Checkpoint, plain: Callable[[Checkpoint], Description]) -> Description | None:
        return (
            refined(plain(checkpoint), checkpoint, known) if known.match.accepts(checkpoint.config) else None
        )

    return describe


def refined(description: Description, checkpoint: Checkpoint, known: ArchitectureFile) -> Description:
    """The description with what a file says; the same one when the file is for other models.

    Raises:
        ConfigError: E105 when the file names layers that the model does not have.
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


def unused_rules(known: ArchitectureFile, models: Sequence[Checkpoint]) -> Iterator[str]:
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
