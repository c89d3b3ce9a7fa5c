"""mergecore merges pretrained language models; this is its public API, for plugins and for Python callers.

Names are imported when they are first used, so that a plugin can be listed without loading torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from mergecore.compiling import PlanOptions
    from mergecore.engine import Block, TensorGroup
    from mergecore.errors import (
        ConfigError,
        InputError,
        MergecoreError,
        MergeError,
        OutputError,
        PluginError,
        PolicyError,
    )
    from mergecore.params import Field, Params, PerModel
    from mergecore.pipeline import RunOptions, execute, merge, plan
    from mergecore.plugins import Registry
    from mergecore.types import (
        Architecture,
        Checkpoint,
        Description,
        Executor,
        MergeMethod,
        ModelSource,
        OutputWriter,
        Plan,
        Recipe,
        TokenizerStrategy,
    )

__version__ = "0.1.0"

API = 1
"""Raised when plugins written for an older mergecore stop working; a plugin may state `MERGECORE_API = 1`."""

hookimpl = pluggy.HookimplMarker("mergecore")

_HOME = {
    "Architecture": "types",
    "Block": "engine",
    "Checkpoint": "types",
    "ConfigError": "errors",
    "Description": "types",
    "Executor": "types",
    "Field": "params",
    "InputError": "errors",
    "MergeError": "errors",
    "MergeMethod": "types",
    "MergecoreError": "errors",
    "ModelSource": "types",
    "OutputError": "errors",
    "OutputWriter": "types",
    "Params": "params",
    "PerModel": "params",
    "Plan": "types",
    "PlanOptions": "compiling",
    "PluginError": "errors",
    "PolicyError": "errors",
    "Recipe": "types",
    "Registry": "plugins",
    "RunOptions": "pipeline",
    "TensorGroup": "engine",
    "TokenizerStrategy": "types",
    "execute": "pipeline",
    "merge": "pipeline",
    "plan": "pipeline",
}

__all__ = [
    "API",
    "Architecture",
    "Block",
    "Checkpoint",
    "ConfigError",
    "Description",
    "Executor",
    "Field",
    "InputError",
    "MergeError",
    "MergeMethod",
    "MergecoreError",
    "ModelSource",
    "OutputError",
    "OutputWriter",
    "Params",
    "PerModel",
    "Plan",
    "PlanOptions",
    "PluginError",
    "PolicyError",
    "Recipe",
    "Registry",
    "RunOptions",
    "TensorGroup",
    "TokenizerStrategy",
    "__version__",
    "execute",
    "hookimpl",
    "merge",
    "plan",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'mergecore' has no attribute '{name}'")
    return getattr(import_module(f"mergecore.{_HOME[name]}"), name)
