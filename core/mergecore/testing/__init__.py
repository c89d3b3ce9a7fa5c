"""For the tests of plugins: checks of every kind, tiny models to merge, and a registry of chosen plugins.

Names are loaded when they are first used: pytest imports `mergecore.testing.pytest_plugin` wherever mergecore is
installed, and must not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.testing.checkpoints import TinyFamily, tiny_model
    from mergecore.testing.findings import Finding, Outcome
    from mergecore.testing.kinds.architectures import check_architecture
    from mergecore.testing.kinds.commands import check_command
    from mergecore.testing.kinds.evaluators import check_evaluator
    from mergecore.testing.kinds.executors import check_executor
    from mergecore.testing.kinds.mixtures import check_moe_family
    from mergecore.testing.kinds.policies import check_policy
    from mergecore.testing.kinds.recipes import check_recipe
    from mergecore.testing.kinds.reporters import check_reporter
    from mergecore.testing.kinds.samplers import check_sampler
    from mergecore.testing.kinds.side_files import check_side_file
    from mergecore.testing.kinds.sources import check_source
    from mergecore.testing.kinds.vocabularies import check_tokenizer_strategy
    from mergecore.testing.kinds.writers import check_writer
    from mergecore.testing.methods.checks import check_method
    from mergecore.testing.methods.running import run_method, run_model
    from mergecore.testing.plugins import findings_of
    from mergecore.testing.registries import registry_of
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "kinds.architectures": "check_architecture",
            "checkpoints": "TinyFamily tiny_model",
            "findings": "Finding Outcome",
            "methods.checks": "check_method",
            "methods.running": "run_method run_model",
            "plugins": "findings_of",
            "registries": "registry_of",
            "kinds.commands": "check_command",
            "kinds.evaluators": "check_evaluator",
            "kinds.executors": "check_executor",
            "kinds.mixtures": "check_moe_family",
            "kinds.policies": "check_policy",
            "kinds.recipes": "check_recipe",
            "kinds.reporters": "check_reporter",
            "kinds.samplers": "check_sampler",
            "kinds.side_files": "check_side_file",
            "kinds.sources": "check_source",
            "kinds.vocabularies": "check_tokenizer_strategy",
            "kinds.writers": "check_writer",
        },
    )

__all__ = [
    "Finding",
    "Outcome",
    "TinyFamily",
    "check_architecture",
    "check_command",
    "check_evaluator",
    "check_executor",
    "check_method",
    "check_moe_family",
    "check_policy",
    "check_recipe",
    "check_reporter",
    "check_sampler",
    "check_side_file",
    "check_source",
    "check_tokenizer_strategy",
    "check_writer",
    "findings_of",
    "registry_of",
    "run_method",
    "run_model",
    "tiny_model",
]
