"""mergecore merges pretrained language models; this is its public API, for plugins and for Python callers.

Names are imported when they are first used, so that a plugin can be listed without loading torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pluggy

from mergecore.version import API, __version__

if TYPE_CHECKING:
    from mergecore.errors import (
        ConfigError,
        InputError,
        MergecoreError,
        MergeError,
        OutputError,
        PluginError,
        PolicyError,
    )
    from mergecore.files.yaml_document import Document
    from mergecore.pipeline import execute, merge, plan, planner, run
    from mergecore.plugins.registry import Registry
    from mergecore.types import (
        Architecture,
        Block,
        Checkpoint,
        Description,
        Executor,
        MergeMethod,
        ModelSource,
        OutputWriter,
        Plan,
        Recipe,
        SideFile,
        TensorGroup,
        TokenizerStrategy,
    )
    from mergecore.types.execution import RunOptions
    from mergecore.types.params import Field, NoParams, Params, PerModel, Size
    from mergecore.types.plans import Planner, PlanOptions

hookimpl = pluggy.HookimplMarker("mergecore")

_HOME = {
    "Architecture": "types",
    "Block": "types.groups",
    "Checkpoint": "types",
    "ConfigError": "errors",
    "Description": "types",
    "Document": "files.yaml_document",
    "Executor": "types",
    "Field": "types.params",
    "InputError": "errors",
    "MergeError": "errors",
    "MergeMethod": "types",
    "MergecoreError": "errors",
    "ModelSource": "types",
    "NoParams": "types.params",
    "OutputError": "errors",
    "OutputWriter": "types",
    "Params": "types.params",
    "PerModel": "types.params",
    "Plan": "types",
    "PlanOptions": "types.plans",
    "Planner": "types.plans",
    "PluginError": "errors",
    "PolicyError": "errors",
    "Recipe": "types",
    "Registry": "plugins",
    "RunOptions": "types.execution",
    "SideFile": "types",
    "Size": "types.params",
    "TensorGroup": "types.groups",
    "TokenizerStrategy": "types",
    "execute": "pipeline",
    "run": "pipeline",
    "merge": "pipeline",
    "plan": "pipeline",
    "planner": "pipeline",
}

__all__ = [
    "API",
    "Architecture",
    "Block",
    "Checkpoint",
    "ConfigError",
    "Description",
    "Document",
    "Executor",
    "Field",
    "InputError",
    "MergeError",
    "MergeMethod",
    "MergecoreError",
    "ModelSource",
    "NoParams",
    "OutputError",
    "OutputWriter",
    "Params",
    "PerModel",
    "Plan",
    "PlanOptions",
    "Planner",
    "PluginError",
    "PolicyError",
    "Recipe",
    "Registry",
    "RunOptions",
    "SideFile",
    "Size",
    "TensorGroup",
    "TokenizerStrategy",
    "__version__",
    "execute",
    "hookimpl",
    "merge",
    "plan",
    "planner",
    "run",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'mergecore' has no attribute '{name}'")
    return getattr(import_module(f"mergecore.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
