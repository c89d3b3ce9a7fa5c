"""The command line; read `app` first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.cli.app import main
    from mergecore.cli.making import Maker, making_options
    from mergecore.cli.mergekit.command import ForeignCommand, ForeignOptions
    from mergecore.cli.mergekit.shared import SHARED
    from mergecore.cli.options import common_options, output_options, run_options, size_options
    from mergecore.cli.reports import (
        MergeFacts,
        PlanFacts,
        ReportCommand,
        check_report,
        command_line,
        write_report,
    )
    from mergecore.cli.screen import GroupedCommand, show_text
    from mergecore.cli.show_methods import method_as_json
    from mergecore.cli.show_plan import plan_shown
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "app": "main",
            "mergekit.command": "ForeignCommand ForeignOptions",
            "mergekit.shared": "SHARED",
            "making": "Maker making_options",
            "options": "common_options output_options run_options size_options",
            "reports": "MergeFacts PlanFacts ReportCommand check_report command_line write_report",
            "screen": "GroupedCommand show_text",
            "show_methods": "method_as_json",
            "show_plan": "plan_shown",
        },
    )

__all__ = [
    "SHARED",
    "ForeignCommand",
    "ForeignOptions",
    "GroupedCommand",
    "Maker",
    "MergeFacts",
    "PlanFacts",
    "ReportCommand",
    "check_report",
    "command_line",
    "common_options",
    "main",
    "making_options",
    "method_as_json",
    "output_options",
    "plan_shown",
    "run_options",
    "show_text",
    "size_options",
    "write_report",
]
