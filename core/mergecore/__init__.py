"""mergecore merges pretrained language models; this is its public API, for plugins and for Python callers.

Names are imported when they are first used, so that a plugin can be listed without loading torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from mergecore.names.on_demand import on_demand
from mergecore.version import API, __version__

if TYPE_CHECKING:
    from mergecore.config.documents import Config, Configs
    from mergecore.engine.tensors import open_tensors
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
    from mergecore.output.manifest import Manifest, WrittenFile, WrittenTensor, read_manifest
    from mergecore.output.verify import VerifyReport, verify_folder
    from mergecore.pipeline import (
        Kept,
        OpenedModel,
        execute,
        merge,
        merge_state_dicts,
        merge_tensors,
        open_model,
        plan,
        planner,
        run,
        with_coefficients,
    )
    from mergecore.planning.several.checking import check_text
    from mergecore.plugins.discovery import Plugin
    from mergecore.plugins.registry import Registry
    from mergecore.types import (
        Architecture,
        Block,
        Checkpoint,
        Description,
        Evaluator,
        Executor,
        MergeMethod,
        ModelSource,
        MoeFamily,
        OutputWriter,
        Plan,
        Policy,
        Recipe,
        Sampler,
        SideFile,
        TensorGroup,
        TokenizerStrategy,
    )
    from mergecore.types.execution import RunOptions
    from mergecore.types.params import Field, NoParams, Params, PerModel, Size
    from mergecore.types.plans import Planner, PlanOptions
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "config.documents": "Config Configs",
            "engine.tensors": "open_tensors",
            "errors": "ConfigError InputError MergecoreError MergeError OutputError PluginError PolicyError",
            "files.yaml_document": "Document",
            "output.manifest": "Manifest WrittenFile WrittenTensor read_manifest",
            "output.verify": "VerifyReport verify_folder",
            "pipeline": "Kept OpenedModel execute merge merge_state_dicts merge_tensors open_model plan planner run "
            "with_coefficients",
            "planning.several.checking": "check_text",
            "plugins.discovery": "Plugin",
            "plugins.registry": "Registry",
            "types": "Architecture Block Checkpoint Description Evaluator Executor MergeMethod ModelSource "
            "MoeFamily OutputWriter Plan Policy Recipe Sampler SideFile TensorGroup TokenizerStrategy",
            "types.execution": "RunOptions",
            "types.params": "Field NoParams Params PerModel Size",
            "types.plans": "Planner PlanOptions",
        },
    )

hookimpl = pluggy.HookimplMarker("mergecore")

__all__ = [
    "API",
    "Architecture",
    "Block",
    "Checkpoint",
    "Config",
    "ConfigError",
    "Configs",
    "Description",
    "Document",
    "Evaluator",
    "Executor",
    "Field",
    "InputError",
    "Kept",
    "Manifest",
    "MergeError",
    "MergeMethod",
    "MergecoreError",
    "ModelSource",
    "MoeFamily",
    "NoParams",
    "OpenedModel",
    "OutputError",
    "OutputWriter",
    "Params",
    "PerModel",
    "Plan",
    "PlanOptions",
    "Planner",
    "Plugin",
    "PluginError",
    "Policy",
    "PolicyError",
    "Recipe",
    "Registry",
    "RunOptions",
    "Sampler",
    "SideFile",
    "Size",
    "TensorGroup",
    "TokenizerStrategy",
    "VerifyReport",
    "WrittenFile",
    "WrittenTensor",
    "__version__",
    "check_text",
    "execute",
    "hookimpl",
    "merge",
    "merge_state_dicts",
    "merge_tensors",
    "open_model",
    "open_tensors",
    "plan",
    "planner",
    "read_manifest",
    "run",
    "verify_folder",
    "with_coefficients",
]
