"""What several tests of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from tiny import llama, llama_config, write_checkpoint

Q = "model.layers.0.self_attn.q_proj.weight"


Config = dict[str, Any]


def entry(name: str, **parameters: Any) -> Config:
    return {"model": f"m/{name}", "parameters": {"weight": 1, **parameters}}


def write(config: Config) -> Path:
    Path("c.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    return Path("c.yml")


def other_shape(config: Config) -> None:
    write_checkpoint(Path("m/b"), {**llama(2), Q: torch.ones(4, 5)}, llama_config(2))
