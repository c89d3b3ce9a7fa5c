"""A model that is opened to look into it, outside of any merge; read `open_model`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mergecore.errors import ConfigError, did_you_mean
from mergecore.pipeline.plans import planner
from mergecore.plugins.registry import Registry
from mergecore.types import Checkpoint, ModelReference, TensorInput
from mergecore.types.groups import Matrix
from mergecore.types.plans import PlanOptions


class OpenedModel(Mapping[str, Matrix]):
    """The tensors of a model by name, each read when it is asked for its numbers: by rows, or whole."""

    def __init__(self, checkpoint: Checkpoint, tensors: Mapping[str, Matrix]) -> None:
        self.checkpoint = checkpoint
        """Its headers, its config and its side files."""
        self._tensors = tensors

    def __getitem__(self, name: str) -> Matrix:
        """A tensor, of which nothing has been read yet.

        Raises:
            KeyError: for a name that the model does not have.
        """
        if name not in self.checkpoint.tensors:
            near = did_you_mean(name, list(self.checkpoint.tensors))
            raise KeyError(f"{self.checkpoint.name} has no tensor '{name}'{near}")
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.checkpoint.tensors)

    def __len__(self) -> int:
        return len(self.checkpoint.tensors)


@contextmanager
def open_model(
    model: Path | str | ModelReference,
    *,
    registry: Registry | None = None,
    options: PlanOptions | None = None,
) -> Iterator[OpenedModel]:
    """A model, named as in a config, whose tensors are read lazily; its files are open until the `with` ends.

    Weights of the hub are downloaded first, unless `options` say `offline`.  Numbers come as they are stored, NaN
    among them; those of an adapter on a base, or of another computed tensor, are computed while they are read.

    Raises:
        MergecoreError: E701 when no source opens it; what is wrong with the model.
    """
    from mergecore.engine.tensors import open_tensors  # it loads torch

    if not isinstance(model, os.PathLike | str | ModelReference):
        raise ConfigError(
            "E104", f"the model is a {type(model).__name__}; a path or the name of one is expected"
        )
    named = os.fspath(model) if isinstance(model, os.PathLike) else model
    checkpoint = planner(registry=registry, options=options).open(named)
    inputs = {name: TensorInput(0, one) for name, one in checkpoint.tensors.items()}
    with open_tensors([checkpoint], inputs, allow_nonfinite=True) as tensors:
        yield OpenedModel(checkpoint, tensors)
