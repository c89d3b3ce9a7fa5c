"""The hooks, and the plugins that implement them: found, loaded, asked by name; read `hookspecs`, then `registry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.plugins.discovery import canonical
    from mergecore.plugins.limited import registry_of
    from mergecore.plugins.registry import WORD_OF, Plugin, Registry
    from mergecore.plugins.session import in_session
    from mergecore.plugins.streams import keep_descriptor_for_results
    from mergecore.plugins.values import unplaced_parts
    from mergecore.plugins.words import first_line, module_of, needs, summary_of
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "discovery": "canonical",
            "limited": "registry_of",
            "registry": "WORD_OF Plugin Registry",
            "session": "in_session",
            "streams": "keep_descriptor_for_results",
            "values": "unplaced_parts",
            "words": "first_line module_of needs summary_of",
        },
    )

__all__ = [
    "WORD_OF",
    "Plugin",
    "Registry",
    "canonical",
    "first_line",
    "in_session",
    "keep_descriptor_for_results",
    "module_of",
    "needs",
    "registry_of",
    "summary_of",
    "unplaced_parts",
]
