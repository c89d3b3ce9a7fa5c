"""The modules of a model as far as the names and shapes of its tensors show them; read `loaded`."""

from __future__ import annotations

from mergecore.types import Checkpoint, Loaded, LoadedModule, ModuleKind
from mergecore_architectures.roles import outer_role


def loaded(checkpoint: Checkpoint, like: Checkpoint) -> Loaded:
    """The modules that the names have, each matrix called `weight` a linear layer, or embeddings."""
    found: dict[str, list[str]] = {}
    for name in checkpoint.tensors:
        module, _, parameter = name.rpartition(".")
        found.setdefault(module, []).append(parameter)
    modules = {}
    for name, parameters in found.items():
        weight = checkpoint.tensors.get(f"{name}.weight")
        kind: ModuleKind = "other"
        if weight is not None and len(weight.shape) == 2:
            kind = "embedding" if outer_role(weight.name).startswith("embed") else "linear"
        inside = tuple(one for one in found if one != name and one.startswith(f"{name}." if name else ""))
        modules[name] = LoadedModule(name, kind, tuple(parameters), inside)
    return Loaded(modules, checkpoint.tensors)
