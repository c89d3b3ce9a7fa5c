"""{{ cookiecutter.name }}: in models of this type, layer ranges mean the layers of the decoder."""

from collections.abc import Iterator
from dataclasses import replace

from mergecore import Architecture, Checkpoint, Description, hookimpl
from mergecore_architectures import describe

MODEL_TYPE = "{{ cookiecutter.name }}"  # as config.json says it


def describe_decoder(checkpoint: Checkpoint) -> Description | None:
    if checkpoint.config.get("model_type") != MODEL_TYPE:
        return None  # the next one is asked
    description = describe(checkpoint)  # what the names of its tensors say
    main = next((stack for stack in description.stacks if "decoder" in stack.prefix), description.main)
    return replace(description, by="{{ cookiecutter.name }}", main=main)


@hookimpl
def mergecore_architectures() -> Iterator[Architecture]:
    yield Architecture(name="{{ cookiecutter.name }}", describe=describe_decoder, rank=10)
