"""What several tests of distributed checkpoints share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergecore import MergecoreError, Plan, plan
from mergecore.errors import Problems

HEAD, NORM, QUERY = "lm_head.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.weight"


CUTS = {HEAD: [[3, 5]], QUERY: [[1, 3], [2]], "model.layers.0.mlp.up_proj.weight": [[], [1, 2]]}


def copied(folder: Path) -> Plan:
    return plan({"merge_method": "passthrough", "models": [{"model": str(folder)}]})


def refused(folder: Path) -> list[str]:
    with pytest.raises(MergecoreError) as caught:
        copied(folder)
    errors = caught.value.errors if isinstance(caught.value, Problems) else [caught.value]
    return [f"{one.code} {one}" for one in errors]
