"""What `mergecore plan` shows of a mixture before it is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from fixture_types import Cli
from tiny_moe import build, document

Dense = Callable[..., Path]


def test_a_plan_says_what_mixture_is_made(dense: Dense, tmp_path: Path, cli: Cli) -> None:
    said = document(dense("qwen2"), dense("qwen2"), dense("qwen2", 1), shared=dense("qwen2"))
    written = tmp_path / "moe.yml"
    written.write_text(yaml.safe_dump({**said, "gate_mode": "uniform_random", "layout": "fused"}))
    shown = cli("plan", str(written)).out
    for line in (
        "  family: qwen2_moe",
        "  class: Qwen2MoeForCausalLM",
        "  experts: 2",
        "  shared experts: 1",
        "  experts per token: 2",
        "  gate mode: uniform_random",
        "  layout: fused",
    ):
        assert line in shown.splitlines()
    assert json.loads(cli("plan", str(written), "--json").out)["decided"] == {
        "family": "qwen2_moe",
        "class": "Qwen2MoeForCausalLM",
        "experts": 2,
        "shared_experts": 1,
        "experts_per_token": 2,
        "gate_mode": "uniform_random",
        "layout": "fused",
    }


def test_a_plan_says_which_experts_are_kept(dense: Dense, tmp_path: Path, cli: Cli) -> None:
    four = build(document(dense(), *(dense("llama", seed) for seed in range(4))), tmp_path / "four")
    shown = cli("moe", "keep", str(four), str(tmp_path / "out"), "--experts", "2,0", "--plan", "--json").out
    assert json.loads(shown)["decided"] == {"experts": 2, "kept": [2, 0], "experts_per_token": 2}
    shown = cli("moe", "drop", str(four), str(tmp_path / "out"), "--experts", "1,3", "--plan").out
    assert "  kept: [0, 2]" in shown.splitlines()
