"""A checkpoint as transformers holds it: names of modules and parameters, and what each module is; read `loaded`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mergecore.types import Checkpoint, Loaded, LoadedModule, ModuleKind
from mergecore_architectures.transformers_keys import in_the_model, put_together
from mergecore_architectures.transformers_models import CannotBuildError, MetaModel, build

if TYPE_CHECKING:
    from torch import nn


def loaded(checkpoint: Checkpoint, like: Checkpoint) -> Loaded | None:
    """What transformers makes of a checkpoint by the class that the config of `like` names; None where it has none."""
    try:
        model = build(like.config)
        runs = in_the_model(model, checkpoint.tensors)
    except CannotBuildError:
        return None
    if len(runs) < len(model.shapes) / 2:
        return None
    tensors = {}
    for name, one in runs.items():
        if made := put_together(name, one.shape, one.runs, checkpoint.tensors):
            tensors[name] = made
    ties = {name: other for name, other in _ties(model) if name not in tensors and other in tensors}
    return Loaded({one.name: one for one in _modules(model.model)}, tensors, ties)


def _ties(model: MetaModel) -> Iterator[tuple[str, str]]:
    for name, other in model.ties.items():
        yield name, other
        yield other, name


def _modules(model: nn.Module) -> Iterator[LoadedModule]:
    own = {
        name: tuple(one for one, _ in module.named_parameters(recurse=False))
        for name, module in model.named_modules()
    }
    for name, module in model.named_modules():
        if own[name]:
            inside = tuple(one for one in own if own[one] and one != name and _is_inside(one, name))
            first = bool(getattr(module, "is_transposed", False))
            yield LoadedModule(name, _kind(module), own[name], inside, first)


def _is_inside(name: str, outer: str) -> bool:
    return not outer or name.startswith(f"{outer}.")


def _kind(module: nn.Module) -> ModuleKind:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, nn.Embedding):
        return "embedding"
    if isinstance(module, Conv1D):
        return "transposed"
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return "convolution" if module.groups == 1 else "other"
    if any(one.ndim == 3 and one.shape[0] > 1 for one in module.parameters(recurse=False)):
        return "experts"
    return "other"
