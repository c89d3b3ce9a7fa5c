"""What a config or a run is refused for, and runs that stop on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tiny import registry

from mergecore import RunOptions, merge, plan
from mergecore.errors import MergecoreError, Problems
from mergecore.types import Event, Json, StepDone


def refused(config: Mapping[str, Json]) -> list[str]:
    """Every error that planning `config` ends with, its code first."""
    with pytest.raises(MergecoreError) as caught:
        plan(config, registry=registry())
    errors = caught.value.errors if isinstance(caught.value, Problems) else (caught.value,)
    return [f"{one.code} {one}" for one in errors]


def refusal(work: Callable[[], object]) -> str:
    """The error that `work` ends with, its code first."""
    with pytest.raises(MergecoreError) as caught:
        work()
    return f"{caught.value.code} {caught.value}"


def interrupt(config: Mapping[str, Json], out: Path) -> None:
    """A run that stops after its first tensor."""

    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(config, out, progress=stop, run_options=RunOptions(threads=1))
